"""Grids: every run in its folder, nothing done twice, failures reported, and a kill changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from mkmsr.config import validate
from mkmsr.evaluation.ranks import RankTable
from mkmsr.reports.run_folder import read_evaluated_run
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.grid import JobOutcome, depends_on_seed, plan_grid, run_grid
from mkmsr.runtime.events import EpochRecord, Event, JobProgress, JobsPlanned, JobStarted, PhaseStarted
from tests.small_shop import small_shop


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid") / "shop"
    small_shop().save(folder)
    return folder


def settings(name: str, model: dict[str, Any] | None = None, **training: Any) -> ExperimentConfig:
    values = {"epochs": 2, "batch_size": 32, **training}
    return validate(ExperimentConfig, {"model": {"name": name, **(model or {})}, "training": values})


EXPERIMENTS = {"recency": settings("recency"), "m-sr": settings("m-sr", {"dim": 8})}


class Watcher:
    def __init__(self) -> None:
        self.plan = (0, 0)
        self.begun: list[str] = []
        self.phases: list[str] = []
        self.epochs = 0

    def __call__(self, event: Event) -> None:
        match event:
            case JobsPlanned(total=total, done=done):
                self.plan = total, done
            case JobStarted(name):
                self.begun.append(name)
            case JobProgress(_, PhaseStarted(name)):
                self.phases.append(name)
            case JobProgress(_, EpochRecord()):
                self.epochs += 1


def statuses(outcomes: tuple[JobOutcome, ...]) -> dict[str, str]:
    return {outcome.job.name: outcome.status for outcome in outcomes}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "bundle" / "weights.safetensors")


def test_a_model_without_chance_needs_one_seed() -> None:
    assert [depends_on_seed(settings(name)) for name in ("pop", "v-sknn", "sr", "mkm-sr", "fpmc")] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_every_run_keeps_its_ranks_and_a_second_call_does_nothing(data: Path, tmp_path: Path) -> None:
    runs = plan_grid([data], EXPERIMENTS, [0, 1], tmp_path)
    assert [run.job().name for run in runs] == ["shop recency seed 0", "shop m-sr seed 0", "shop m-sr seed 1"]
    watcher = Watcher()
    outcomes = run_grid(runs, workers=2, listener=watcher)
    assert set(statuses(outcomes).values()) == {"finished"}
    assert watcher.plan == (3, 0)
    assert watcher.begun[-1] == "shop m-sr seed 1"
    assert watcher.phases.count("refit") == 3
    assert watcher.epochs >= 6
    for run in runs:
        assert run.folder.parent == tmp_path / "shop" / run.label
        found = read_evaluated_run(run.folder)
        assert found.ranks is not None
        assert found.ranks.metrics()["mrr@20"] == pytest.approx(found.document["metrics"]["mrr@20"])
        assert "test" in (run.folder / "run.log").read_text(encoding="utf-8")
        assert not (run.folder / "checkpoint").exists()
    again = Watcher()
    assert set(statuses(run_grid(runs, workers=2, listener=again)).values()) == {"skipped"}
    assert (again.plan, again.begun) == ((3, 3), [])


def test_other_settings_seeds_or_data_get_folders_of_their_own(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "shop"
    small_shop(sessions=60).save(other)

    def place(experiments: dict[str, ExperimentConfig], where: Path = data, *, refit: bool = True) -> str:
        (run,) = plan_grid([where], experiments, [0], tmp_path, refit=refit)
        return run.folder.name

    wide = {"m-sr": settings("m-sr", {"dim": 16})}
    narrow = {"m-sr": settings("m-sr", {"dim": 8})}
    names = {place(narrow), place(wide), place(narrow, other), place(narrow, refit=False)}
    assert len(names) == 4
    assert place(narrow) in names


def test_a_failing_run_is_reported_and_the_rest_go_on(data: Path, tmp_path: Path) -> None:
    experiments = {"broken": settings("m-sr", {"dim": 8}, select="mrr@x"), **EXPERIMENTS}
    outcomes = run_grid(plan_grid([data], experiments, [0], tmp_path))
    assert statuses(outcomes) == {
        "shop broken seed 0": "failed",
        "shop recency seed 0": "finished",
        "shop m-sr seed 0": "finished",
    }
    assert "no metric 'mrr@x'" in outcomes[0].reason
    log = (outcomes[0].job.folder / "run.log").read_text(encoding="utf-8")
    assert "Traceback" in log


GRID = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.runs.test_grid import long_runs
from mkmsr.runs.grid import run_grid
run_grid(long_runs(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def long_runs(data: Path, folder: Path) -> list[Any]:
    config = settings("mkm-sr", {"dim": 8, "dropout": 0.2}, epochs=4, batch_size=16, checkpoint_seconds=0.1)
    return plan_grid([data], {"mkm-sr": config}, [3], folder)


@pytest.mark.slow
def test_a_killed_grid_goes_on_and_comes_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    (run,) = long_runs(data, tmp_path / "killed")
    grid = subprocess.Popen([sys.executable, "-c", GRID, data, tmp_path / "killed"], cwd=Path(__file__).parents[2])
    history = run.folder / "history.jsonl"
    while not (history.is_file() and history.read_bytes().count(b"\n") >= 1):
        assert grid.poll() is None
        time.sleep(0.02)
    os.kill(grid.pid, signal.SIGKILL)
    grid.wait()
    time.sleep(1)
    assert not run.job().is_finished
    watcher = Watcher()
    assert set(statuses(run_grid([run], listener=watcher)).values()) == {"finished"}
    assert "resumed at epoch" in (run.folder / "run.log").read_text(encoding="utf-8")
    (whole,) = long_runs(data, tmp_path / "whole")
    run_grid([whole])
    one, other = weights(run.folder), weights(whole.folder)
    assert all(torch.equal(one[name], other[name]) for name in one)
    ranks = [RankTable.load(each.folder / "ranks.parquet").rank for each in (run, whole)]
    assert (ranks[0] == ranks[1]).all()


def test_an_interrupted_grid_goes_on_where_it_stopped(data: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, JobProgress) and isinstance(event.event, EpochRecord):
            raise KeyboardInterrupt

    (run,) = long_runs(data, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_grid([run], listener=stop)
    assert not run.job().is_finished
    assert set(statuses(run_grid([run])).values()) == {"finished"}
    assert "resumed at epoch" in (run.folder / "run.log").read_text(encoding="utf-8")


def test_later_seeds_take_the_number_of_epochs_from_the_first(data: Path, tmp_path: Path) -> None:
    config = settings("m-sr", {"dim": 8}, epochs=3)
    runs = plan_grid([data], {"m-sr": config}, [0, 1, 2], tmp_path, choose_epochs="first-seed")
    own = plan_grid([data], {"m-sr": config}, [0, 1, 2], tmp_path)
    assert runs[0].folder == own[0].folder
    assert [run.leader for run in runs] == [None, runs[0].folder, runs[0].folder]
    assert not {run.folder for run in runs[1:]} & {run.folder for run in own[1:]}
    watcher = Watcher()
    assert set(statuses(run_grid(runs, workers=2, listener=watcher)).values()) == {"finished"}
    assert watcher.phases.count("fit") == watcher.phases.count("validation") == 1
    assert watcher.phases.count("refit") == 3
    first, *others = [json.loads((run.folder / "metrics.json").read_text(encoding="utf-8")) for run in runs]
    assert "validation" in first
    for metrics in others:
        assert metrics["best_epoch"] == metrics["chosen_epochs"] == first["best_epoch"]
        assert "validation" not in metrics
    assert set(statuses(run_grid(runs)).values()) == {"skipped"}


def test_the_same_seed_gets_the_same_weights_whoever_chose_its_epochs(data: Path, tmp_path: Path) -> None:
    (run,) = plan_grid([data], {"m-sr": settings("m-sr", {"dim": 8}, epochs=3)}, [4], tmp_path)
    run_grid([run])
    copy = replace(run, folder=tmp_path / "follower", leader=run.folder)
    run_grid([copy])
    one, other = weights(run.folder), weights(copy.folder)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_seeds_whose_first_one_failed_are_reported(data: Path, tmp_path: Path) -> None:
    broken = settings("m-sr", {"dim": 8}, select="mrr@x")
    outcomes = run_grid(plan_grid([data], {"m-sr": broken}, [0, 1], tmp_path, choose_epochs="first-seed"))
    assert [outcome.status for outcome in outcomes] == ["failed", "failed"]
    assert "chooses its number of epochs is not there" in outcomes[1].reason

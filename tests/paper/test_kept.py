"""Kept results: a table drawn from them is the table of the runs, and results of anything else are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mkmsr.config import validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import DataError
from mkmsr.paper.ablation import VARIANTS, folder_name
from mkmsr.paper.kept import keep_run, restore_run
from mkmsr.reports.run_folder import read_run_folder
from mkmsr.runs.experiment import ExperimentConfig
from mkmsr.runs.grid import GridRun, plan_grid, run_grid
from tests.small_shop import small_shop


def settings(dim: int = 8) -> ExperimentConfig:
    values = {"model": {"name": "m-sr", "dim": dim}, "training": {"epochs": 2, "batch_size": 64}}
    return validate(ExperimentConfig, values)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop in `shop`, two finished runs in `runs`, their results in `kept`."""
    folder = tmp_path_factory.mktemp("kept")
    small_shop().save(folder / "shop")
    runs = planned(folder)
    run_grid(runs)
    for run in runs:
        keep_run(run, folder / "kept")
    return folder


def planned(base: Path, runs: str = "runs", config: ExperimentConfig | None = None) -> list[GridRun]:
    experiments = {"m-sr": config or settings()}
    return plan_grid([base / "shop"], experiments, [0, 1], base / runs, choose_epochs="first-seed")


@pytest.fixture
def shop(base: Path) -> PreparedDataset:
    return PreparedDataset.load(base / "shop")


def test_a_restored_run_is_finished_and_says_what_the_run_said(base: Path, shop: PreparedDataset) -> None:
    for run, again in zip(planned(base), planned(base, "again"), strict=True):
        assert restore_run(again, shop, base / "kept") is None
        assert again.job().is_finished
        one, other = read_run_folder(run.folder), read_run_folder(again.folder)
        assert other.run.ranks is not None
        assert one.run.ranks is not None
        assert (other.run.ranks.rank == one.run.ranks.rank).all()
        assert (other.run.ranks.target == one.run.ranks.target).all()
        assert {**other.run.document, "seconds": 0} == {**one.run.document, "seconds": 0}
        assert other.metrics["best_epoch"] == one.metrics["best_epoch"]
        assert other.metrics["seconds"] == one.metrics["seconds"]


def test_kept_results_name_no_item(base: Path) -> None:
    frame = pl.read_parquet(base / "kept" / "shop" / "m-sr" / "seed-1.parquet")
    assert frame.columns == ["rank", "session", "prefix_length", "is_new_item", "is_repeat"]
    files = sorted(path.name for path in (base / "kept").rglob("*") if path.is_file())
    assert files == ["seed-0.json", "seed-0.parquet", "seed-1.json", "seed-1.parquet"]


def test_results_of_other_settings_data_or_ways_are_not_restored(base: Path, shop: PreparedDataset) -> None:
    def reason(run: GridRun, data: PreparedDataset = shop, kept: str = "kept") -> str:
        found = restore_run(run, data, base / kept)
        assert not run.folder.exists()
        assert found is not None
        return found

    first, second = planned(base, "none", settings(dim=16))
    assert "config.model.dim is 8 there, 16 now" in reason(first)
    assert "no results are kept" in reason(first, kept="nowhere")
    first, second = planned(base, "none")
    assert "own epochs is False there, True now" in reason(replace(second, leader=None))
    assert "data_fingerprint is" in reason(first, small_shop(sessions=60))
    assert "refit is True there, False now" in reason(replace(first, refit=False))


def test_a_setting_that_came_later_counts_as_its_default(base: Path, shop: PreparedDataset, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(base / "kept", kept)
    path = kept / "shop" / "m-sr" / "seed-0.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["config"]["training"]["optimiser"]["clip_norm"]
    path.write_text(json.dumps(content), encoding="utf-8")
    (first, _) = planned(base, str(tmp_path / "runs"))
    assert restore_run(first, shop, kept) is None
    content["config"]["training"]["threads"] = 7  # changes nothing that a table shows
    path.write_text(json.dumps(content), encoding="utf-8")
    assert restore_run(first, shop, kept) is None
    del content["config"]["model"]["dim"]  # The default is 100, the run's was 8.
    path.write_text(json.dumps(content), encoding="utf-8")
    assert "config.model.dim is 100 there, 8 now" in str(restore_run(first, shop, kept))


def _break_json(path: Path) -> None:
    path.with_suffix(".json").write_text("{}", encoding="utf-8")


def _break_metric(path: Path) -> None:
    content: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    content["test"]["metrics"]["mrr@20"] += 0.01
    path.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")


def _break_rows(path: Path) -> None:
    pl.read_parquet(path.with_suffix(".parquet")).reverse().write_parquet(path.with_suffix(".parquet"))


def _break_table(path: Path) -> None:
    path.with_suffix(".parquet").write_bytes(b"PAR1")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_break_json, "not the results of a run"),
        (_break_metric, "its mrr@20 is .* that of the ranks"),
        (_break_rows, "its rows are not the test examples of the data"),
        (_break_table, "cannot be read as kept ranks"),
    ],
)
def test_damaged_results_are_an_error_that_names_the_file(
    base: Path, shop: PreparedDataset, tmp_path: Path, damage: Any, message: str
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(base / "kept", kept)
    damage(kept / "shop" / "m-sr" / "seed-0")
    (first, _) = planned(base, str(tmp_path / "runs"))
    with pytest.raises(DataError, match=message) as caught:
        restore_run(first, shop, kept)
    assert "seed-0." in str(caught.value)
    assert not first.job().is_finished


RESULTS = Path(__file__).parents[2] / "experiments" / "results"


def test_the_committed_results_are_those_of_their_ranks() -> None:
    """Without the data: ranks give the metrics that stand beside them, and runs on one log ranked the same examples."""
    variants = {folder_name(name) for name in VARIANTS}
    paths = sorted(RESULTS.rglob("*.json"))
    assert paths
    examples: dict[str, pl.DataFrame] = {}
    for path in paths:
        kept = json.loads(path.read_text(encoding="utf-8"))
        folder = "compass" if path.parent.name in variants else path.parent.name
        assert (kept["model"], f"seed-{kept['seed']}") == (folder, path.stem)
        frame = pl.read_parquet(path.with_suffix(".parquet"))
        rank = frame["rank"].to_numpy()
        assert np.mean(rank <= 20) == pytest.approx(kept["test"]["metrics"]["hit@20"], abs=1e-9)
        assert np.mean(np.where(rank <= 20, 1 / rank, 0)) == pytest.approx(kept["test"]["metrics"]["mrr@20"], abs=1e-9)
        others = frame.drop("rank")
        assert examples.setdefault(kept["data_fingerprint"], others).equals(others)

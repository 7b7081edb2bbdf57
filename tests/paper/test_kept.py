"""Kept results: a table drawn from them is the table of the runs, and results of anything else are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
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
from mkmsr.paper.kept import KeptResults
from mkmsr.reports.run_folder import read_run_folder
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.grid import GridRun, plan_grid, run_grid
from tests.small_shop import small_shop

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
EXAMPLE = ["session", "prefix_length", "is_new_item", "is_repeat"]


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
    KeptResults(folder / "kept").keep(runs)
    return folder


def planned(base: Path, runs: str = "runs", config: ExperimentConfig | None = None) -> list[GridRun]:
    experiments = {"m-sr": config or settings()}
    return plan_grid([base / "shop"], experiments, [0, 1], base / runs, choose_epochs="first-seed")


@pytest.fixture
def shop(base: Path) -> PreparedDataset:
    return PreparedDataset.load(base / "shop")


def test_a_restored_run_is_finished_and_says_what_the_run_said(base: Path, shop: PreparedDataset) -> None:
    kept = KeptResults(base / "kept")
    for run, again in zip(planned(base), planned(base, "again"), strict=True):
        assert kept.restore(again, shop) is None
        assert again.job().is_finished
        one, other = read_run_folder(run.folder), read_run_folder(again.folder)
        assert other.run.ranks is not None
        assert one.run.ranks is not None
        assert (other.run.ranks.rank == one.run.ranks.rank).all()
        assert (other.run.ranks.target == one.run.ranks.target).all()
        assert {**other.run.document, "seconds": 0} == {**one.run.document, "seconds": 0}
        assert other.metrics["best_epoch"] == one.metrics["best_epoch"]
        assert other.metrics["seconds"] == one.metrics["seconds"]


def test_kept_results_are_two_files_that_name_no_item(base: Path) -> None:
    assert sorted(path.name for path in (base / "kept").iterdir()) == ["ranks.parquet", "runs.jsonl"]
    table = pl.read_parquet(base / "kept" / "ranks.parquet")
    assert table.columns == [*EXAMPLE, "m-sr/seed-0", "m-sr/seed-1"]
    lines = (base / "kept" / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [(run["label"], run["seed"]) for run in map(json.loads, lines)] == [("m-sr", 0), ("m-sr", 1)]


def test_a_run_that_is_kept_again_takes_its_own_place_and_no_other(base: Path, tmp_path: Path) -> None:
    first, second = planned(base)
    folder, whole = tmp_path / "kept", KeptResults(base / "kept")
    early = KeptResults(folder)
    KeptResults(folder).keep([replace(first, label="other")])
    early.keep([second, first])  # What was kept meanwhile stays.
    table = pl.read_parquet(folder / "ranks.parquet")
    table.with_columns(pl.col("m-sr/seed-0", "other/seed-0") * 2).write_parquet(folder / "ranks.parquet")
    KeptResults(folder).keep([first])
    found = KeptResults(folder)
    assert list(found.runs) == ["m-sr/seed-0", "m-sr/seed-1", "other/seed-0"]
    assert all((found.ranks(name) == whole.ranks(name)).all() for name in whole.runs)
    assert (found.ranks("other/seed-0") == 2 * whole.ranks("m-sr/seed-0")).all()


def test_results_on_other_examples_cannot_join_those_that_are_kept(base: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(base / "kept", kept)
    pl.read_parquet(kept / "ranks.parquet").head(9).write_parquet(kept / "ranks.parquet")
    before = (kept / "ranks.parquet").read_bytes()
    results = KeptResults(kept)
    with pytest.raises(DataError, match="its rows are not the examples of"):
        results.keep(planned(base))
    with pytest.raises(DataError, match="keep results on other data in another folder"):
        results.check_examples(PreparedDataset.load(base / "shop"))
    assert (kept / "ranks.parquet").read_bytes() == before


def test_results_of_other_settings_data_or_ways_are_not_restored(base: Path, shop: PreparedDataset) -> None:
    def reason(run: GridRun, data: PreparedDataset = shop, kept: str = "kept") -> str:
        found = KeptResults(base / kept).restore(run, data)
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


def change_first(kept: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what is kept of the run with seed 0."""
    first, *others = (kept / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    run = json.loads(first)
    change(run)
    (kept / "runs.jsonl").write_text("\n".join([json.dumps(run), *others]) + "\n", encoding="utf-8")


def test_a_setting_that_came_later_counts_as_its_default(base: Path, shop: PreparedDataset, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(base / "kept", kept)
    (first, _) = planned(base, str(tmp_path / "runs"))
    change_first(kept, lambda run: run["config"]["training"]["optimiser"].pop("clip_norm"))
    assert KeptResults(kept).restore(first, shop) is None
    change_first(kept, lambda run: run["config"]["training"].update(threads=7))  # changes nothing that a table shows
    assert KeptResults(kept).restore(first, shop) is None
    change_first(kept, lambda run: run["config"]["model"].pop("dim"))  # The default is 100, the run's was 8.
    assert "config.model.dim is 100 there, 8 now" in str(KeptResults(kept).restore(first, shop))


def _break_line(kept: Path) -> None:
    change_first(kept, lambda run: run.clear())


def _break_metric(kept: Path) -> None:
    change_first(kept, lambda run: run["test"]["metrics"].update({"mrr@20": 0.9}))


def _break_rows(kept: Path) -> None:
    path = kept / "ranks.parquet"
    pl.read_parquet(path).reverse().write_parquet(path)


def _break_column(kept: Path) -> None:
    path = kept / "ranks.parquet"
    pl.read_parquet(path).drop("m-sr/seed-0").write_parquet(path)


def _break_table(kept: Path) -> None:
    (kept / "ranks.parquet").write_bytes(b"PAR1")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_break_line, r"runs\.jsonl, row 1: not the results of a run"),
        (_break_metric, r"runs\.jsonl: m-sr/seed-0: its mrr@20 is 0\.9, that of the ranks"),
        (_break_rows, r"ranks\.parquet: its rows are not the test examples of the data"),
        (_break_column, r"ranks\.parquet: no column 'm-sr/seed-0', though runs\.jsonl has that run"),
        (_break_table, r"ranks\.parquet: cannot be read as kept ranks"),
    ],
)
def test_damaged_results_are_an_error_that_names_the_file(
    base: Path, shop: PreparedDataset, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(base / "kept", kept)
    damage(kept)
    (first, _) = planned(base, str(tmp_path / "runs"))
    with pytest.raises(DataError, match=message):
        KeptResults(kept).restore(first, shop)
    assert not first.job().is_finished


def test_the_committed_results_are_those_of_their_ranks() -> None:
    """Without the data: ranks give the metrics that stand beside them, and each log is one version of the data."""
    variants = {folder_name(name) for name in VARIANTS}
    folders = sorted(RESULTS.iterdir())
    assert folders
    for folder in folders:
        kept = KeptResults(folder)
        assert len({run["data_fingerprint"] for run in kept.runs.values()}) == 1
        for name, run in kept.runs.items():
            label, _, seed = name.rpartition("/")
            model = "compass" if label in variants else label.rpartition("/")[2]  # talk/mkm-sr is mkm-sr
            assert (run["model"], f"seed-{run['seed']}") == (model, seed)
            rank, metrics = kept.ranks(name).to_numpy(), run["test"]["metrics"]
            assert np.mean(rank <= 20) == pytest.approx(metrics["hit@20"], abs=1e-9)
            assert np.mean(np.where(rank <= 20, 1 / rank, 0)) == pytest.approx(metrics["mrr@20"], abs=1e-9)

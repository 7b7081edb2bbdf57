"""Results that outlive their run folders: a few kilobytes a run, committed, from which tables are drawn again.

A run folder holds a model, histories and ranks, megabytes in all. What tables need of it is kept as two files in
`FOLDER/<data>/<model>/`:

seed-0.json      what the run depended on (settings, seed, fingerprint of the data), and its metrics
seed-0.parquet   one row a test example: rank, session, prefix length, kind of the next item; no item, no event

`restore_run` turns them into a run folder that counts as finished, if settings and data are those that are wanted now.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mkmsr.config import to_toml, validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import DataError
from mkmsr.evaluation.document import evaluation_document
from mkmsr.evaluation.ranks import RankTable
from mkmsr.runs.experiment import METRICS_FILE, ExperimentConfig
from mkmsr.runs.grid import GridRun
from mkmsr.runtime.files import atomic_write
from mkmsr.training.checkpoint import differences

__all__ = ["NOTHING_KEPT", "keep_run", "restore_run"]

NOTHING_KEPT = "not trained, and no results are kept"
"""Why a run cannot be restored, if nothing speaks against it."""

_COLUMNS = ("rank", "session", "prefix_length", "is_new_item", "is_repeat")
_WITHOUT_EFFECT = ("config.training.threads", "config.training.checkpoint_seconds")
_TOLERANCE = 1e-9


def keep_run(run: GridRun, folder: Path) -> None:
    """Write the results of a finished run under `folder`; what was kept of that model and seed before is replaced."""
    metrics = json.loads((run.folder / METRICS_FILE).read_text(encoding="utf-8"))
    ranks = RankTable.load(run.folder / "ranks.parquet")
    buffer = io.BytesIO()
    frame = pl.DataFrame({name: getattr(ranks, name) for name in _COLUMNS})
    frame.write_parquet(buffer, compression="zstd", compression_level=19, statistics=False)
    splits = {name: {"metrics": metrics[name]["metrics"]} for name in ("validation", "test") if name in metrics}
    place = _place(run, folder)
    atomic_write(place.with_suffix(".parquet"), buffer.getvalue())
    text = json.dumps({**metrics, **splits}, indent=1, ensure_ascii=False)
    atomic_write(place.with_suffix(".json"), text + "\n")


def restore_run(run: GridRun, dataset: PreparedDataset, folder: Path) -> str | None:
    """Fill a run's folder with its kept results, so that it counts as finished.

    A setting that was not there when the results were kept must stand at its default now.

    Args:
        run: The run that is wanted.
        dataset: Its data.
        folder: Where results are kept.

    Returns:
        None if that was done; else why not: nothing is kept, or it is of other settings or data.

    Raises:
        DataError: The kept files are damaged or do not fit each other.
    """
    place = _place(run, folder)
    path = place.with_suffix(".json")
    if not path.is_file():
        return NOTHING_KEPT
    kept = _read(path)
    other = _other(run, dataset, kept)
    if other:
        return f"the results kept in {path} are of another run: {'; '.join(other[:3])}"
    ranks = _ranks(place.with_suffix(".parquet"), dataset)
    document = evaluation_document(run.config.name, "test", ranks, len(dataset.items))
    for name, value in kept["test"]["metrics"].items():
        if name in document["metrics"] and abs(document["metrics"][name] - value) > _TOLERANCE:
            raise DataError(f"its {name} is {value}, that of the ranks {document['metrics'][name]}", path=path)
    ranks.save(run.folder / "ranks.parquet")
    atomic_write(run.folder / "config.toml", f"# restored from {path}\n{to_toml(run.config)}")
    text = json.dumps({**kept, "test": document}, indent=2, ensure_ascii=False)
    atomic_write(run.folder / METRICS_FILE, text + "\n")
    return None


def _place(run: GridRun, folder: Path) -> Path:
    return folder / run.data.resolve().name / run.label / f"seed-{run.seed}"


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(kept["config"], dict) and isinstance(kept["test"]["metrics"], dict):
            return dict(kept)
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError("not the results of a run; `mkmsr reproduce table2 --keep` writes them", path=path)


def _other(run: GridRun, dataset: PreparedDataset, kept: Mapping[str, Any]) -> list[str]:
    """What the kept run depended on and the wanted one does not."""
    defaults = validate(ExperimentConfig, {"model": {"name": run.config.name}}).model_dump(mode="json")
    names = ("config", "seed", "refit", "data_fingerprint")
    found = {
        **{name: kept.get(name) for name in names},
        "config": _filled(kept["config"], defaults),
        "own epochs": "chosen_epochs" not in kept,
    }
    wanted = {
        "config": run.config.model_dump(mode="json"),
        "seed": run.seed,
        "refit": run.refit,
        "data_fingerprint": dataset.fingerprint,
        "own epochs": run.leader is None,
    }
    return [each for each in differences(found, wanted) if not each.startswith(_WITHOUT_EFFECT)]


def _filled(kept: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Kept settings, with defaults for those that came later."""
    filled = dict(kept)
    for key, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(filled.get(key), Mapping):
            filled[key] = _filled(filled[key], default)
        else:
            filled.setdefault(key, default)
    return filled


def _ranks(path: Path, dataset: PreparedDataset) -> RankTable:
    """The kept ranks with the examples of the data's test split, which must be the same.

    Raises:
        DataError: The file is missing, cannot be read, or ranks other examples.
    """
    try:
        frame = pl.read_parquet(path.read_bytes(), columns=list(_COLUMNS))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot be read as kept ranks: {error}", path=path) from None
    split = dataset.evaluation_split("test")
    if len(frame) == len(split.examples):
        table = RankTable.of_split(frame["rank"].to_numpy(), split)
        if all(np.array_equal(frame[name].to_numpy(), getattr(table, name)) for name in _COLUMNS):
            return table
    raise DataError("its rows are not the test examples of the data", path=path)

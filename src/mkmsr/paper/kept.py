"""Results that outlive their run folders: two committed files a dataset, from which tables are drawn again.

A run folder holds a model, histories and ranks, megabytes in all. What tables need of the runs is kept in
`FOLDER/<data>/`:

runs.jsonl      one line a run: its label, what it depended on (settings, seed, fingerprint of the data), its metrics
ranks.parquet   one row a test example: session, prefix length, kind of the next item (but no item and no event), then
                the ranks of each run in a column `LABEL/seed-SEED`
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.config import differences, to_toml, validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import DataError
from mkmsr.evaluation.document import evaluation_document
from mkmsr.evaluation.ranks import RankTable
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.experiment import METRICS_FILE
from mkmsr.runs.grid import GridRun
from mkmsr.runtime.files import atomic_write, locked

NOTHING_KEPT = "not trained, and no results are kept"
"""Why a run cannot be restored, if nothing speaks against it."""

_EXAMPLE = ("session", "prefix_length", "is_new_item", "is_repeat")
_WITHOUT_EFFECT = (
    "config.training.threads",
    "config.training.checkpoint_seconds",
    "config.training.loss.products",  # An option that is gone; all kept results have its default.
)
_TOLERANCE = 1e-9


class KeptResults:
    """The kept results of all runs on one dataset, in `FOLDER/<data>`, which need not be there yet.

    A damaged file raises DataError.
    """

    def __init__(self, folder: Path):
        self.folder, self.runs_path, self.ranks_path = folder, folder / "runs.jsonl", folder / "ranks.parquet"
        self._read()

    def ranks(self, name: str) -> pl.Series:
        """The rank of each test example in the run `LABEL/seed-SEED`; without such a column DataError is raised."""
        if self._ranks is None or name not in self._ranks.columns:
            raise DataError(f"no column {name!r}, though {self.runs_path.name} has that run", path=self.ranks_path)
        return self._ranks[name]

    def check_examples(self, dataset: PreparedDataset) -> None:
        """Raise DataError unless the ranks, if there are any, are of the dataset's test examples."""
        split = dataset.evaluation_split("test")
        examples = _example_columns(RankTable.of_split(split.examples.targets, split))
        if self._ranks is not None and not self._ranks.select(_EXAMPLE).equals(examples):
            raise DataError(
                "its rows are not the test examples of the data; keep results on other data in another folder",
                path=self.ranks_path,
            )

    def keep(self, runs: Iterable[GridRun]) -> None:
        """Add finished runs on this dataset; what was kept of the same labels and seeds before is replaced.

        A run that ranked other examples than those that are kept raises DataError.
        """
        with locked(self.folder):
            self._read()  # Another process may have added runs since.
            for run in runs:
                self._add(run)
            self._write()

    def restore(self, run: GridRun, dataset: PreparedDataset) -> str | None:
        """Fill a run's folder with its kept results, so that it counts as finished, and return None; else why not.

        A setting that was not there when the results were kept must stand at its default now. Kept files that do not
        fit each other raise DataError.
        """
        name = _name(run)
        kept = self.runs.get(name)
        if kept is None:
            return NOTHING_KEPT
        other = _other(run, dataset, kept)
        if other:
            return f"the results of {name} kept in {self.runs_path} are of another run: {'; '.join(other[:3])}"
        self.check_examples(dataset)
        ranks = RankTable.of_split(self.ranks(name).to_numpy(), dataset.evaluation_split("test"))
        document = evaluation_document(run.config.name, "test", ranks, len(dataset.items))
        for metric, value in kept["test"]["metrics"].items():
            if metric in document["metrics"] and abs(document["metrics"][metric] - value) > _TOLERANCE:
                raise DataError(
                    f"{name}: its {metric} is {value}, that of the ranks {document['metrics'][metric]}",
                    path=self.runs_path,
                )
        ranks.save(run.folder / "ranks.parquet")
        atomic_write(run.folder / "config.toml", f"# restored from {self.runs_path}\n{to_toml(run.config)}")
        metrics = {**kept, "test": document}
        del metrics["label"]
        atomic_write(run.folder / METRICS_FILE, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
        return None

    def _read(self) -> None:
        self.runs = _read_runs(self.runs_path)
        self._ranks = _read_ranks(self.ranks_path) if self.runs else None

    def _add(self, run: GridRun) -> None:
        metrics = json.loads((run.folder / METRICS_FILE).read_text(encoding="utf-8"))
        ranks = RankTable.load(run.folder / "ranks.parquet")
        examples = _example_columns(ranks)
        table = examples if self._ranks is None else self._ranks
        if not table.select(_EXAMPLE).equals(examples):
            raise DataError(f"its rows are not the examples of {run.folder}", path=self.ranks_path)
        splits = {name: {"metrics": metrics[name]["metrics"]} for name in ("validation", "test") if name in metrics}
        self._ranks = table.with_columns(pl.Series(_name(run), ranks.rank))
        self.runs[_name(run)] = {"label": run.label, **metrics, **splits}

    def _write(self) -> None:
        """Write the ranks first: a column without its line is not read, a line without its column is an error."""
        if self._ranks is None:
            return
        names = sorted(self.runs)
        buffer = io.BytesIO()
        table = self._ranks.select(*_EXAMPLE, *names)
        table.write_parquet(buffer, compression="zstd", compression_level=19, statistics=False)
        atomic_write(self.ranks_path, buffer.getvalue())
        atomic_write(self.runs_path, "".join(json.dumps(self.runs[name], ensure_ascii=False) + "\n" for name in names))


def _name(run: GridRun) -> str:
    return f"{run.label}/seed-{run.seed}"


def _example_columns(table: RankTable) -> pl.DataFrame:
    return pl.DataFrame({name: getattr(table, name) for name in _EXAMPLE})


def _read_runs(path: Path) -> dict[str, dict[str, Any]]:
    runs: dict[str, dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for row, line in enumerate(lines, start=1):
        try:
            run = json.loads(line)
            complete = isinstance(run["config"], dict) and isinstance(run["test"]["metrics"], dict)
            name = f"{run['label']}/seed-{run['seed']}"
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise DataError("not the results of a run; `mkmsr reproduce table2 --keep` writes them", path=path, row=row)
        runs[name] = run
    return runs


def _read_ranks(path: Path) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path.read_bytes())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot be read as kept ranks: {error}", path=path) from None
    missing = [name for name in _EXAMPLE if name not in table.columns]
    if missing:
        raise DataError(f"no column {missing[0]!r}; kept ranks have {', '.join(_EXAMPLE)}", path=path)
    return table


def _other(run: GridRun, dataset: PreparedDataset, kept: Mapping[str, Any]) -> list[str]:
    """What differs between the stored run and the requested one."""
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

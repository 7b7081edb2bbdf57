"""The runs behind a table or figure: their settings, what is restored or trained, and what a reproduction leaves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkmsr.config import read_toml, table_of, validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError, TrainingError
from mkmsr.paper.kept import NOTHING_KEPT, KeptResults
from mkmsr.paper.published import published_name
from mkmsr.reports.run_folder import RunFolder, read_run_folder
from mkmsr.reports.tables import TextTable
from mkmsr.reports.write_up import WriteUp
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.grid import ChooseEpochs, GridRun, Job, JobOutcome, plan_grid, run_grid, run_jobs
from mkmsr.runtime.events import Listener, ignore

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """How runs are made; each table or figure takes what it needs of it.

    Settings are as `experiment_settings` reads them. Kept results, see `mkmsr.paper.kept`, are `taken_from` a folder in
    place of runs that are not there; `keep` takes those of every finished run. Unless asked to `train` what is missing
    then, a table has what is there. The listener is as in `run_jobs`.
    """

    seeds: int = 3
    settings: Path | None = None
    epochs: int | None = None
    refit: bool = True
    choose_epochs: ChooseEpochs = "first-seed"
    taken_from: Path | None = None
    keep: Path | None = None
    train: bool = True
    workers: int = 2
    device: str = "cpu"
    listener: Listener = ignore

    def experiment(self, data: Path, model: str, **training: Any) -> ExperimentConfig:
        """The settings of a model on some data, with these values of the table [training] and the epochs asked for."""
        asked = {"epochs": self.epochs} if self.epochs is not None else {}
        return experiment_settings(data, model, self.settings, {**asked, **training})


@dataclass(frozen=True)
class Reproduction:
    """What one reproduction came to, as text and as plain data; the short table for the README, where there is one.

    Runs may have failed; what stands on the others is written all the same.
    """

    write_up: WriteUp
    document: Mapping[str, Any]
    failures: tuple[JobOutcome, ...] = ()
    summary: TextTable | None = None


@dataclass(frozen=True)
class Runs:
    """The runs that a table stands on, by label: finished ones, one a seed, or why the first missing one is."""

    found: Mapping[str, Sequence[RunFolder]]
    missing: Mapping[str, str]


def experiment_settings(
    data: Path, model: str, folder: Path | None, training: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """Read the settings of a model: `folder/<data>/<model>.toml`, else `folder/<model>.toml`, else defaults.

    `SOURCE/name` is a model whose settings a file in `folder/SOURCE` must give. Values of the table [training] go
    before the file's. A file that is wrong, of another model, or missing where it must be there raises ConfigError.
    """
    values: dict[str, Any] = {}
    source, _, name = model.rpartition("/")
    file = f"{model}.toml"
    paths = [folder / data.resolve().name / file, folder / file] if folder is not None else []
    path = next((path for path in paths if path.is_file()), None)
    if path is not None:
        values = read_toml(path)
        found = table_of(values, "model").get("name", name)
        if found != name:
            raise ConfigError(f"is for {found!r}, but its name says {name!r}", key="model.name", path=path)
    elif source:
        raise ConfigError(f"{model!r} needs its settings file {file}; --settings names the folder", key="models")
    table = {**table_of(values, "model"), "name": name}
    merged = {**values, "model": table, "training": {**table_of(values, "training"), **(training or {})}}
    return validate(ExperimentConfig, merged, path=path)


def data_title(data: Path, dataset: PreparedDataset) -> str:
    """What tables call prepared data: the paper's name for it, or the folder's."""
    return published_name(dataset) or data.resolve().name


def check_distinct(datasets: Sequence[Path]) -> None:
    """Raise ConfigError if two folders of data have the same name, so that runs would get into each other's folders."""
    names = [data.resolve().name for data in datasets]
    again = next((name for name in names if names.count(name) > 1), None)
    if again is not None:
        raise ConfigError(f"two folders of prepared data are called {again!r}; rename one", key="data")


def finish_runs(
    datasets: Sequence[Path],
    experiments: Callable[[Path], Mapping[str, ExperimentConfig]],
    folder: Path,
    options: RunOptions,
) -> tuple[dict[Path, Runs], tuple[JobOutcome, ...]]:
    """Restore kept runs, train missing ones and keep them again, as far as the options ask for it.

    `experiments` gives the settings of each row of a table, by its label, for a folder of data. The runs on each, in
    folders below `folder`, and those that failed.
    """
    check_distinct(datasets)
    plans = {
        data: plan_grid(
            [data],
            experiments(data),
            range(options.seeds),
            folder,
            refit=options.refit,
            choose_epochs=options.choose_epochs,
        )
        for data in datasets
    }
    runs = [run for plan in plans.values() for run in plan]
    kept = {data: KeptResults(options.keep / data.resolve().name) for data in datasets if options.keep is not None}
    for data, results in kept.items():
        results.check_examples(PreparedDataset.load(data))
    missing = {run.folder: reason for data, plan in plans.items() for run, reason in _restored(data, plan, options)}
    failures: tuple[JobOutcome, ...] = ()
    if options.train:
        outcomes = run_grid(runs, workers=options.workers, device=options.device, listener=options.listener)
        failures = tuple(outcome for outcome in outcomes if outcome.status == "failed")
        missing = {outcome.job.folder: outcome.reason for outcome in failures}
    for data, results in kept.items():
        results.keep(run for run in plans[data] if run.folder not in missing)
    return {data: _collected(plan, missing) for data, plan in plans.items()}, failures


def finish_jobs(jobs: Iterable[Job], options: RunOptions) -> None:
    """Carry out the jobs of a figure as far as they are not done yet; it needs all, so a failure is a TrainingError."""
    outcomes = run_jobs(list(jobs), workers=options.workers, listener=options.listener)
    failed = next((outcome for outcome in outcomes if outcome.status == "failed"), None)
    if failed is not None:
        raise TrainingError(f"{failed.job.name}: {failed.reason}")


def _restored(data: Path, plan: Sequence[GridRun], options: RunOptions) -> Iterable[tuple[GridRun, str]]:
    """Restore what is kept of the runs that are not there; the runs that are missing then, and why."""
    dataset, folder = PreparedDataset.load(data), options.taken_from
    kept = KeptResults(folder / data.resolve().name) if folder is not None else None
    for run in plan:
        if not run.job().is_finished:
            reason = kept.restore(run, dataset) if kept is not None else "not trained yet"
            if kept is not None and reason not in (None, NOTHING_KEPT):
                _logger.warning("%s", reason)
            if reason is not None:
                yield run, reason


def _collected(plan: Sequence[GridRun], missing: Mapping[Path, str]) -> Runs:
    found: dict[str, list[RunFolder]] = {}
    reasons: dict[str, str] = {}
    for run in plan:
        if run.folder in missing:
            reasons.setdefault(run.label, missing[run.folder])
        else:
            found.setdefault(run.label, []).append(read_run_folder(run.folder))
    return Runs(found, reasons)

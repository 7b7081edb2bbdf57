"""Grids of experiments: models x data x seeds into run folders, resumed after a kill, in parallel.

A run's folder is named after everything its result depends on, so that a changed setting or other data leads to a new
folder and never to a mixture; the folder of the old run stays until somebody deletes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mkmsr.data.dataset import PreparedDataset
from mkmsr.models.base import ModelSizes
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.experiment import METRICS_FILE, run_experiment
from mkmsr.runs.jobs import Job, JobOutcome, run_jobs
from mkmsr.runtime.events import Listener, ignore
from mkmsr.training.checkpoint import remove_checkpoint

__all__ = ["ChooseEpochs", "GridRun", "depends_on_seed", "plan_grid", "run_grid", "settings_key"]

ChooseEpochs = Literal["first-seed", "each-seed"]
"""Whose validation chooses a run's number of epochs: that of the model's first seed for all seeds, which spares the
others the fit on train alone, or each seed's own. Neither looks at the test."""


@dataclass(frozen=True)
class GridRun:
    """One experiment of a grid.

    Args:
        data: Folder of the prepared data.
        label: What the row of a table is called: the model's name, or another where a model has several settings.
        config: Model and training.
        seed: Of first weights, order and dropout.
        refit: Whether the test numbers are those of a model fitted on train and validation.
        folder: Run folder.
        leader: Folder of the run whose validation chooses the number of epochs; None: its own does.
    """

    data: Path
    label: str
    config: ExperimentConfig
    seed: int
    refit: bool
    folder: Path
    leader: Path | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.data.resolve().name} {self.label} seed {self.seed}"

    def job(self, device: str = "cpu") -> Job:
        """The run as a job."""
        return Job(self.name, self.folder, _run, (self, device))


def plan_grid(
    datasets: Sequence[Path],
    experiments: Mapping[str, ExperimentConfig],
    seeds: Sequence[int],
    folder: Path,
    *,
    refit: bool = True,
    choose_epochs: ChooseEpochs = "each-seed",
) -> list[GridRun]:
    """Every experiment on every dataset with every seed; a model without chance in it gets the first seed alone.

    Args:
        datasets: Folders of prepared data, with distinct names.
        experiments: Settings by label.
        seeds: At least one.
        folder: Runs go to `folder/<data>/<label>/seed-<seed>-<key>`.
        refit: Whether to fit again on train and validation for the test numbers.
        choose_epochs: Whose validation chooses the number of epochs.
    """
    runs = []
    for data in datasets:
        fingerprint = PreparedDataset.load(data).fingerprint
        for label, config in experiments.items():
            place = folder / data.resolve().name / label
            first, *others = seeds if depends_on_seed(config) else seeds[:1]
            leader = place / f"seed-{first}-{settings_key(config, refit, fingerprint)}"
            runs.append(GridRun(data, label, config, first, refit, leader))
            chosen = [f"epochs of seed {first}"] if choose_epochs == "first-seed" else []
            key = settings_key(config, refit, fingerprint, *chosen)
            runs += [
                GridRun(data, label, config, seed, refit, place / f"seed-{seed}-{key}", leader if chosen else None)
                for seed in others
            ]
    return runs


def run_grid(
    runs: Iterable[GridRun], *, workers: int = 1, device: str = "cpu", listener: Listener = ignore
) -> tuple[JobOutcome, ...]:
    """Carry out a grid: finished runs are skipped, begun ones resumed, failing ones reported; the rest go on.

    The first seed of everything comes first, so that an interrupted grid has a whole table of one seed, and runs that
    take their number of epochs from another one find it.

    Args:
        runs: See `plan_grid`.
        workers: Processes, of one torch thread each.
        device: Where models compute.
        listener: Told about jobs, see `run_jobs`.

    Returns:
        An outcome for each run, first seeds first.
    """
    ordered = sorted(runs, key=lambda run: run.seed)
    outcomes: dict[Path, JobOutcome] = {}
    for is_ready in (_is_independent, _has_leader):
        ready = [run for run in ordered if is_ready(run) and _may_run(run, outcomes)]
        if any(run.folder not in outcomes for run in ready):
            jobs = [run.job(device) for run in ready]
            found = {each.job.folder: each for each in run_jobs(jobs, workers=workers, listener=listener)}
            outcomes = {**found, **outcomes}
    reason = "the run whose validation chooses its number of epochs is not there"
    return tuple(outcomes.get(run.folder) or JobOutcome(run.job(device), "failed", reason=reason) for run in ordered)


def depends_on_seed(config: ExperimentConfig) -> bool:
    """Whether the model has weights to draw; one that only counts comes out the same with every seed."""
    return config.entry.build(config.settings(), ModelSizes(2, 1, 1, 1)).is_trainable


def settings_key(config: ExperimentConfig, *others: object) -> str:
    """Eight hexadecimal digits that change with any setting or other value."""
    text = json.dumps([config.model_dump(mode="json"), *others], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _is_independent(run: GridRun) -> bool:
    """Whether the run needs no other, or no longer."""
    return run.leader is None or (run.folder / METRICS_FILE).is_file()


def _has_leader(run: GridRun) -> bool:
    return run.leader is None or (run.leader / METRICS_FILE).is_file()


def _may_run(run: GridRun, outcomes: Mapping[Path, JobOutcome]) -> bool:
    return run.folder not in outcomes or outcomes[run.folder].status != "failed"


def _run(listener: Listener, run: GridRun, device: str) -> None:
    """One run, in a process of its own. Checkpoints, most of a folder's bytes, are of no use once it is finished."""
    epochs = None
    if run.leader is not None:
        epochs = int(json.loads((run.leader / METRICS_FILE).read_text(encoding="utf-8"))["best_epoch"])
    run_experiment(
        PreparedDataset.load(run.data),
        run.config,
        run.folder,
        seed=run.seed,
        device=device,
        refit=run.refit,
        resume=True,
        report=False,
        chosen_epochs=epochs,
        listener=listener,
    )
    for folder in (run.folder, run.folder / "refit"):
        remove_checkpoint(folder)

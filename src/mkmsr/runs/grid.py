"""Many runs: jobs that each leave a folder behind, and grids of models x data x seeds.

Jobs run in parallel, go on after a kill, and are skipped when finished. The folder of a grid's run is named after
everything its result depends on, so that a changed setting or other data leads to a new folder and never to a mixture;
the folder of the old run stays until somebody deletes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mkmsr.data.dataset import PreparedDataset
from mkmsr.models.base import ModelSizes
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.experiment import METRICS_FILE, run_experiment
from mkmsr.runtime import events
from mkmsr.runtime.events import EpochRecord, Event, Listener, PhaseStarted, ignore
from mkmsr.runtime.files import locked
from mkmsr.runtime.workers import Line, Task, run_tasks
from mkmsr.training.checkpoint import remove_checkpoint

LOG_FILE = "run.log"

ChooseEpochs = Literal["first-seed", "each-seed"]
"""Whose validation chooses a run's number of epochs: that of the model's first seed for all seeds, which spares the
others the fit on train alone, or each seed's own. Neither looks at the test."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One folder to be filled.

    Args:
        name: Such as "demo mkm-sr seed 0".
        folder: What the job fills. A folder that has the marker is finished and is left alone.
        function: A function of a module, called in another process as `function(listener, *arguments)`. It must go on
            where an earlier call was killed, and write the marker last.
        arguments: Values that can be sent to another process.
        marker: Name of the file that only a finished job has.
    """

    name: str
    folder: Path
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    marker: str = "metrics.json"

    @property
    def is_finished(self) -> bool:
        """Whether the folder has the marker."""
        return (self.folder / self.marker).is_file()


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended: now, before ("skipped"), or not, with the reason."""

    job: Job
    status: Literal["finished", "skipped", "failed"]
    reason: str = ""


@dataclass(frozen=True)
class GridRun:
    """One experiment of a grid.

    The label is what the row of a table is called: the model's name, or another where a model has several settings.
    With `refit` the test numbers are of a model fitted on train and validation. `leader` is the folder of the run whose
    validation chooses the number of epochs; None: its own does.
    """

    data: Path
    label: str
    config: ExperimentConfig
    seed: int
    refit: bool
    folder: Path
    leader: Path | None = None

    def is_ready(self, *, leaders_ended: bool) -> bool:
        """Return whether the run needs no other, or no longer: its leader is finished, or the run itself."""
        return self.leader is None or ((self.leader if leaders_ended else self.folder) / METRICS_FILE).is_file()

    def job(self, device: str = "cpu") -> Job:
        """Return the run as a job."""
        name = f"{self.data.resolve().name} {self.label} seed {self.seed}"
        return Job(name, self.folder, _run, (self, device))


def plan_grid(
    datasets: Sequence[Path],
    experiments: Mapping[str, ExperimentConfig],
    seeds: Sequence[int],
    folder: Path,
    *,
    refit: bool = True,
    choose_epochs: ChooseEpochs = "each-seed",
) -> list[GridRun]:
    """Return every experiment on every dataset with every seed; a model without chance in it gets the first seed alone.

    Experiments are settings by label; runs go to `folder/<data>/<label>/seed-<seed>-<key>`.
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

    Workers and listener are those of `run_jobs`. Returns an outcome for each run, first seeds first.
    """
    ordered = sorted(runs, key=lambda run: run.seed)
    outcomes: dict[Path, JobOutcome] = {}
    for leaders_ended in (False, True):
        failed = {folder for folder, outcome in outcomes.items() if outcome.status == "failed"}
        ready = [run for run in ordered if run.is_ready(leaders_ended=leaders_ended) and run.folder not in failed]
        if any(run.folder not in outcomes for run in ready):
            jobs = [run.job(device) for run in ready]
            found = {each.job.folder: each for each in run_jobs(jobs, workers=workers, listener=listener)}
            outcomes = {**found, **outcomes}
    reason = "the run whose validation chooses its number of epochs is not there"
    return tuple(outcomes.get(run.folder) or JobOutcome(run.job(device), "failed", reason=reason) for run in ordered)


def depends_on_seed(config: ExperimentConfig) -> bool:
    """Return whether the model has weights to draw; one that only counts comes out the same with every seed."""
    return config.entry.build(config.settings(), ModelSizes(2, 1, 1, 1)).is_trainable


def settings_key(config: ExperimentConfig, *others: object) -> str:
    """Return eight hexadecimal digits that change with any setting or other value."""
    text = json.dumps([config.model_dump(mode="json"), *others], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _run(listener: Listener, run: GridRun, device: str) -> None:
    """One run, in a process of its own. Checkpoints, most of a folder's bytes, are of no use once it is finished."""
    epochs = None
    if run.leader is not None:
        epochs = int(json.loads((run.leader / METRICS_FILE).read_text(encoding="utf-8"))["best_epoch"])
    options: dict[str, Any] = {"seed": run.seed, "device": device, "refit": run.refit, "chosen_epochs": epochs}
    dataset = PreparedDataset.load(run.data)
    run_experiment(dataset, run.config, run.folder, resume=True, report=False, listener=listener, **options)
    for folder in (run.folder, run.folder / "refit"):
        remove_checkpoint(folder)


def run_jobs(jobs: Sequence[Job], *, workers: int = 1, listener: Listener = ignore) -> tuple[JobOutcome, ...]:
    """Carry out jobs, and return how each ended, in their order; one that fails is reported and the rest go on.

    Each worker is a process of one thread. The listener hears `JobsPlanned`, `JobStarted`, `JobProgress`, `JobEnded`.
    """
    assert len({job.folder for job in jobs}) == len(jobs)
    outcomes = {job.folder: JobOutcome(job, "skipped") for job in jobs if job.is_finished}
    left = {job.folder: job for job in jobs if job.folder not in outcomes}
    listener(events.JobsPlanned("runs", len(jobs), len(outcomes), workers))
    tasks = (Task(job.name, _carry_out, (job,), job.folder / LOG_FILE) for job in left.values())
    began: dict[Path, float] = {}
    for event in run_tasks(tasks, workers=workers):
        job = left[event.task.log.parent]
        if event.kind == "started":
            began[job.folder] = time.monotonic()
            listener(events.JobStarted(job.name))
        elif event.kind == "sent":
            listener(events.JobProgress(job.name, event.content))
        else:
            seconds, reason = time.monotonic() - began[job.folder], str(event.content) if event.kind == "failed" else ""
            outcomes[job.folder] = JobOutcome(job, "failed" if reason else "finished", reason)
            listener(events.JobEnded(job.name, seconds, failure=reason))
    return tuple(outcomes[job.folder] for job in jobs)


def _carry_out(line: Line, job: Job) -> None:
    def listener(event: Event) -> None:
        if isinstance(event, PhaseStarted):
            _logger.info("%s", event.name)
        elif isinstance(event, EpochRecord):
            _logger.info("epoch %d: %s, %.1f s", event.epoch, event, event.seconds)
        line.send(event)

    with locked(job.folder):
        job.function(listener, *job.arguments)
    assert job.is_finished

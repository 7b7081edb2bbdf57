"""Jobs that each leave a folder behind: carried out in parallel, taken up again after a kill, skipped when finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from mkmsr.runtime.workers import Event, Line, Task, run_tasks
from mkmsr.training import EpochRecord, SilentListener

__all__ = ["Job", "JobListener", "JobOutcome", "Reporter", "SilentJobListener", "run_jobs"]

LOG_FILE = "run.log"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One folder to be filled.

    Args:
        name: For people, such as "demo mkm-sr seed 0".
        folder: What the job fills. A folder that has the marker is finished and is left alone.
        function: A function of a module, called in another process as `function(reporter, *arguments)`. It must go on
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
    """How a job ended.

    Args:
        job: Which.
        status: "finished" now, "skipped" because it was finished before, or "failed".
        seconds: Wall time now.
        reason: Why it failed.
    """

    job: Job
    status: Literal["finished", "skipped", "failed"]
    seconds: float = 0.0
    reason: str = ""


class JobListener(Protocol):
    """Watches jobs."""

    def planned(self, total: int, skipped: int) -> None:
        """There are so many jobs, and so many of them are finished already."""

    def started(self, job: Job) -> None:
        """A process works on this job now."""

    def phase(self, job: Job, name: str) -> None:
        """A part of a job begins."""

    def epoch(self, job: Job, record: EpochRecord) -> None:
        """An epoch of a job is over."""

    def ended(self, outcome: JobOutcome) -> None:
        """A job is over."""


class SilentJobListener:
    """Hears everything and does nothing."""

    def planned(self, total: int, skipped: int) -> None:
        """Do nothing."""

    def started(self, job: Job) -> None:
        """Do nothing."""

    def phase(self, job: Job, name: str) -> None:
        """Do nothing."""

    def epoch(self, job: Job, record: EpochRecord) -> None:
        """Do nothing."""

    def ended(self, outcome: JobOutcome) -> None:
        """Do nothing."""


class Reporter(SilentListener):
    """Watches an experiment in a job's process: a line of the log, and word to the starting process."""

    def __init__(self, line: Line):
        self.line = line

    def phase(self, name: str) -> None:
        _logger.info("%s", name)
        self.line.say(name)

    def epoch(self, record: EpochRecord) -> None:
        losses = {"loss": record.train_loss, "knowledge loss": record.knowledge_loss}
        parts = [f"{name} {value:.4f}" for name, value in losses.items() if value is not None]
        parts += [f"{name} {value:.4f}" for name, value in record.validation.items() if name.endswith("@20")]
        _logger.info("epoch %d: %s, %.1f s", record.epoch, ", ".join(parts), record.seconds)
        self.line.say(record)


def run_jobs(jobs: Sequence[Job], *, workers: int = 1, listener: JobListener | None = None) -> tuple[JobOutcome, ...]:
    """Carry out jobs, at most `workers` at a time; one that fails is reported and the rest go on.

    Args:
        jobs: In the order in which they begin; each with a folder of its own.
        workers: Processes, of one thread each.
        listener: Told what happens.

    Returns:
        An outcome for each job, in the order of `jobs`.
    """
    assert len({job.folder for job in jobs}) == len(jobs)
    listener = listener or SilentJobListener()
    outcomes = {job.folder: JobOutcome(job, "skipped") for job in jobs if job.is_finished}
    left = {job.folder: job for job in jobs if job.folder not in outcomes}
    listener.planned(len(jobs), len(outcomes))
    tasks = (Task(job.name, _carry_out, (job,), job.folder / LOG_FILE) for job in left.values())
    began: dict[Path, float] = {}
    for event in run_tasks(tasks, workers=workers):
        job = left[event.task.log.parent]
        if event.kind == "started":
            began[job.folder] = time.monotonic()
            listener.started(job)
        elif event.kind == "said":
            _pass_on(listener, job, event)
        else:
            seconds = time.monotonic() - began[job.folder]
            outcome = JobOutcome(job, "finished", seconds)
            if event.kind == "failed":
                outcome = JobOutcome(job, "failed", seconds, str(event.content))
            outcomes[job.folder] = outcome
            listener.ended(outcome)
    return tuple(outcomes[job.folder] for job in jobs)


def _pass_on(listener: JobListener, job: Job, event: Event) -> None:
    if isinstance(event.content, EpochRecord):
        listener.epoch(job, event.content)
    else:
        listener.phase(job, event.content)


def _carry_out(line: Line, job: Job) -> None:
    job.function(Reporter(line), *job.arguments)
    assert job.is_finished

"""Jobs that each leave a folder behind: carried out in parallel, taken up again after a kill, skipped when finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mkmsr.runtime.events import (
    EpochRecord,
    Event,
    JobEnded,
    JobProgress,
    JobsPlanned,
    JobStarted,
    Listener,
    PhaseStarted,
    ignore,
)
from mkmsr.runtime.files import locked
from mkmsr.runtime.workers import Line, Task, run_tasks

__all__ = ["Job", "JobOutcome", "run_jobs"]

LOG_FILE = "run.log"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One folder to be filled.

    Args:
        name: For people, such as "demo mkm-sr seed 0".
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


def run_jobs(jobs: Sequence[Job], *, workers: int = 1, listener: Listener = ignore) -> tuple[JobOutcome, ...]:
    """Carry out jobs, at most `workers` at a time; one that fails is reported and the rest go on.

    Args:
        jobs: In the order in which they begin; each with a folder of its own.
        workers: Processes, of one thread each.
        listener: Told `JobsPlanned`, `JobStarted`, `JobProgress` and `JobEnded`.

    Returns:
        An outcome for each job, in the order of `jobs`.
    """
    assert len({job.folder for job in jobs}) == len(jobs)
    outcomes = {job.folder: JobOutcome(job, "skipped") for job in jobs if job.is_finished}
    left = {job.folder: job for job in jobs if job.folder not in outcomes}
    listener(JobsPlanned("runs", len(jobs), len(outcomes), workers))
    tasks = (Task(job.name, _carry_out, (job,), job.folder / LOG_FILE) for job in left.values())
    began: dict[Path, float] = {}
    for event in run_tasks(tasks, workers=workers):
        job = left[event.task.log.parent]
        if event.kind == "started":
            began[job.folder] = time.monotonic()
            listener(JobStarted(job.name))
        elif event.kind == "sent":
            listener(JobProgress(job.name, event.content))
        else:
            seconds, reason = time.monotonic() - began[job.folder], str(event.content) if event.kind == "failed" else ""
            outcomes[job.folder] = JobOutcome(job, "failed" if reason else "finished", seconds, reason)
            listener(JobEnded(job.name, seconds, failure=reason))
    return tuple(outcomes[job.folder] for job in jobs)


def _carry_out(line: Line, job: Job) -> None:
    def listener(event: Event) -> None:
        _log(event)
        line.send(event)

    with locked(job.folder):
        job.function(listener, *job.arguments)
    assert job.is_finished


def _log(event: Event) -> None:
    if isinstance(event, PhaseStarted):
        _logger.info("%s", event.name)
    elif isinstance(event, EpochRecord):
        losses = {"loss": event.train_loss, "knowledge loss": event.knowledge_loss}
        parts = [f"{name} {value:.4f}" for name, value in losses.items() if value is not None]
        parts += [f"{name} {value:.4f}" for name, value in event.validation.items() if name.endswith("@20")]
        _logger.info("epoch %d: %s, %.1f s", event.epoch, ", ".join(parts), event.seconds)

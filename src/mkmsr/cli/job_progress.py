"""Progress of many runs at once: a bar for all, a line for each that is over, on standard error."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, TaskID

from mkmsr.cli.progress import duration

if TYPE_CHECKING:
    from mkmsr.models.entry import Value
    from mkmsr.runs.jobs import Job, JobOutcome
    from mkmsr.runs.study import TrialRecord
    from mkmsr.training import EpochRecord

__all__ = ["JobProgress", "TrialProgress"]


class JobProgress:
    """Watches jobs: a bar for all of them and one line for each that runs.

    Args:
        console: Standard error.
        bars: The running bars.
        workers: How many run at a time, for the time left.
    """

    def __init__(self, console: Console, bars: Progress, *, workers: int):
        self._console, self._bars, self._workers = console, bars, workers
        self._all: TaskID | None = None
        self._lines: dict[str, TaskID] = {}
        self._total = self._done = 0
        self._seconds: list[float] = []

    def planned(self, total: int, skipped: int) -> None:
        """Show the bar of all jobs; where more jobs are planned later, that of those too."""
        self._total, self._done = total, skipped
        already = f", {skipped} of them done already" if skipped else ""
        self._say(f"{total} runs{already}, {self._workers} at a time")
        if self._all is not None:
            self._bars.remove_task(self._all)
        self._all = self._bars.add_task("runs", total=total, completed=skipped, details="")

    def started(self, job: Job) -> None:
        """Show a job's line."""
        self._lines[job.name] = self._bars.add_task(job.name, total=None, details="")

    def phase(self, job: Job, name: str) -> None:
        """Change a job's line."""
        self._bars.update(self._lines[job.name], details=name)

    def epoch(self, job: Job, record: EpochRecord) -> None:
        """Change a job's line."""
        parts = [f"{name} {100 * value:.2f}%" for name, value in record.validation.items() if name.endswith("@20")]
        self._bars.update(self._lines[job.name], details=", ".join([f"epoch {record.epoch}", *parts]))

    def ended(self, outcome: JobOutcome) -> None:
        """Replace a job's line by a printed one."""
        self._bars.remove_task(self._lines.pop(outcome.job.name))
        self._done += 1
        self._seconds.append(outcome.seconds)
        what = f"FAILED: {outcome.reason}" if outcome.status == "failed" else f"done in {duration(outcome.seconds)}"
        self._say(f"[{self._done}/{self._total}] {outcome.job.name}: {what}")
        mean = sum(self._seconds) / len(self._seconds)
        left = mean * (self._total - self._done) / self._workers
        if self._all is not None:
            self._bars.update(self._all, completed=self._done, details=f"about {duration(left)} left")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class TrialProgress:
    """Watches a search: a bar for its trials, a line for each that is over."""

    def __init__(self, console: Console, bars: Progress):
        self._console, self._bars = console, bars
        self._task: TaskID | None = None
        self._total = self._done = 0
        self._began = time.monotonic()
        self._before = 0

    def planned(self, total: int, done: int) -> None:
        """Show the bar."""
        self._total, self._done, self._before = total, done, done
        if done:
            self._say(f"{done} of {total} trials are done already")
        self._task = self._bars.add_task("trials", total=total, completed=done, details="")

    def started(self, number: int, settings: Mapping[str, Value]) -> None:
        """Do nothing: the line comes when the trial is over."""

    def ended(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """Print the trial and move the bar."""
        self._done += 1
        value = "failed: " + record.reason if record.value is None else f"{100 * record.value:.2f} %"
        state = f", {record.state}" if record.state == "pruned" else ""
        tried = ", ".join(f"{key.rpartition('.')[2]} {_shown(value)}" for key, value in record.settings.items())
        epochs = f" after {record.epochs} epochs" if record.epochs else ""
        self._say(f"[{self._done}/{self._total}] {value}{state}{epochs}: {tried}")
        left = (time.monotonic() - self._began) / (self._done - self._before) * (self._total - self._done)
        found = f"best {100 * (best.value or 0):.2f} %, " if best else ""
        if self._task is not None:
            self._bars.update(self._task, completed=self._done, details=f"{found}about {duration(left)} left")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _shown(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

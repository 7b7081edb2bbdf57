"""Progress bars: what a listener hears, drawn on standard error.

Where standard error is no terminal (a file, a pipe, CI) there is one line an epoch or a job and no bar.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from mkmsr.cli.console import counted, printable
from mkmsr.runtime.events import (
    BatchDone,
    EpochRecord,
    Event,
    JobEnded,
    JobProgress,
    JobsPlanned,
    JobStarted,
    Listener,
    PhaseStarted,
    RankingDone,
    TrainingEstimate,
)

_MINUTE = 60.0

_PHASES = {
    "fit": "fitting on train",
    "refit": "fitting again, on train and validation",
    "validation": "ranking validation",
    "test": "ranking test",
}


@contextmanager
def progress_bars(console: Console, *, announce: bool = True) -> Iterator[Listener]:
    """Yield a listener that draws what it hears; its bars disappear at the end. `announce` gives each phase a line."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[details]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        one, many = _OneRun(console, bars, announce=announce), _ManyJobs(console, bars)

        def listener(event: Event) -> None:
            many.hear(event) if isinstance(event, _OF_JOBS) else one.hear(event)

        yield listener


_OF_JOBS = (JobsPlanned, JobStarted, JobProgress, JobEnded)


class _OneRun:
    """Show one run: a bar for the epoch with loss, examples/s and time left, and a line for each epoch done."""

    def __init__(self, console: Console, bars: Progress, *, announce: bool):
        self._console, self._bars, self._announce = console, bars, announce
        self._task: TaskID | None = None
        self._epoch_began = time.monotonic()
        self._epochs = 0
        self._epoch_seconds: list[float] = []

    def hear(self, event: Event) -> None:
        match event:
            case PhaseStarted(name):
                self._close()
                self._epoch_seconds = []
                self._epoch_began = time.monotonic()
                if self._announce:
                    self._console.print(_PHASES.get(name, name))
            case TrainingEstimate():
                self._estimate(event)
            case BatchDone():
                self._batch(event)
            case EpochRecord():
                self._epoch(event)
            case RankingDone(done, total):
                self._show("ranking", done, total)
                if done >= total:
                    self._close()

    def _estimate(self, event: TrainingEstimate) -> None:
        triples = f" and {event.triples:,} triples" if event.triples else ""
        self._console.print(
            f"about {event.mib:,.0f} MiB for weights, gradients, optimiser and scores; "
            f"{event.examples:,} examples{triples} an epoch, about {duration(event.seconds_per_epoch)} each; "
            f"at most {duration(event.total_seconds)} for {counted(event.epochs, 'epoch')}, without validation"
        )
        self._epoch_began = time.monotonic()

    def _batch(self, event: BatchDone) -> None:
        self._epochs = event.epochs
        elapsed = time.monotonic() - self._epoch_began
        expected = elapsed * event.total / event.done
        later = sum(self._epoch_seconds) / len(self._epoch_seconds) if self._epoch_seconds else expected
        left = duration(expected - elapsed + later * max(event.epochs - event.epoch, 0))
        speed = event.examples / max(elapsed, 1e-9)
        details = f"loss {event.loss:.3f}  {speed:,.0f} examples/s  {left} left"
        self._show(f"epoch {event.epoch}/{event.epochs}", event.done, event.total, details)

    def _epoch(self, event: EpochRecord) -> None:
        self._close()
        self._epoch_seconds.append(event.seconds)
        self._console.print(f"epoch {event.epoch}/{self._epochs or '?'}: {event}, {duration(event.seconds)}")
        self._epoch_began = time.monotonic()

    def _show(self, name: str, done: int, total: int, details: str = "") -> None:
        if self._task is None:
            self._task = self._bars.add_task(name, total=total, details="")
        self._bars.update(self._task, completed=done, total=total, details=details)

    def _close(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


class _ManyJobs:
    """Show many jobs: a bar for all, one for each that runs, and a line for each that is over."""

    def __init__(self, console: Console, bars: Progress):
        self._console, self._bars = console, bars
        self._all: TaskID | None = None
        self._running: dict[str, TaskID] = {}
        self._total = self._done = 0
        self._workers = 1
        self._seconds: list[float] = []

    def hear(self, event: Event) -> None:
        match event:
            case JobsPlanned():
                self._plan(event)
            case JobStarted(name):
                self._running[name] = self._bars.add_task(name, total=None, details="")
            case JobProgress(name, PhaseStarted(phase)):
                self._bars.update(self._running[name], details=phase)
            case JobProgress(name, EpochRecord() as record):
                details = ", ".join([f"epoch {record.epoch}", *record.shown_metrics()])
                self._bars.update(self._running[name], details=details)
            case JobEnded():
                self._end(event)

    def _plan(self, event: JobsPlanned) -> None:
        self._total, self._done, self._workers = event.total, event.done, event.workers
        already = f", {event.done} of them done already" if event.done else ""
        self._console.print(f"{event.total} {event.what}{already}, {event.workers} at a time")
        if self._all is not None:
            self._bars.remove_task(self._all)
        self._all = self._bars.add_task(event.what, total=event.total, completed=event.done, details="")

    def _end(self, event: JobEnded) -> None:
        self._bars.remove_task(self._running.pop(event.name))
        self._done += 1
        self._seconds.append(event.seconds)
        what = f"FAILED: {event.failure}" if event.failure else event.result or f"done in {duration(event.seconds)}"
        self._console.print(f"[{self._done}/{self._total}] {event.name}: {what}")
        mean = sum(self._seconds) / len(self._seconds)
        left = f"about {duration(mean * (self._total - self._done) / self._workers)} left"
        if self._all is not None:
            details = f"{event.best}, {left}" if event.best else left
            self._bars.update(self._all, completed=self._done, details=details)


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """Show a spinner beside a line of text, for work of unknown length."""
    if not console.is_terminal:
        console.print(what)
        yield
        return
    with console.status(Text(printable(what))):
        yield


def duration(seconds: float) -> str:
    """Return a time span for people: "0.4 s", "12 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"

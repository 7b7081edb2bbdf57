"""Progress bars: what training and evaluation report, drawn on standard error.

Where standard error is no terminal (a file, a pipe, CI) there is one line an epoch and no bar.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from mkmsr.training import EpochRecord, TrainingEstimate

__all__ = ["RunProgress", "duration", "running", "transient_bars", "waiting"]

_MINUTE = 60.0


class RunProgress:
    """Watches an experiment: a bar for the epoch with loss, examples/s and time left, and a line for each epoch done.

    Args:
        console: Standard error.
        bars: The running bars.
        announce: Whether each phase gets a line.
    """

    def __init__(self, console: Console, bars: Progress, *, announce: bool):
        self._console, self._bars, self._announce = console, bars, announce
        self._task: TaskID | None = None
        self._epoch_began = time.monotonic()
        self._epochs = 0
        self._epoch_seconds: list[float] = []

    def phase(self, name: str) -> None:
        """Start the part of an experiment that has this name."""
        self._close()
        self._epoch_seconds = []
        self._epoch_began = time.monotonic()
        if self._announce:
            lines = {
                "fit": "fitting on train",
                "refit": "fitting again, on train and validation",
                "validation": "ranking validation",
                "test": "ranking test",
            }
            self._say(lines.get(name, name))

    def estimate(self, estimate: TrainingEstimate) -> None:
        """Say what the run will need."""
        self._say(
            f"about {estimate.total_mib:,.0f} MiB for weights, gradients, optimiser and scores; "
            f"{estimate.examples:,} examples and {estimate.triples:,} triples an epoch, "
            f"about {duration(estimate.seconds_per_epoch)} each; "
            f"at most {duration(estimate.total_seconds)} for {estimate.epochs} epochs, without validation"
        )
        self._epoch_began = time.monotonic()

    def batch(self, done: int, total: int, loss: float, *, epoch: int, epochs: int, examples: int) -> None:
        """Move the epoch's bar."""
        self._epochs = epochs
        if self._task is None:
            self._task = self._bars.add_task(f"epoch {epoch}/{epochs}", total=total, details="")
        elapsed = time.monotonic() - self._epoch_began
        speed = f"{examples / max(elapsed, 1e-9):,.0f} examples/s"
        left = self._seconds_left(elapsed, done / max(total, 1), epoch)
        self._bars.update(self._task, completed=done, total=total, details=f"loss {loss:.3f}  {speed}  {left}")

    def epoch(self, record: EpochRecord) -> None:
        """Replace the bar by a line."""
        self._close()
        self._epoch_seconds.append(record.seconds)
        losses = [("loss", record.train_loss), ("knowledge", record.knowledge_loss)]
        parts = [f"{name} {value:.4f}" for name, value in losses if value is not None]
        parts += [f"{name} {100 * value:.2f}%" for name, value in record.validation.items() if name.endswith("@20")]
        parts += [f"{record.examples_per_second:,.0f} examples/s", duration(record.seconds)]
        self._say(f"epoch {record.epoch}/{self._epochs or '?'}: " + ", ".join(parts))
        self._epoch_began = time.monotonic()

    def ranked(self, done: int, total: int) -> None:
        """Move the bar of an evaluation."""
        if self._task is None:
            self._task = self._bars.add_task("ranking", total=total, details="")
        self._bars.update(self._task, completed=done, total=total, details="")
        if done >= total:
            self._close()

    def _seconds_left(self, elapsed: float, share: float, epoch: int) -> str:
        if share <= 0:
            return ""
        expected = elapsed / share
        later = sum(self._epoch_seconds) / len(self._epoch_seconds) if self._epoch_seconds else expected
        return f"{duration(expected - elapsed + later * max(self._epochs - epoch, 0))} left"

    def _close(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def running(console: Console, *, announce: bool = True) -> Iterator[RunProgress]:
    """A watcher for one experiment."""
    with transient_bars(console) as bars:
        yield RunProgress(console, bars, announce=announce)


@contextmanager
def transient_bars(console: Console) -> Iterator[Progress]:
    """Bars that disappear at the end; none where standard error is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[details]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield bars


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """A spinner beside a line of text, for work of unknown length."""
    if not console.is_terminal:
        console.print(what, markup=False, highlight=False, soft_wrap=True)
        yield
        return
    with console.status(what):
        yield


def duration(seconds: float) -> str:
    """A time span for people: "0.4 s", "12 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"

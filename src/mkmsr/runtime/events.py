"""Events of long work: small values, each passed to one function when it happens.

Libraries never print. Training, evaluation, experiments, jobs, searches and bulk lists all take a `listener`; a
function that looks at the kinds of event it cares about and passes over the rest will do. Events can be sent to another
process as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias


class Event:
    """Something that happened; each kind is a frozen dataclass below."""


Listener: TypeAlias = Callable[[Event], None]
"""Whoever watches: called with each event; what it raises ends the work."""


def ignore(event: Event) -> None:
    """Do nothing: the listener where nobody watches."""


@dataclass(frozen=True)
class PhaseStarted(Event):
    """A part of an experiment begins: "fit", "validation", "refit" or "test"; or another part of a job."""

    name: str


@dataclass(frozen=True)
class TrainingEstimate(Event):
    """What a fit will need, sent before its first epoch; times are wall times without validation.

    Args:
        examples: Examples an epoch.
        triples: Distinct triples that the knowledge task learns from; 0 without one.
        steps: Steps an epoch over sessions.
        epochs: Most epochs, those over triples alone included.
        seconds_per_epoch: Of an epoch over sessions.
        total_seconds: If training does not stop early.
        mib: Memory of weights, the copy of the best epoch's, gradients, the optimiser's two moments, and the scores of
            one batch, [B, V] (or [B, block]); data, encoder states and libraries come on top.
    """

    examples: int
    triples: int
    steps: int
    epochs: int
    seconds_per_epoch: float
    total_seconds: float
    mib: float


@dataclass(frozen=True)
class BatchDone(Event):
    """Some steps of an epoch are done.

    The loss is the mean of this epoch so far: of the sessions, or in a knowledge-only epoch of the triples; likewise
    the examples. Epochs count from 1; the last one may not be reached.
    """

    done: int
    total: int
    loss: float
    epoch: int
    epochs: int
    examples: int


@dataclass(frozen=True)
class EpochRecord(Event):
    """An epoch is over and validated; also a line of `history.jsonl`.

    Args:
        epoch: From 1.
        phase: "sessions", or "knowledge" for an epoch that saw triples alone (strategy "pretrain").
        train_loss: Mean session loss over the epoch's examples, averaged over the epoch; None without sessions.
        knowledge_loss: Mean knowledge loss over the epoch's triples, before lambda_1; None without triples.
        validation: Metrics on the validation split after the epoch, 0..1; empty if there was no validation.
        seconds: Wall time of the epoch without its validation.
        examples_per_second: Examples (phase "knowledge": triples) by those seconds.
        learning_rate: Of the epoch's last step.
    """

    epoch: int
    phase: Literal["sessions", "knowledge"]
    train_loss: float | None
    knowledge_loss: float | None
    validation: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    examples_per_second: float = 0.0
    learning_rate: float = 0.0

    def __str__(self) -> str:
        """Return losses, the metrics of lists of 20 in per cent, and the speed, for people."""
        losses = {"loss": self.train_loss, "knowledge": self.knowledge_loss}
        parts = [f"{name} {value:.4f}" for name, value in losses.items() if value is not None]
        return ", ".join([*parts, *self.shown_metrics(), f"{self.examples_per_second:,.0f} examples/s"])

    def shown_metrics(self) -> list[str]:
        """Return the validation metrics of lists of 20, in per cent."""
        return [f"{name} {100 * value:.2f}%" for name, value in self.validation.items() if name.endswith("@20")]


@dataclass(frozen=True)
class RankingDone(Event):
    """`done` of `total` examples or sessions are ranked."""

    done: int
    total: int


@dataclass(frozen=True)
class JobsPlanned(Event):
    """Jobs, "runs" or "trials", will be carried out; sent again where more are planned later.

    An earlier call finished `done` of them; `workers` run at a time.
    """

    what: str
    total: int
    done: int
    workers: int


@dataclass(frozen=True)
class JobStarted(Event):
    """A process works on the job of this name now."""

    name: str


@dataclass(frozen=True)
class JobProgress(Event):
    """An event of a job, as its process sent it."""

    name: str
    event: Event


@dataclass(frozen=True)
class JobEnded(Event):
    """A job is over: why it failed, else what it came to, and the best result of all jobs so far; each may be empty."""

    name: str
    seconds: float
    failure: str = ""
    result: str = ""
    best: str = ""

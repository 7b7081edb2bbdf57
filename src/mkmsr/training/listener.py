"""What training tells whoever watches: a progress bar, a log, nobody. Libraries never print; they call this."""

from __future__ import annotations

from typing import Protocol

from mkmsr.training.estimate import TrainingEstimate
from mkmsr.training.history import EpochRecord

__all__ = ["SilentListener", "TrainingListener"]


class TrainingListener(Protocol):
    """Watches a fit. `mkmsr.runs.experiment.ExperimentListener` hears about whole experiments."""

    def estimate(self, estimate: TrainingEstimate) -> None:
        """What the run will need, before its first epoch."""

    def batch(self, done: int, total: int, loss: float, *, epoch: int, epochs: int, examples: int) -> None:
        """Some steps of an epoch are done.

        Args:
            done: Steps of this epoch so far.
            total: Steps of this epoch.
            loss: Mean loss of this epoch so far: of the sessions, or in a knowledge-only epoch of the triples.
            epoch: This epoch, from 1.
            epochs: The last epoch, unless training stops early.
            examples: Examples (in a knowledge-only epoch: triples) of this epoch so far.
        """

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is over and validated."""


class SilentListener:
    """Hears everything of a fit or an experiment and does nothing; subclass it to hear only some of it."""

    def phase(self, name: str) -> None:
        """Do nothing."""

    def estimate(self, estimate: TrainingEstimate) -> None:
        """Do nothing."""

    def batch(self, done: int, total: int, loss: float, *, epoch: int, epochs: int, examples: int) -> None:
        """Do nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Do nothing."""

    def ranked(self, done: int, total: int) -> None:
        """Do nothing."""

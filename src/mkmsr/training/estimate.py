"""What a run will need, before its first epoch: memory by counting, time by a few steps on a copy of the model."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TrainingEstimate"]


@dataclass(frozen=True)
class TrainingEstimate:
    """What a run will need.

    Args:
        examples: Examples an epoch.
        triples: Distinct triples that the knowledge task learns from; 0 without one.
        steps: Steps an epoch.
        epochs: Most epochs.
        seconds_per_epoch: Wall time, without validation.
        weights_mib: Weights, and the copy of the best epoch's.
        gradients_mib: Their gradients.
        optimiser_mib: The optimiser's two moments.
        scores_mib: Scores of one batch, [B, V] (or [B, block]), with what their gradient keeps.
    """

    examples: int
    triples: int
    steps: int
    epochs: int
    seconds_per_epoch: float
    weights_mib: float
    gradients_mib: float
    optimiser_mib: float
    scores_mib: float

    @property
    def total_mib(self) -> float:
        """All of the above, in MiB; the data, the encoder's intermediate results and the libraries come on top."""
        return self.weights_mib + self.gradients_mib + self.optimiser_mib + self.scores_mib

    @property
    def total_seconds(self) -> float:
        """Wall time if training does not stop early."""
        return self.epochs * self.seconds_per_epoch

"""EpochLosses: the losses of an epoch's steps, kept on the device until somebody looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from mkmsr.errors import TrainingError
from mkmsr.training.optimisation import StepLosses
from mkmsr.training.strategies import Step

ADVICE = "a smaller learning rate, clip_norm or a smaller knowledge_weight may help"

_SESSION, _KNOWLEDGE = 0, 1


class EpochLosses:
    """Session and knowledge loss of each step of one epoch."""

    def __init__(self, steps: int, device: torch.device):
        self._losses = torch.zeros(steps, 2, device=device)
        self._sizes = torch.zeros(steps, 2, dtype=torch.int64)

    def add(self, index: int, step: Step, losses: StepLosses) -> None:
        """Note a step's mean losses, and over how many examples and triples they are means."""
        parts = ((_SESSION, step.sessions, losses.session), (_KNOWLEDGE, step.triples, losses.knowledge))
        for column, part, loss in parts:
            if part is not None and loss is not None:
                self._losses[index, column] = loss
                self._sizes[index, column] = len(part)

    def session_mean(self) -> float | None:
        """Return the mean session loss over all examples so far."""
        return self._mean(_SESSION)

    def knowledge_mean(self) -> float | None:
        """Return the mean knowledge loss over all triples so far, each as often as it was visited."""
        return self._mean(_KNOWLEDGE)

    def visited(self, phase: Literal["sessions", "knowledge"]) -> int:
        """Return how many examples, or in a knowledge epoch triples, were visited so far."""
        return int(self._sizes[:, _SESSION if phase == "sessions" else _KNOWLEDGE].sum())

    def check(self, epoch: int, done: int) -> None:
        """Make sure that the losses of the steps done are finite; the error names epoch, step and loss."""
        bad = (~self._losses[:done].isfinite()).nonzero()
        if len(bad):
            step, column = bad[0].tolist()
            name = "session" if column == _SESSION else "knowledge"
            value = self._losses[step, column].item()
            message = f"the {name} loss is {value}, not a finite number; {ADVICE}"
            raise TrainingError(message, epoch=epoch, step=step + 1)

    def tensors(self) -> dict[str, Tensor]:
        """Return the losses as tensors, for a checkpoint."""
        return {"losses": self._losses, "sizes": self._sizes}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], device: torch.device) -> EpochLosses:
        """Return the losses that a checkpoint holds."""
        losses = cls(0, device)
        losses._losses, losses._sizes = tensors["losses"].to(device), tensors["sizes"].cpu()
        return losses

    def _mean(self, column: int) -> float | None:
        sizes = self._sizes[:, column]
        total = int(sizes.sum())
        return float((self._losses[:, column].double().cpu() * sizes).sum()) / total if total else None

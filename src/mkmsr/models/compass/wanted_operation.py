"""What changes when the next event is to be of a certain operation: "what will be ordered next".

Dimension letters: B sessions, D embedding size, O operations + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["WantedOperation"]

_HIDDEN_SHARE = 0.5
"""Share of training examples whose operation is hidden, so that one model answers with and without it."""


class WantedOperation(nn.Module):
    """What an operation does to session vectors; nothing at all where any will do (0).

        s' = (1 + scale[o]) * s + shift[o]

    The scale lets one session vector hold several continuations and an operation choose among them; a shift alone
    could only prefer the same items in every session. Copies and gates have tables of their own.

    Args:
        num_operations: O - 1.
        dim: D.
    """

    def __init__(self, num_operations: int, dim: int):
        super().__init__()
        self.scale = nn.Embedding(num_operations + 1, dim, padding_idx=0)
        self.shift = nn.Embedding(num_operations + 1, dim, padding_idx=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All zero: a model begins as if no operation were ever asked for."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def masked(self, operations: Tensor) -> Tensor:
        """The same operations [B], a random share of them replaced by 0."""
        return operations * (torch.rand(operations.shape, device=operations.device) >= _HIDDEN_SHARE)

    def forward(self, sessions: Tensor, wanted: Tensor) -> Tensor:
        """Session vectors [B, D] for the operations wanted [B]."""
        changed: Tensor = (1 + self.scale(wanted)) * sessions + self.shift(wanted)
        return changed

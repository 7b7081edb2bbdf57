"""What changes when the next event is to be of a certain operation: "what will be ordered next".

Dimension letters: B sessions, P events of all prefixes, D embedding size, O operations + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["WantedOperation"]


class WantedOperation(nn.Module):
    """What an operation does to session vectors, to gates and to copies; nothing at all where any will do (0).

        s' = (1 + scale[o]) * s + shift[o],  gate logits + gates[o],  copy logits + pair[operation of the event, o]

    The scale lets one session vector hold several continuations and an operation choose among them; a shift alone
    could only prefer the same items in every session. An item in the cart is ordered, one just ordered is not: so a
    copy's addition depends on both operations.

    Args:
        num_operations: O - 1.
        dim: D.
        gates: Components of the mixture.
    """

    MASKED = 0.5
    """Share of training examples whose operation is hidden, so that one model answers with and without it."""

    def __init__(self, num_operations: int, dim: int, gates: int):
        super().__init__()
        self.num_columns = num_operations + 1
        self.scale = nn.Embedding(self.num_columns, dim, padding_idx=0)
        self.shift = nn.Embedding(self.num_columns, dim, padding_idx=0)
        self.gates = nn.Embedding(self.num_columns, gates, padding_idx=0)
        self.pair = nn.Embedding(self.num_columns**2, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All zero: a model begins as if no operation were ever asked for."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def masked(self, operations: Tensor) -> Tensor:
        """The same operations [B], a random share of them replaced by 0."""
        return operations * (torch.rand(operations.shape, device=operations.device) >= self.MASKED)

    def of_sessions(self, sessions: Tensor, wanted: Tensor) -> Tensor:
        """Session vectors [B, D] for the operations wanted [B]."""
        changed: Tensor = (1 + self.scale(wanted)) * sessions + self.shift(wanted)
        return changed

    def of_copies(self, operations: Tensor, wanted: Tensor) -> Tensor:
        """Addition to the log share of each event, from its operation and the one wanted of its session, each [P]."""
        addition: Tensor = self.pair(operations * self.num_columns + wanted).squeeze(1)
        return addition * (wanted > 0)

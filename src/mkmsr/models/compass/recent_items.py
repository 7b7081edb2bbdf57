"""A direct path from the vectors of a session's items to its own vector, beside the encoder.

Dimension letters: B sessions, P events, D embedding size, O operations + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mkmsr.layers.rows import unit_rows
from mkmsr.layers.segments import segment_sum

__all__ = ["RecentItems"]


class RecentItems(nn.Module):
    """Adds to a session's vector what its items are, the newest most of all.

        s' = s / |s| + w r / |r|,    r = sum over events t of age[L - t] operation[o_t] x_t / |x_t|

    The sum has little to learn, and needs no encoder that has seen its items.

    Args:
        num_operations: O - 1; 0 where operations do not count.
        ages: Ages told apart, the last event has 0; older events share the last one.

    Source: this project; a decay by age is what neighbour models weigh a prefix with.
    """

    def __init__(self, num_operations: int, *, ages: int = 28):
        super().__init__()
        self.age = nn.Parameter(torch.empty(ages))
        self.operation = nn.Parameter(torch.empty(num_operations + 1))
        self.weight = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Ages fall to 1/e in two events, operations are alike, and r weighs half as much as s."""
        with torch.no_grad():
            self.age.copy_(torch.exp(-torch.arange(len(self.age)) / 2))
            self.operation.fill_(1.0)
            self.weight.fill_(0.5)

    def forward(self, session: Tensor, items: Tensor, operations: Tensor, ages: Tensor, rows: Tensor) -> Tensor:
        """s [B, D], x [P, D], operations, ages and rows (session of each event) [P] -> [B, D]."""
        weights_P = self.age[ages.clamp(max=len(self.age) - 1)] * self.operation[operations]
        recent_BD = segment_sum(weights_P[:, None] * unit_rows(items), rows, len(session))
        return unit_rows(session) + self.weight * unit_rows(recent_BD)

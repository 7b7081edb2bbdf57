"""Which event of the session comes back: a distribution over the events of each prefix.

Dimension letters: B sessions, P events of all prefixes, D size of a micro-behaviour vector, O operations + 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mkmsr.layers.segments import segment_log_softmax

__all__ = ["CopyAttention", "repeat_likelihood"]

_SMALLEST = 1e-12
_SMALLEST_FLOAT = 1e-6


class CopyAttention(nn.Module):
    """Log probability that the next event repeats the item of each event of the prefix.

        logit_t = u' relu(U m_t + b) + m_t' C m_L / sqrt(D) + age[L - t] + pair[operation_t, operation_L]

    The pair table lets "added to cart, then clicked something else" weigh differently from "clicked twice".

    Args:
        dim: D.
        num_operations: O - 1.
        hidden: Units of the hidden layer.
        ages: Ages told apart; older events share the last one.

    Source: the repeat mode of RepeatNet (Ren et al., AAAI 2019), with operations and age.
    """

    def __init__(self, dim: int, num_operations: int, *, hidden: int = 32, ages: int = 28):
        super().__init__()
        self.dim, self.num_columns = dim, num_operations + 1
        self.of_event = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.of_last = nn.Linear(dim, dim, bias=False)
        self.age = nn.Embedding(ages, 1)
        self.pair = nn.Embedding(self.num_columns**2, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw maps from U(-1/sqrt(D), 1/sqrt(D)); tables start at zero, so age and operations begin neutral."""
        bound = 1 / math.sqrt(self.dim)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        nn.init.zeros_(self.age.weight)
        nn.init.zeros_(self.pair.weight)

    def forward(self, events: Tensor, operations: Tensor, ages: Tensor, rows: Tensor, last: Tensor) -> Tensor:
        """events [P, D], operations, ages and rows (session of each event) [P], last [B] (newest events) -> [P]."""
        newest_PD = self.of_last(events[last])[rows]
        pairs = operations * self.num_columns + operations[last][rows]
        logits_P = (
            self.of_event(events).squeeze(1)
            + (events * newest_PD).sum(1) / math.sqrt(self.dim)
            + self.age(ages.clamp(max=self.age.num_embeddings - 1)).squeeze(1)
            + self.pair(pairs).squeeze(1)
        )
        return segment_log_softmax(logits_P, rows, len(last))


def repeat_likelihood(log_gate_B: Tensor, copy_B: Tensor) -> Tensor:
    """Log probability of what happened: a copy of the right item, or no copy at all. Shape [B]."""
    no_copy_B = torch.log1p(-log_gate_B.exp().clamp(max=1 - _SMALLEST_FLOAT))
    return torch.where(copy_B > 0, log_gate_B + copy_B.clamp_min(_SMALLEST).log(), no_copy_B)

"""A few columns of the catalogue, weighed so that a softmax over them estimates the softmax over all of it.

Dimension letters: B sessions, C columns, M negatives, N exact pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mkmsr.layers.softmax import SparseScores

__all__ = ["SampledColumns"]

_ABSENT = -30.0
"""Log weight of a column that is there for some rows only; small enough for a weight of 0 in 32 bits, and no more, so
that the rows that have it can take it back without loss."""


@dataclass(frozen=True)
class SampledColumns:
    """The items whose scores are taken, each once.

    Each stands for log(times drawn / expected times) more than its own score; a row for which an item is exact, such
    as its target, takes that back. The sum over the columns is then an unbiased estimate of the sum over the catalogue.

    Args:
        items: Rising; column 0 is item 0, the padding. Shape [C].
        log_weights: Shape [C].
    """

    items: Tensor
    log_weights: Tensor

    @classmethod
    def of(cls, exact: Tensor, negatives: Tensor, log_counts: Tensor) -> SampledColumns:
        """Columns for some exact items, of any shape, and for negatives [M] with log expected counts [M]."""
        items = torch.unique(torch.cat([exact.new_zeros(1), exact.flatten(), negatives]))
        places = torch.searchsorted(items, negatives)
        drawn_C = torch.bincount(places, minlength=len(items)).to(log_counts)
        expected_C = torch.zeros_like(drawn_C).scatter_(0, places, log_counts)
        return cls(items, torch.where(drawn_C > 0, drawn_C.clamp(min=1).log() - expected_C, _ABSENT))

    def places(self, items: Tensor) -> Tensor:
        """Columns of items that are among them."""
        return torch.searchsorted(self.items, items)

    def restricted(self, scores: SparseScores) -> SparseScores:
        """What of some scores of the catalogue falls on these columns, with columns in place of items."""
        places = self.places(scores.columns).clamp(max=len(self.items) - 1)
        there = self.items[places] == scores.columns
        return SparseScores(scores.rows[there], places[there], scores.values[there])

    def exact(self, rows: Tensor, items: Tensor) -> SparseScores:
        """What makes each (row, item) count with its own score; pairs [N] may recur."""
        pairs = torch.unique(rows * len(self.items) + self.places(items))
        places = pairs % len(self.items)
        return SparseScores(pairs // len(self.items), places, -self.log_weights[places])

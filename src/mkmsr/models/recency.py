"""`recency`: the items of the prefix, newest first. Training-free, and hard to beat where visitors come back to items.

Dimension letters: B sessions, V catalogue + 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mkmsr.config import StrictModel
from mkmsr.data.batching import SessionBatch
from mkmsr.models.base import ModelSizes, SessionModel, TrainingData, mask_padding

__all__ = ["Recency", "RecencyConfig"]


class RecencyConfig(StrictModel):
    """Settings of the recency baseline."""

    rest: Literal["none", "popularity"] = "none"
    """Order of the items outside the prefix: all tied last, or by popularity."""


class Recency(SessionModel):
    """Score of an item: the place of its newest occurrence in the prefix, oldest event 1; 0 outside the prefix."""

    rest: Tensor

    def __init__(self, config: RecencyConfig, sizes: ModelSizes):
        super().__init__(sizes)
        self.config = config
        self.register_buffer("rest", torch.zeros(sizes.num_items + 1))

    def observe(self, training: TrainingData) -> None:
        if self.config.rest == "popularity":
            items = torch.from_numpy(training.sessions.items).long()
            counts = torch.bincount(items, minlength=self.sizes.num_items + 1)
            self.rest = (counts / (counts.max() + 1)).to(self.rest)

    def score(self, batch: SessionBatch) -> Tensor:
        places = (batch.positions + 1).to(self.rest)
        newest_BV = self.rest.new_zeros(len(batch), len(self.rest))
        newest_BV = newest_BV.view(-1).scatter_reduce(0, batch.rows * len(self.rest) + batch.items, places, "amax")
        return mask_padding(newest_BV.view(len(batch), -1) + self.rest)

"""`pop` and `s-pop`: what is popular, in the whole log or in the session. Training-free.

Dimension letters: B sessions, V catalogue + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mkmsr.config import StrictModel
from mkmsr.data.batching import SessionBatch
from mkmsr.models.base import ModelSizes, SessionModel, TrainingData, mask_padding

__all__ = ["Popularity", "PopularityConfig", "SessionPopularity"]


class PopularityConfig(StrictModel):
    """Popularity has no settings."""


class Popularity(SessionModel):
    """The same list for everybody: items by their number of training events."""

    counts: Tensor

    def __init__(self, config: PopularityConfig, sizes: ModelSizes):
        super().__init__(sizes)
        self.config = config
        self.register_buffer("counts", torch.zeros(sizes.num_items + 1))

    def observe(self, training: TrainingData) -> None:
        items = torch.from_numpy(training.sessions.items).long()
        self.counts = torch.bincount(items, minlength=self.sizes.num_items + 1).to(self.counts)

    def score(self, batch: SessionBatch) -> Tensor:
        return mask_padding(self.counts.expand(len(batch), -1))


class SessionPopularity(Popularity):
    """Items of the prefix by how often they occur in it; the rest, and ties, by popularity.

    Source: S-POP of Hidasi et al., ICLR 2016.
    """

    def score(self, batch: SessionBatch) -> Tensor:
        tie_break = self.counts / (self.counts.max() + 1)
        scores_BV = tie_break.repeat(len(batch), 1)
        ones = scores_BV.new_ones(len(batch.items))
        return mask_padding(scores_BV.index_put_((batch.rows, batch.items), ones, accumulate=True))

"""`pop`, `s-pop` and `recency`: popular items, and items of the session. Training-free, and hard to beat where visitors
come back to items.

Dimension letters: B sessions, V catalogue + 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mkmsr.config import StrictModel
from mkmsr.data.batching import SessionBatch
from mkmsr.models.base import ModelSizes, SessionModel, TrainingData, mask_padding
from mkmsr.models.entry import Choice, ModelEntry


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


ENTRIES = {
    "pop": ModelEntry(
        config=PopularityConfig,
        model=Popularity,
        summary="items by their number of training events",
        source="baseline",
    ),
    "s-pop": ModelEntry(
        config=PopularityConfig,
        model=SessionPopularity,
        summary="items of the prefix by their count in it, then by popularity",
        source="baseline",
    ),
    "recency": ModelEntry(
        config=RecencyConfig,
        model=Recency,
        summary="items of the prefix, newest first",
        source="baseline",
        space={"model.rest": Choice(("none", "popularity"))},
    ),
}

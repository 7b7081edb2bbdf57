"""Several COMPASS networks that know nothing of each other, and the mean of their probabilities.

    p(j | s) = 1/K sum_k p_k(j | s)

Each network starts from weights of its own and is trained by itself. What one has learnt by chance the others have not,
so the mean bears more epochs than a single network, and ranks better. Fitting costs K times as much, ranking less than
that, since similar sessions are looked up once.
Dimension letters: B sessions, V catalogue + 1, K networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.models.base import ModelSizes, Negatives, Scorer, SessionModel, TrainingData
from mkmsr.models.compass.config import CompassConfig
from mkmsr.models.compass.explanation import mean_parts
from mkmsr.models.compass.explore import log_mean
from mkmsr.models.compass.model import ENTRY as ONE_NETWORK
from mkmsr.models.compass.model import Compass
from mkmsr.models.entry import ModelEntry, one_cycle
from mkmsr.models.explanation import Names, ScoreParts

__all__ = ["ENTRY", "CompassEnsemble", "CompassEnsembleConfig"]


class CompassEnsembleConfig(CompassConfig):
    """Settings of a COMPASS ensemble: those of each network, and how many there are."""

    networks: Annotated[int, Field(ge=1, le=32)] = 3
    """K."""


class CompassEnsemble(SessionModel):
    """The mean of several COMPASS networks.

    Source: this project; deep ensembles are Lakshminarayanan, Pritzel and Blundell's (NeurIPS 2017).
    """

    def __init__(self, config: CompassEnsembleConfig, sizes: ModelSizes):
        super().__init__(sizes)
        self.config = config
        self.networks = nn.ModuleList([Compass(config, sizes) for _ in range(config.networks)])

    @property
    def members(self) -> list[Compass]:
        """The networks."""
        return [each for each in self.networks if isinstance(each, Compass)]

    def observe(self, training: TrainingData) -> None:
        for each in self.members:
            each.observe(training)

    def score(self, batch: SessionBatch) -> Tensor:
        return self.scorer()(batch)

    def scorer(self) -> Scorer:
        scorers = [each.scorer() for each in self.members]
        first = self.members[0]

        def score(batch: SessionBatch) -> Tensor:
            # Every network has read the same sessions, so the first one's are asked for all.
            found = first.similar.look_up(batch) if self.config.neighbours else None
            log_sum_BV = scorers[0](batch, found)
            for each in scorers[1:]:
                log_sum_BV = torch.logaddexp(log_sum_BV, each(batch, found))
            return log_sum_BV - math.log(len(scorers))

        return score

    def log_likelihood(self, batch: SessionBatch, *, block: int = 0) -> Tensor:
        return log_mean([each.log_likelihood(batch, block=block) for each in self.members])

    def sampled_log_likelihood(self, batch: SessionBatch, negatives: Negatives) -> Tensor:
        return log_mean([each.sampled_log_likelihood(batch, negatives) for each in self.members])

    def append_items(self, count: int, triples: Tensor) -> None:
        for each in self.members:
            each.append_items(count, triples)
        self.sizes = replace(self.sizes, num_items=self.sizes.num_items + count)

    def explain(self, batch: SessionBatch, items: Sequence[int], names: Names) -> list[ScoreParts]:
        of_networks = zip(*(each.explain(batch, items, names) for each in self.members), strict=True)
        return [mean_parts(of_item) for of_item in of_networks]

    def take_over(self, earlier: SessionModel, items: Tensor) -> None:
        assert isinstance(earlier, CompassEnsemble)
        for each, older in zip(self.members, earlier.members, strict=False):  # Further ones start anew.
            each.take_over(older, items)

    @property
    def answers_wanted(self) -> bool:
        return self.members[0].answers_wanted

    @property
    def places_new_items(self) -> bool:
        return self.members[0].places_new_items


ENTRY = ModelEntry(
    config=CompassEnsembleConfig,
    model=CompassEnsemble,
    summary="the mean of several COMPASS networks: more accurate, so many times the work",
    source="this project",
    training={**one_cycle(6, 0.004), "keep": "last"},
    space=ONE_NETWORK.space,
    renamed=ONE_NETWORK.renamed,
)

"""`item-knn`: the items that share most sessions with the last item. Training-free.

Dimension letters: B sessions, V catalogue + 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.models.base import ModelSizes, TrainingData
from mkmsr.models.entry import Choice, ModelEntry
from mkmsr.models.neighbours.rule_table import RuleTable, strongest, summed_pairs
from mkmsr.models.neighbours.voting import VOTING_SPACE, Decay, Votes, VotingConfig, VotingModel

__all__ = ["ENTRY", "ItemKNN", "ItemKNNConfig", "item_similarities"]

_PAIRS_AT_ONCE = 4_000_000


class ItemKNNConfig(VotingConfig):
    """Settings of item neighbours."""

    neighbours: int = Field(default=100, ge=1)
    """Similar items kept for each item."""
    regularisation: float = Field(default=20.0, ge=0)
    """Added to both counts, so that two rare items that met by chance are not twins."""
    balance: float = Field(default=1.0, ge=0, le=1)
    """Share of the last item's count in the product that divides; 0.5 is the cosine, 1 the share of its sessions."""
    prefix_scale: float = Field(default=2.0, ge=0)
    """0: neighbours of the last item, as published. Else earlier items count too: exp(-steps / prefix_scale)."""


class ItemKNN(VotingModel):
    r"""Score of an item: its similarity with the last item of the prefix.

        sim(i, j) = sessions with both / ((n_i + r)^balance (n_j + r)^(1 - balance)),   n: sessions with the item

    An item is no neighbour of itself.

    Source: Linden et al., 2003; the regularised form is the baseline of Hidasi et al., ICLR 2016.
    Differs: neighbours of earlier prefix items can be added with a decay (`prefix_scale`).
    """

    def __init__(self, config: ItemKNNConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        self.config = config
        self.rules = RuleTable(sizes.num_items + 1)

    def observe(self, training: TrainingData) -> None:
        self.remember(training.sessions)
        config = self.config
        self.rules.build(
            *item_similarities(
                training.sessions,
                self.sizes.num_items + 1,
                regularisation=config.regularisation,
                balance=config.balance,
                most=config.neighbours,
            )
        )

    def votes(self, batch: SessionBatch) -> Votes:
        scale = self.config.prefix_scale
        # At 0 only the last event counts: 1 - steps / 1, cut at 0.
        return self.rules.votes(batch, Decay("linear", 1.0) if scale == 0 else Decay("exponential", scale))


def item_similarities(
    sessions: SessionTable, num_columns: int, *, regularisation: float, balance: float, most: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Keys `item * V + similar item`, rising, and similarities; a block of items at a time, so memory stays bounded."""
    pairs = np.unique(sessions.session_of_event * num_columns + sessions.items)
    owner, item = np.divmod(pairs, num_columns)
    begin = np.searchsorted(owner, np.arange(len(sessions)))
    size = np.bincount(owner, minlength=len(sessions))
    counts = np.bincount(item, minlength=num_columns)
    order = np.argsort(item, kind="stable")
    item, owner = item[order], owner[order]
    # Pairs of an item with every item of its sessions; a block ends where an item does.
    work = np.bincount(item, weights=size[owner], minlength=num_columns).cumsum()
    bounds = np.unique(np.searchsorted(work, np.arange(0, work[-1] + _PAIRS_AT_ONCE, _PAIRS_AT_ONCE)))
    bounds = np.unique(np.append(bounds, num_columns))
    found = []
    for low, high in zip(np.append(0, bounds[:-1]), bounds, strict=True):
        block = slice(*np.searchsorted(item, [low, high]))
        session = owner[block]
        reach = size[session]
        shift = np.repeat(begin[session] - (reach.cumsum() - reach), reach)
        other = pairs[np.arange(reach.sum()) + shift] % num_columns
        keys = np.repeat(item[block], reach) * num_columns + other
        keys = keys[other != keys // num_columns]
        keys, together = summed_pairs(keys, np.ones(len(keys)))
        here, there = counts[keys // num_columns] + regularisation, counts[keys % num_columns] + regularisation
        found.append(strongest(keys, together / (here**balance * there ** (1 - balance)), num_columns, most))
    return np.concatenate([keys for keys, _ in found]), np.concatenate([weights for _, weights in found])


ENTRY = ModelEntry(
    config=ItemKNNConfig,
    model=ItemKNN,
    summary="items that share sessions with the last item",
    source="Linden et al., 2003; Hidasi et al., 2016",
    space={
        **VOTING_SPACE,
        "model.neighbours": Choice((50, 100, 200, 500)),
        "model.regularisation": Choice((0.0, 1.0, 5.0, 20.0)),
        "model.balance": Choice((0.5, 0.75, 1.0)),
        "model.prefix_scale": Choice((1.0, 2.0, 3.0, 5.0)),
    },
)

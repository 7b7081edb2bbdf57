"""`sr` and `item-knn`: for each item the items that follow from it, by order or by company. Training-free.

Dimension letters: B sessions, M rules or votes, V catalogue + 1.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable, ranges
from mkmsr.layers.compressed_rows import CompressedRows
from mkmsr.models.base import ModelSizes
from mkmsr.models.entry import Choice, ModelEntry
from mkmsr.models.neighbours.voting import Decay, DecayKind, Votes, prefix_items
from mkmsr.models.neighbours.voting_model import VOTING_SPACE, VotingConfig, VotingModel

_PAIRS_AT_ONCE = 8_000_000
_PRODUCTS_AT_ONCE = 4_000_000

Rules: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Keys `antecedent * V + consequent`, and weights; each of shape [M]."""


class RulesConfig(VotingConfig):
    """What both models have in common."""

    prefix_scale: float = Field(default=2.0, ge=0)
    """0: rules of the last event, as published. Else earlier items count too: exp(-steps / prefix_scale)."""


class SequentialRulesConfig(RulesConfig):
    """Settings of sequential rules."""

    max_gap: int = Field(default=20, ge=1)
    """Pairs of events that are further apart than this many events make no rule."""
    gap_decay: DecayKind = "linear"
    """What a pair at distance x adds: 1 / x with "reciprocal", 1 - (x - 1) / max_gap with "linear"."""
    self_rules: bool = True
    """Whether an item may follow from itself."""
    most_rules: int = Field(default=100, ge=1)
    """Rules kept for an item: the heaviest."""


class ItemKNNConfig(RulesConfig):
    """Settings of item neighbours."""

    neighbours: int = Field(default=100, ge=1)
    """Similar items kept for each item."""
    regularisation: float = Field(default=20.0, ge=0)
    """Added to both counts, so that two rare items that met by chance are not twins."""
    balance: float = Field(default=1.0, ge=0, le=1)
    """Share of the last item's count in the product that divides; 0.5 is the cosine, 1 the share of its sessions."""


class RuleModel(VotingModel):
    """Base of both: the rules of the last item vote, and with a decay those of earlier ones; `build` reads them.

    Its rules are a sparse matrix, a row for each item, whose columns are the items that follow.
    """

    def __init__(self, config: RulesConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        scale = config.prefix_scale
        # At 0 only the last event counts: 1 - steps / 1, cut at 0.
        self.decay = Decay("linear", 1.0) if scale == 0 else Decay("exponential", scale)
        self.rules = CompressedRows(sizes.num_items + 1)

    def fill(self, rules: Rules) -> None:
        """Put these rules in place of what was there."""
        num_columns = len(self.order)
        keys, weights = (torch.from_numpy(each).to(self.order.device) for each in rules)
        self.rules.fill(keys // num_columns, keys % num_columns, weights, (num_columns, num_columns))

    def check_buffers(self) -> None:
        self.rules.check("rules", len(self.order), len(self.order))

    def votes(self, batch: SessionBatch) -> Votes:
        """The decay of its steps times the weight, for every rule of every distinct prefix item; pairs may recur."""
        prefix = prefix_items(batch, len(self.order), self.decay)
        rows, items, weights = (each[prefix.weights > 0] for each in (prefix.rows, prefix.items, prefix.weights))
        source, consequents, of_rules = self.rules.of(items)
        return Votes(rows[source], consequents, weights[source] * of_rules)


class SequentialRules(RuleModel):
    r"""Score of an item: the weight of the rule (last item -> item), divided by the weight of all rules of that item.

        weight(a -> b) = sum over training sessions, over events p < q with items a and b, of 1 / (q - p)

    Source: Ludewig, Jannach, UMUAI 2018, "Evaluation of session-based recommendation algorithms".
    Differs: rules of earlier prefix items can be added with a decay (`prefix_scale`).
    """

    def __init__(self, config: SequentialRulesConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        self.config = config

    def build(self, sessions: SessionTable) -> None:
        config, num_columns = self.config, self.sizes.num_items + 1
        decay = Decay(config.gap_decay, float(config.max_gap))
        keys, weights = sequential_pairs(sessions, num_columns, decay, config.max_gap)
        if not config.self_rules:
            other = keys // num_columns != keys % num_columns
            keys, weights = keys[other], weights[other]
        totals = np.bincount(keys // num_columns, weights=weights, minlength=num_columns)
        self.fill(_strongest(keys, weights / totals[keys // num_columns], num_columns, config.most_rules))


class ItemKNN(RuleModel):
    r"""Score of an item: its similarity with the last item of the prefix.

        sim(i, j) = sessions with both / ((n_i + r)^balance (n_j + r)^(1 - balance)),   n: sessions with the item

    An item is no neighbour of itself.

    Source: Linden et al., 2003; the regularised form is the baseline of Hidasi et al., ICLR 2016.
    Differs: neighbours of earlier prefix items can be added with a decay (`prefix_scale`).
    """

    def __init__(self, config: ItemKNNConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        self.config = config

    def build(self, sessions: SessionTable) -> None:
        config = self.config
        self.fill(
            item_similarities(
                sessions,
                self.sizes.num_items + 1,
                regularisation=config.regularisation,
                balance=config.balance,
                most=config.neighbours,
            )
        )


def sequential_pairs(sessions: SessionTable, num_columns: int, decay: Decay, max_gap: int) -> Rules:
    """Return rules and their weights, keys rising: one array operation for each distance."""
    items = sessions.items.astype(np.int64)
    owner = sessions.session_of_event
    distances = torch.arange(max_gap)
    by_gap = decay(distances, distances).double().numpy()
    parts: list[Rules] = [(np.zeros(0, np.int64), np.zeros(0))]
    for gap in range(1, min(max_gap, int(sessions.lengths.max(initial=1)) - 1) + 1):
        same = owner[gap:] == owner[:-gap]
        found = items[:-gap][same] * num_columns + items[gap:][same]
        parts.append((found, np.full(len(found), by_gap[gap - 1])))
        if sum(len(keys) for keys, _ in parts) > _PAIRS_AT_ONCE:
            parts = [_summed(parts)]  # memory stays near the distinct pairs
    return _summed(parts)


def item_similarities(
    sessions: SessionTable, num_columns: int, *, regularisation: float, balance: float, most: int
) -> Rules:
    """Return similar items as rules and similarities, keys rising; in blocks of items, so memory stays bounded."""
    pairs = np.unique(sessions.session_of_event * num_columns + sessions.items)
    owner, item = np.divmod(pairs, num_columns)
    begin = np.searchsorted(owner, np.arange(len(sessions)))
    size = np.bincount(owner, minlength=len(sessions))
    counts = np.bincount(item, minlength=num_columns)
    order = np.argsort(item, kind="stable")
    item, owner = item[order], owner[order]
    # Pairs of an item with every item of its sessions; a block ends where an item does.
    work = np.bincount(item, weights=size[owner], minlength=num_columns).cumsum()
    bounds = np.unique(np.searchsorted(work, np.arange(0, work[-1] + _PRODUCTS_AT_ONCE, _PRODUCTS_AT_ONCE)))
    bounds = np.unique(np.append(bounds, num_columns))
    found = []
    for low, high in zip(np.append(0, bounds[:-1]), bounds, strict=True):
        block = slice(*np.searchsorted(item, [low, high]))
        session = owner[block]
        place, _ = ranges(begin[session], begin[session] + size[session])
        other = pairs[place] % num_columns
        keys = np.repeat(item[block], size[session]) * num_columns + other
        keys = keys[other != keys // num_columns]
        keys, together = _summed([(keys, np.ones(len(keys)))])
        here, there = counts[keys // num_columns] + regularisation, counts[keys % num_columns] + regularisation
        found.append(_strongest(keys, together / (here**balance * there ** (1 - balance)), num_columns, most))
    return np.concatenate([keys for keys, _ in found]), np.concatenate([weights for _, weights in found])


def _strongest(keys: NDArray[np.int64], weights: NDArray[np.float64], num_columns: int, most: int) -> Rules:
    """The `most` heaviest rules of each antecedent, the lower item first among equals; keys rise before and after."""
    antecedents = keys // num_columns
    counts = np.bincount(antecedents, minlength=num_columns)
    long = np.flatnonzero(counts[antecedents] > most)  # sorting only what must be cut is most of the speed
    order = long[np.lexsort((-weights[long], antecedents[long]))]
    counts = np.where(counts > most, counts, 0)
    place = np.arange(len(order)) - (counts.cumsum() - counts)[antecedents[order]]
    kept = np.ones(len(keys), dtype=np.bool_)
    kept[order[place >= most]] = False
    return keys[kept], weights[kept]


def _summed(parts: list[Rules]) -> Rules:
    """Distinct keys of all parts, rising, and the sum of the weights of each."""
    keys, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")
    keys, weights = keys[order], weights[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.add.reduceat(weights, first) if len(first) else weights


_RENAMED = {"rules.offsets": "rules.rows", "rules.consequents": "rules.columns", "rules.weights": "rules.values"}
"""Tensors in bundles of earlier releases."""

ENTRIES = {
    "sr": ModelEntry(
        config=SequentialRulesConfig,
        model=SequentialRules,
        summary="what came soon after the last item",
        source="Ludewig and Jannach, UMUAI 2018",
        space={
            **VOTING_SPACE,
            "model.max_gap": Choice((5, 10, 20, 30)),
            "model.gap_decay": Choice(("none", "linear", "reciprocal")),
            "model.self_rules": Choice((False, True)),
            "model.prefix_scale": Choice((1.0, 2.0, 3.0, 5.0)),
        },
        renamed=_RENAMED,
    ),
    "item-knn": ModelEntry(
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
        renamed=_RENAMED,
    ),
}

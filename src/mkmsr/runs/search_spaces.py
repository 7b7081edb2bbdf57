"""What `mkmsr tune` tries: the search space of every model, in one table.

Vectors have 100 components everywhere, as in the paper, so that no model wins by size. What a space leaves out keeps
the default of the model. The default is always the first trial, so that a search never ends below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["SPACES", "Choice", "Range", "SearchSpace", "Value"]

Value: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """A number between two bounds, drawn on a logarithmic scale."""

    low: float
    high: float


SearchSpace: TypeAlias = Mapping[str, Choice | Range]
"""What is tried for each dotted key of a settings file."""

_TRAINING: SearchSpace = {
    "training.optimiser.learning_rate": Range(5e-4, 2e-2),
    "training.optimiser.schedule": Choice(("constant", "one-cycle")),
    "training.batch_size": Choice((64, 128, 256)),
}

_ITEM_NETWORK: SearchSpace = {
    "training.optimiser.learning_rate": Range(4e-3, 1.6e-2),
    "model.scorer": Choice(("dot", "cosine")),
    "model.scale": Choice((12.0, 16.0, 20.0)),
    "model.dropout": Choice((0.0, 0.25, 0.5)),
    "model.session_dropout": Choice((0.0, 0.25, 0.5)),
    "model.bias_start": Choice(("zero", "uniform")),
}

_MICRO_BEHAVIOURS: SearchSpace = {
    **_TRAINING,
    "model.scorer": Choice(("dot", "cosine")),
    "model.scale": Choice((8.0, 12.0, 16.0, 20.0)),
    "model.dropout": Choice((0.0, 0.3, 0.5, 0.6)),
    "model.readout_start": Choice(("uniform", "last-item")),
}

_GRAPH: SearchSpace = {
    "model.steps": Choice((1, 2)),
    "model.aggregation": Choice(("sum", "concat")),
}

_KNOWLEDGE: SearchSpace = {
    "training.loss.knowledge": Choice(("squared", "margin")),
    "training.loss.knowledge_weight": Range(1e-3, 1.0),
}

_SAMPLED: SearchSpace = {
    "training.loss.negatives.number": Choice((512, 2048)),
    "training.loss.negatives.power": Choice((0.0, 0.25, 0.5, 0.75)),
}

_VOTES: SearchSpace = {
    "model.remind": Choice((0.0, 10.0, 20.0, 30.0, 40.0)),
    "model.own_votes": Choice((0.0, 0.1, 0.25, 0.5, 1.0)),
    "model.tie_break": Choice(("popularity", "recency")),
}

_NEIGHBOURS: SearchSpace = {
    **_VOTES,
    "model.neighbours": Choice((50, 100, 200, 500, 1000)),
    "model.sample_size": Choice((500, 1000, 2500, 5000)),
    "model.second_hop": Choice((0.0, 0.01, 0.05, 0.1, 0.2)),
}

_COMPASS: SearchSpace = {
    "training.epochs": Choice((2, 3, 4, 6)),
    "training.optimiser.learning_rate": Range(1e-3, 1e-2),
    "training.batch_size": Choice((64, 128, 256)),
    "model.dropout": Choice((0.3, 0.4, 0.5, 0.6)),
    "model.explore.id_dropout": Choice((0.1, 0.3, 0.5, 0.6, 0.7)),
    "model.explore.popularity": Choice((0.0, 0.15, 0.3, 0.45)),
    "model.retrieval.neighbours": Choice((50, 100, 200)),
    "model.retrieval.idf_weight": Choice((0.0, 0.5, 1.0)),
    "model.retrieval.exclude": Choice(("own", "later")),
    "model.retrieval.evidence": Choice((0.0, 0.5, 1.0)),
}

SPACES: Mapping[str, SearchSpace] = {
    "compass": _COMPASS,
    "compass-ensemble": _COMPASS,
    "mkm-sr": {**_MICRO_BEHAVIOURS, **_GRAPH, **_KNOWLEDGE},
    "km-sr": {**_MICRO_BEHAVIOURS, **_GRAPH, **_KNOWLEDGE},
    "m-sr": {**_MICRO_BEHAVIOURS, **_GRAPH},
    "m-gru-sr": _MICRO_BEHAVIOURS,
    "m-ggnn-sr": {**_MICRO_BEHAVIOURS, **_GRAPH},
    "m-ggnnx2-sr": {**_MICRO_BEHAVIOURS, **_GRAPH},
    "fpmc": {
        **_SAMPLED,
        "training.loss.session": Choice(("bpr", "sampled-cross-entropy", "cross-entropy")),
        "training.optimiser.learning_rate": Range(2e-3, 5e-2),
        "training.optimiser.weight_decay": Choice((0.0, 1e-4, 1e-2)),
        "model.basket": Choice(("last", "prefix")),
        "model.spread": Choice((0.01, 0.03, 0.1)),
    },
    "gru4rec-bpr": {**_ITEM_NETWORK, **_SAMPLED},
    "gru4rec-ce": _ITEM_NETWORK,
    "narm": _ITEM_NETWORK,
    "stamp": _ITEM_NETWORK,
    "sr-gnn": {**_ITEM_NETWORK, "model.steps": Choice((1, 2))},
    "rib": {**_ITEM_NETWORK, "model.tied": Choice((False, True)), "model.window": Choice((3, 5, 10))},
    "gru4rec": {
        **_SAMPLED,
        "training.loss.session": Choice(("sampled-cross-entropy", "bpr-max")),
        "training.loss.score_penalty": Range(0.1, 10.0),
        "training.optimiser.learning_rate": Range(1e-2, 0.3),
        "training.batch_size": Choice((64, 128, 256)),
        "model.dropout": Choice((0.0, 0.25, 0.5)),
        "model.session_dropout": Choice((0.0, 0.25, 0.5)),
    },
    "sasrec": {**_ITEM_NETWORK, "model.blocks": Choice((1, 2, 3)), "model.heads": Choice((1, 2, 4))},
    "embsr": _ITEM_NETWORK,
    "pop": {},
    "s-pop": {},
    "recency": {"model.rest": Choice(("none", "popularity"))},
    "sr": {
        **_VOTES,
        "model.max_gap": Choice((5, 10, 20, 30)),
        "model.gap_decay": Choice(("none", "linear", "reciprocal")),
        "model.self_rules": Choice((False, True)),
        "model.prefix_scale": Choice((1.0, 2.0, 3.0, 5.0)),
    },
    "item-knn": {
        **_VOTES,
        "model.neighbours": Choice((50, 100, 200, 500)),
        "model.regularisation": Choice((0.0, 1.0, 5.0, 20.0)),
        "model.balance": Choice((0.5, 0.75, 1.0)),
        "model.prefix_scale": Choice((1.0, 2.0, 3.0, 5.0)),
    },
    "s-knn": _NEIGHBOURS,
    "v-sknn": {
        **_NEIGHBOURS,
        "model.prefix_decay": Choice(("linear", "reciprocal", "exponential")),
        "model.prefix_scale": Choice((0.5, 1.0, 2.0, 3.0, 5.0, 10.0)),
        "model.match_decay": Choice(("none", "linear", "reciprocal", "exponential")),
        "model.match_scale": Choice((2.0, 5.0, 10.0)),
        "model.cosine": Choice((False, True)),
        "model.idf_weight": Choice((0.0, 0.5, 1.0, 2.0)),
    },
    "stan": {
        **_NEIGHBOURS,
        "model.prefix_scale": Choice((0.5, 1.0, 2.0, 3.0, 5.0, 10.0)),
        "model.age_scale": Choice((5.0, 10.0, 20.0, 50.0, 100.0)),
        "model.gap_scale": Choice((2.0, 5.0, 10.0, 20.0, 40.0)),
    },
    "vstan": {
        **_NEIGHBOURS,
        "model.prefix_scale": Choice((0.5, 1.0, 2.0, 3.0, 5.0, 10.0)),
        "model.age_scale": Choice((5.0, 10.0, 20.0, 50.0, 100.0)),
        "model.gap_scale": Choice((2.0, 5.0, 10.0, 20.0, 40.0)),
        "model.match_scale": Choice((1.0, 2.0, 5.0, 10.0)),
        "model.cosine": Choice((False, True)),
        "model.idf_weight": Choice((0.0, 0.5, 1.0, 2.0)),
    },
}
"""Search spaces by the model's name. Every registered model has one; a test holds that."""

"""`sr`: sequential rules, what came how soon after an item in the training sessions. Training-free.

Dimension letters: B sessions, V catalogue + 1.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.models.base import ModelSizes, TrainingData
from mkmsr.models.entry import Choice, ModelEntry
from mkmsr.models.neighbours.rule_table import RuleTable, strongest, summed_pairs
from mkmsr.models.neighbours.voting import VOTING_SPACE, Decay, DecayKind, Votes, VotingConfig, VotingModel

__all__ = ["ENTRY", "SequentialRules", "SequentialRulesConfig", "sequential_pairs"]

_PAIRS_AT_ONCE = 8_000_000


class SequentialRulesConfig(VotingConfig):
    """Settings of sequential rules."""

    max_gap: int = Field(default=20, ge=1)
    """Pairs of events that are further apart than this many events make no rule."""
    gap_decay: DecayKind = "linear"
    """What a pair at distance x adds: 1 / x with "reciprocal", 1 - (x - 1) / max_gap with "linear"."""
    self_rules: bool = True
    """Whether an item may follow from itself."""
    most_rules: int = Field(default=100, ge=1)
    """Rules kept for an item: the heaviest."""
    prefix_scale: float = Field(default=2.0, ge=0)
    """0: rules of the last event, as published. Else earlier items count too: exp(-steps / prefix_scale)."""


class SequentialRules(VotingModel):
    r"""Score of an item: the weight of the rule (last item -> item), divided by the weight of all rules of that item.

        weight(a -> b) = sum over training sessions, over events p < q with items a and b, of 1 / (q - p)

    Source: Ludewig, Jannach, UMUAI 2018, "Evaluation of session-based recommendation algorithms".
    Differs: rules of earlier prefix items can be added with a decay (`prefix_scale`).
    """

    def __init__(self, config: SequentialRulesConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        self.config = config
        self.rules = RuleTable(sizes.num_items + 1)

    def observe(self, training: TrainingData) -> None:
        config, num_columns = self.config, self.sizes.num_items + 1
        self.remember(training.sessions)
        decay = Decay(config.gap_decay, float(config.max_gap))
        keys, weights = sequential_pairs(training.sessions, num_columns, decay, config.max_gap)
        if not config.self_rules:
            other = keys // num_columns != keys % num_columns
            keys, weights = keys[other], weights[other]
        totals = np.bincount(keys // num_columns, weights=weights, minlength=num_columns)
        self.rules.build(*strongest(keys, weights / totals[keys // num_columns], num_columns, config.most_rules))

    def votes(self, batch: SessionBatch) -> Votes:
        scale = self.config.prefix_scale
        # At 0 only the last event counts: 1 - steps / 1, cut at 0.
        return self.rules.votes(batch, Decay("linear", 1.0) if scale == 0 else Decay("exponential", scale))


def sequential_pairs(
    sessions: SessionTable, num_columns: int, decay: Decay, max_gap: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rules `antecedent * V + consequent`, rising, and their weights: one array operation for each distance."""
    items = sessions.items.astype(np.int64)
    owner = sessions.session_of_event
    distances = torch.arange(max_gap)
    by_gap = decay(distances, distances).double().numpy()
    parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for gap in range(1, min(max_gap, int(sessions.lengths.max(initial=1)) - 1) + 1):
        same = owner[gap:] == owner[:-gap]
        found = items[:-gap][same] * num_columns + items[gap:][same]
        parts.append((found, np.full(len(found), by_gap[gap - 1])))
        if sum(len(keys) for keys, _ in parts) > _PAIRS_AT_ONCE:
            parts = [_summed(parts)]  # memory stays near the distinct pairs
    return _summed(parts)


def _summed(
    parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    none = np.zeros(0, np.int64), np.zeros(0)
    keys, weights = (np.concatenate(each) for each in zip(none, *parts, strict=True))
    return summed_pairs(keys, weights)


ENTRY = ModelEntry(
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
)

"""Sequential rules against a literal count, and what their settings do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mkmsr.data.batching import SessionBatch
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable, SessionTable
from mkmsr.models.base import ModelSizes, TrainingData
from mkmsr.models.neighbours.rules import SequentialRules
from mkmsr.models.registry import model_entry

NUM_ITEMS = 6
PLAIN = {
    "reminders": False,
    "own_votes": 1.0,
    "tie_break": "none",
    "prefix_scale": 0.0,
    "gap_decay": "reciprocal",
    "max_gap": 10,
    "self_rules": True,
    "most_rules": 100,
}


def fitted(sessions: list[list[int]], **values: object) -> SequentialRules:
    items = np.array([item for each in sessions for item in each], np.int32)
    offsets = np.cumsum([0, *(len(each) for each in sessions)]).astype(np.int64)
    table = SessionTable(items, np.ones(len(items), np.int16), offsets, np.arange(len(items), dtype=np.int64))
    entry = model_entry("sr")
    model = entry.build(entry.configure({**PLAIN, **values}), ModelSizes(NUM_ITEMS, 1))
    model.observe(TrainingData(table, ExampleTable.from_sessions(table), KnowledgeGraph.empty(NUM_ITEMS)))
    assert isinstance(model, SequentialRules)
    return model


def scores_of(model: SequentialRules, *prefixes: list[int]) -> np.ndarray:
    batch = SessionBatch.from_sequences([(each, [1] * len(each)) for each in prefixes])
    return model.score(batch)[:, 1:].numpy()


def slow_rules(sessions: list[list[int]], max_gap: int) -> np.ndarray:
    """weight(a -> b), event pair by event pair, each row divided by its sum."""
    weights = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for session in sessions:
        for p, first in enumerate(session):
            for q in range(p + 1, min(len(session), p + max_gap + 1)):
                weights[first - 1, session[q] - 1] += 1 / (q - p)
    totals = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)


def to_highest(row: np.ndarray) -> np.ndarray:
    return row / row.max() if row.max() > 0 else row


logs = st.lists(st.lists(st.integers(1, NUM_ITEMS), max_size=9), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(logs, st.integers(1, 10))
def test_a_score_is_the_weight_of_the_rule_from_the_last_item(sessions: list[list[int]], max_gap: int) -> None:
    model = fitted(sessions, max_gap=max_gap)
    rules = slow_rules(sessions, max_gap)
    for item in range(1, NUM_ITEMS + 1):
        expected = to_highest(rules[item - 1])
        np.testing.assert_allclose(scores_of(model, [3, item])[0], expected, rtol=1e-5, atol=1e-6)


def test_earlier_items_count_with_a_decay_where_asked() -> None:
    sessions = [[1, 2, 3, 4], [2, 5, 1], [3, 3, 6]]
    rules = slow_rules(sessions, 10)
    expected = rules[1] + np.exp(-1 / 2) * rules[0] + np.exp(-3 / 2) * rules[2]
    found = scores_of(fitted(sessions, prefix_scale=2.0), [3, 2, 1, 2])[0]
    np.testing.assert_allclose(found, to_highest(expected), rtol=1e-5, atol=1e-6)


def test_an_item_need_not_follow_from_itself() -> None:
    sessions = [[1, 1, 1, 2]]
    assert scores_of(fitted(sessions), [1])[0].argmax() == 0
    assert scores_of(fitted(sessions, self_rules=False), [1])[0].tolist() == [0, 1, 0, 0, 0, 0]


def test_only_the_heaviest_rules_are_kept() -> None:
    model = fitted([[1, 2], [1, 2], [1, 3], [1, 3], [1, 4], [5, 6]], most_rules=2)
    assert scores_of(model, [1])[0].nonzero()[0].tolist() == [1, 2]
    assert model.rules.rows.diff().tolist() == [0, 2, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(("decay", "expected"), [("none", [0, 1, 1, 1]), ("linear", [0, 1, 2 / 3, 1 / 3])])
def test_distance_counts_as_chosen(decay: str, expected: list[float]) -> None:
    found = scores_of(fitted([[1, 2, 3, 4]], gap_decay=decay, max_gap=3), [1])[0]
    np.testing.assert_allclose(found[:4], expected, rtol=1e-6)


def test_an_unknown_last_item_names_nothing() -> None:
    assert not scores_of(fitted([[1, 2]]), [1, 6]).any()
    assert not scores_of(fitted([[1]]), [1]).any()

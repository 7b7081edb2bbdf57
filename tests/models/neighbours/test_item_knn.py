"""Item neighbours against a literal count of shared sessions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mkmsr.data.batching import SessionBatch
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable, SessionTable
from mkmsr.models.base import ModelSizes, TrainingData
from mkmsr.models.neighbours import rules
from mkmsr.models.neighbours.rules import ItemKNN
from mkmsr.models.registry import model_entry

NUM_ITEMS = 7
PLAIN = {"reminders": False, "own_votes": 1.0, "tie_break": "none", "prefix_scale": 0.0, "neighbours": 100}


def fitted(sessions: list[list[int]], **values: object) -> ItemKNN:
    items = np.array([item for each in sessions for item in each], np.int32)
    offsets = np.cumsum([0, *(len(each) for each in sessions)]).astype(np.int64)
    table = SessionTable(items, np.ones(len(items), np.int16), offsets, np.arange(len(items), dtype=np.int64))
    entry = model_entry("item-knn")
    model = entry.build(entry.configure({**PLAIN, **values}), ModelSizes(NUM_ITEMS, 1))
    model.observe(TrainingData(table, ExampleTable.from_sessions(table), KnowledgeGraph.empty(NUM_ITEMS)))
    assert isinstance(model, ItemKNN)
    return model


def scores_of(model: ItemKNN, *prefixes: list[int]) -> np.ndarray:
    batch = SessionBatch.from_sequences([(each, [1] * len(each)) for each in prefixes])
    return model.score(batch)[:, 1:].numpy()


def slow_similarities(sessions: list[list[int]], regularisation: float, balance: float) -> np.ndarray:
    """Shared sessions over damped counts, item pair by item pair."""
    similarity = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for i in range(1, NUM_ITEMS + 1):
        for j in range(1, NUM_ITEMS + 1):
            together = sum(i in each and j in each for each in sessions)
            if i == j or together == 0:
                continue
            of_i = sum(i in each for each in sessions) + regularisation
            of_j = sum(j in each for each in sessions) + regularisation
            similarity[i - 1, j - 1] = together / (of_i**balance * of_j ** (1 - balance))
    return similarity


def to_highest(row: np.ndarray) -> np.ndarray:
    return row / row.max() if row.max() > 0 else row


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, NUM_ITEMS), max_size=6), min_size=1, max_size=10),
    st.sampled_from([0.0, 1.0, 20.0]),
    st.sampled_from([0.0, 0.5, 0.8]),
)
def test_a_score_is_the_similarity_with_the_last_item(
    sessions: list[list[int]], regularisation: float, balance: float
) -> None:
    model = fitted(sessions, regularisation=regularisation, balance=balance)
    expected = slow_similarities(sessions, regularisation, balance)
    for item in range(1, NUM_ITEMS + 1):
        found = scores_of(model, [2, item])[0]
        np.testing.assert_allclose(found, to_highest(expected[item - 1]), rtol=1e-5, atol=1e-6)


def test_earlier_items_count_with_a_decay_where_asked() -> None:
    sessions = [[1, 2, 3, 4], [2, 5, 1], [3, 3, 6]]
    similarity = slow_similarities(sessions, 1.0, 0.5)
    expected = similarity[1] + np.exp(-1 / 3) * similarity[0] + np.exp(-2 / 3) * similarity[2]
    found = scores_of(fitted(sessions, prefix_scale=3.0, regularisation=1.0, balance=0.5), [3, 1, 2])[0]
    np.testing.assert_allclose(found, to_highest(expected), rtol=1e-5, atol=1e-6)


def test_only_the_nearest_items_are_kept() -> None:
    model = fitted([[1, 2], [1, 2], [1, 3], [1, 3], [1, 4]], neighbours=2, regularisation=20.0)
    assert scores_of(model, [1])[0].nonzero()[0].tolist() == [1, 2]


def test_the_size_of_a_block_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    sessions = [rng.integers(1, NUM_ITEMS + 1, size=5).tolist() for _ in range(30)]
    whole = fitted(sessions).rules
    monkeypatch.setattr(rules, "_PRODUCTS_AT_ONCE", 7)
    parts = fitted(sessions).rules
    assert whole.rows.tolist() == parts.rows.tolist()
    assert whole.columns.tolist() == parts.columns.tolist()
    assert whole.values.tolist() == parts.values.tolist()

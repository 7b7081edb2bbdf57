"""The training-free baselines against their one-line definitions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from mkmsr.data.batching import SessionBatch
from mkmsr.models.base import ModelSizes, SessionModel, TrainingData
from mkmsr.models.registry import model_entry

SEQUENCES = [([3, 1, 3, 2], [1, 1, 2, 1]), ([7], [1]), ([5, 5, 5, 6], [1, 2, 3, 1])]


@pytest.fixture(scope="module")
def counts(small_training: TrainingData) -> Counter[int]:
    return Counter(small_training.sessions.items.tolist())


def observed(name: str, training: TrainingData, sizes: ModelSizes, **settings: Any) -> SessionModel:
    entry = model_entry(name)
    model = entry.build(entry.configure(settings), sizes)
    model.observe(training)
    return model


def test_pop_scores_an_item_by_its_training_events(
    small_training: TrainingData, small_sizes: ModelSizes, counts: Counter[int]
) -> None:
    scores = observed("pop", small_training, small_sizes).score(SessionBatch.from_sequences(SEQUENCES))
    expected = [float(counts[item]) for item in range(1, small_sizes.num_items + 1)]
    assert scores[:, 1:].tolist() == [expected] * len(SEQUENCES)


def test_s_pop_orders_by_count_in_the_prefix_then_by_popularity(
    small_training: TrainingData, small_sizes: ModelSizes, counts: Counter[int]
) -> None:
    scores = observed("s-pop", small_training, small_sizes).score(SessionBatch.from_sequences(SEQUENCES))
    for row, (items, _) in zip(scores.tolist(), SEQUENCES, strict=True):
        keys = {item: (items.count(item), counts[item]) for item in range(1, small_sizes.num_items + 1)}
        for one, key in keys.items():
            for other, other_key in keys.items():
                assert (row[one] > row[other]) == (key > other_key)


@pytest.mark.parametrize("rest", ["none", "popularity"])
def test_recency_puts_the_items_of_the_prefix_first_newest_on_top(
    small_training: TrainingData, small_sizes: ModelSizes, counts: Counter[int], rest: str
) -> None:
    model = observed("recency", small_training, small_sizes, rest=rest)
    scores = model.score(SessionBatch.from_sequences(SEQUENCES))
    for row, (items, _) in zip(scores, SEQUENCES, strict=True):
        newest_first = list(dict.fromkeys(items[::-1]))
        assert row.argsort(descending=True)[: len(newest_first)].tolist() == newest_first
        others = [item for item in range(1, small_sizes.num_items + 1) if item not in items]
        expected = [counts[item] / (max(counts.values()) + 1) if rest == "popularity" else 0.0 for item in others]
        torch.testing.assert_close(row[others], torch.tensor(expected))


def test_an_item_that_training_never_saw_has_no_popularity(small_training: TrainingData) -> None:
    larger = ModelSizes(num_items=14, num_operations=3)
    scores = observed("pop", small_training, larger).score(SessionBatch.from_sequences(SEQUENCES))
    assert scores.shape == (3, 15)
    assert not scores[:, 13:].any()

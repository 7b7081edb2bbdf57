"""COMPASS's evidence of similar sessions against its formula."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from small_shop import fitted, small_shop

from mkmsr.data.batching import SessionBatch, collate
from mkmsr.data.sessions import SessionTable
from mkmsr.models.compass.model import Compass
from mkmsr.models.compass.similar_sessions import SimilarSessions
from mkmsr.models.neighbours.voting import Votes

TRAINING = [[1, 2, 3], [1, 2, 4, 2], [2, 5], [6, 3], [1, 4, 6]]


def table(sessions: list[list[int]]) -> SessionTable:
    items = np.array([item for each in sessions for item in each], np.int32)
    lengths = [len(each) for each in sessions]
    times = np.repeat(np.arange(len(sessions)), lengths).astype(np.int64)
    return SessionTable(items, np.ones(len(items), np.int16), np.cumsum([0, *lengths]).astype(np.int64), times)


def literal_evidence(prefix: list[int], sessions: list[list[int]]) -> dict[int, float]:
    counts: Counter[int] = Counter()
    for each in sessions:
        shared = len(set(prefix) & set(each))
        counts.update({item: shared for item in set(each) - set(prefix) if shared})
    return {item: math.log(1 + count) for item, count in counts.items()}


def similar(sessions: list[list[int]] = TRAINING) -> SimilarSessions:
    layer = SimilarSessions(100, 1000, 8)
    layer.index.build(table(sessions))
    return layer.eval()


@pytest.mark.parametrize("prefix", [[1, 2], [2], [3, 6, 3], [5, 1, 4], [7]])
def test_evidence_counts_what_stood_beside_the_items_of_the_session(prefix: list[int]) -> None:
    batch = SessionBatch.from_sequences([(prefix, [1] * len(prefix)), ([6], [1])])
    rows, items, values = similar().look_up(batch)[1]
    found = {int(item): float(value) for row, item, value in zip(rows, items, values, strict=True) if row == 0}
    assert found == pytest.approx(literal_evidence(prefix, TRAINING))


def test_in_training_nobody_is_asked() -> None:
    shop = small_shop()
    _, model = fitted("compass", shop, dim=8)
    assert isinstance(model, Compass)
    model.similar.index.items = torch.zeros(0, dtype=torch.int64)  # Any look-up would fail.
    assert model.train().log_likelihood(collate(shop.examples(shop.train), np.arange(30))).isfinite().all()


def test_votes_outside_some_pairs() -> None:
    votes = Votes(torch.tensor([0, 0, 1, 2]), torch.tensor([3, 4, 3, 3]), torch.tensor([0.1, 0.2, 0.3, 0.4]))
    found = votes.outside(torch.tensor([0, 2, 2]), torch.tensor([3, 4, 5]), 6)
    assert (found.rows.tolist(), found.items.tolist()) == ([0, 1, 2], [4, 3, 3])
    assert found.weights.tolist() == pytest.approx([0.2, 0.3, 0.4])

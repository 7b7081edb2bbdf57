"""eSASRec's gated blocks against the formula, event by event."""

from __future__ import annotations

import numpy as np
import pytest

from mkmsr.models.esasrec import ESASRec, GatedBlock
from tests.models.small_sessions import SEQUENCES, array, scores_of, small_model
from tests.models.test_sasrec import attended, linear, normalised, states_by_hand


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def block_by_hand(block: GatedBlock, x: list[np.ndarray]) -> list[np.ndarray]:
    result = []
    for x_t, attention in zip(x, attended(block, x), strict=True):
        y = x_t + sigmoid(linear(block.attention_gate, x_t)) * linear(block.from_heads, attention)
        normed = normalised(block.dense_norm, y)
        wide = linear(block.widen, normed)
        dense = linear(block.narrow, wide * sigmoid(wide) * linear(block.widen_linearly, normed))
        result.append(y + sigmoid(linear(block.dense_gate, y)) * dense)
    return result


@pytest.mark.parametrize("heads", [1, 2])
def test_scores_are_products_of_the_newest_events_state(heads: int) -> None:
    model = small_model("esasrec", heads=heads, blocks=2, max_events=3, scorer="dot")
    assert isinstance(model, ESASRec)
    assert all(isinstance(block, GatedBlock) for block in model.blocks)
    table = array(model.items.weight)
    newest = [states_by_hand(model, items, block_by_hand)[-1] for items, _ in SEQUENCES]
    expected = [table[1:] @ normalised(model.norm, state) for state in newest]
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-8)

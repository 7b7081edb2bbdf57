"""SASRec against a causal transformer written out, and the sequences that its prefixes share."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.session_graph import build_prefix_tree
from mkmsr.errors import ConfigError
from mkmsr.models.registry import model_entry
from mkmsr.models.sasrec import CausalBlock, SASRec, longest_sequences
from tests.models.small_sessions import SEQUENCES, array, scores_of, small_model


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return array(layer.weight) @ x + array(layer.bias)


def normalised(layer: nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    scaled = (x - x.mean()) / np.sqrt(x.var() + layer.eps)
    return scaled * array(layer.weight) + array(layer.bias)


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([each * 0.5 * (1 + math.erf(each / math.sqrt(2))) for each in x])


def attended(block: CausalBlock, x: list[np.ndarray]) -> list[np.ndarray]:
    """What attention gathers for each event of one sequence, head by head, before the last map."""
    packed = [linear(block.to_query_key_value, normalised(block.attention_norm, each)) for each in x]
    result = []
    for t in range(len(x)):
        heads = []
        for head in range(block.heads):
            query, keys, values = (
                [np.split(np.split(each, 3)[part], block.heads)[head] for each in packed] for part in range(3)
            )
            powers = np.exp([query[t] @ keys[u] / math.sqrt(len(query[t])) for u in range(t + 1)])
            heads.append(sum(powers[u] * values[u] for u in range(t + 1)) / powers.sum())
        result.append(np.concatenate(heads))
    return result


def block_by_hand(block: CausalBlock, x: list[np.ndarray]) -> list[np.ndarray]:
    """One block over one sequence, event by event."""
    result = []
    for x_t, attention in zip(x, attended(block, x), strict=True):
        y = x_t + linear(block.from_heads, attention)
        result.append(y + linear(block.narrow, gelu(linear(block.widen, normalised(block.dense_norm, y)))))
    return result


def states_by_hand(model: SASRec, items: list[int], block_by_hand: Callable[..., list[np.ndarray]]) -> list[np.ndarray]:
    """The states of one sequence behind all blocks of a model of three places; `block_by_hand` writes out one block."""
    table, places = array(model.items.weight), array(model.places.weight)
    x = [table[item] + places[min(t, 2)] for t, item in enumerate(items)]
    for block in model.blocks:
        x = block_by_hand(block, x)
    return x


@pytest.mark.parametrize("heads", [1, 2])
def test_scores_are_products_of_the_newest_events_state(heads: int) -> None:
    model = small_model("sasrec", heads=heads, blocks=2, max_events=3, scorer="dot")
    assert isinstance(model, SASRec)
    assert all(isinstance(block, CausalBlock) for block in model.blocks)
    table = array(model.items.weight)
    newest = [states_by_hand(model, items, block_by_hand)[-1] for items, _ in SEQUENCES]
    expected = [table[1:] @ normalised(model.norm, state) for state in newest]
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-8)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=6), min_size=1, max_size=12))
def test_each_prefix_finds_its_own_history_among_the_shared_sequences(sequences: list[list[int]]) -> None:
    batch = SessionBatch.from_sequences([(items, [1] * len(items)) for items in sequences])
    events, shared = longest_sequences(build_prefix_tree(batch.items, batch.offsets), batch)
    for items, place in zip(sequences, shared[batch.last].tolist(), strict=True):
        event = int(events[place])
        begin = int(batch.offsets[batch.rows[event]])
        assert batch.items[begin : event + 1].tolist() == items
    kept = {int(row) for row in batch.rows[events]}
    leaves = {tuple(a) for a in sequences if not any(len(b) > len(a) and b[: len(a)] == a for b in sequences)}
    assert len(kept) == len(leaves)
    assert len(events) == sum(map(len, leaves))


def test_the_prefixes_of_one_session_cost_one_sequence() -> None:
    session = [4, 2, 2, 7, 1]
    batch = SessionBatch.from_sequences([(session[:stop], [1] * stop) for stop in range(1, 6)])
    events, _ = longest_sequences(build_prefix_tree(batch.items, batch.offsets), batch)
    assert len(events) == 5
    assert len(batch.items) == 15


def test_shared_states_have_the_gradients_of_states_of_their_own() -> None:
    torch.manual_seed(0)
    model = small_model("sasrec")
    session, operations = [4, 2, 2, 7, 1], [1] * 5
    prefixes = [(session[:stop], operations[:stop]) for stop in range(1, 6)]
    gradients = []
    for batches in ([prefixes], [[each] for each in prefixes]):
        model.zero_grad()
        for batch in batches:
            model.score(SessionBatch.from_sequences(batch))[:, 1:].square().sum().backward()
        gradients.append([array(each.grad) for each in model.parameters() if each.grad is not None])
    for shared, alone in zip(*gradients, strict=True):
        np.testing.assert_allclose(shared, alone, rtol=1e-8, atol=1e-10)


def test_heads_must_divide_the_vector() -> None:
    with pytest.raises(ConfigError, match="dim must be a multiple of heads; 100 is not one of 3"):
        model_entry("sasrec").configure({"heads": 3})

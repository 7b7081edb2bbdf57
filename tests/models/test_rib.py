"""RIB against its formulae, and what it takes from Word2Vec."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable
from mkmsr.errors import ConfigError
from mkmsr.models.base import ModelSizes, TrainingData
from mkmsr.models.registry import model_entry
from mkmsr.models.rib import RIB
from tests.conftest import session_table
from tests.models.small_sessions import SEQUENCES, array, scores_of, small_model
from tests.oracles import gru

SIZES = ModelSizes(num_items=20, num_operations=2)


def two_worlds() -> TrainingData:
    """Sessions within items 1-8 or within items 9-16, never across; items 17-20 do not occur."""
    rng = np.random.default_rng(0)
    walks = [rng.integers(1, 9, size=6) + 8 * (number % 2) for number in range(300)]
    sessions = session_table(*([(int(item), 1) for item in walk] for walk in walks))
    return TrainingData(sessions, ExampleTable.from_sessions(sessions), KnowledgeGraph.empty(20))


def build(seed: int, **settings: object) -> RIB:
    torch.manual_seed(seed)
    entry = model_entry("rib")
    model = entry.build(entry.configure({"dim": 8, **settings}), SIZES)
    assert isinstance(model, RIB)
    return model


@pytest.mark.parametrize("tied", [False, True])
def test_scores_are_products_of_the_attended_states(tied: bool) -> None:
    model = small_model("rib", tied=tied)
    assert isinstance(model, RIB)
    items_table, operations_table = array(model.items.weight), array(model.operations.weight)
    outputs = items_table if tied else array(model.outputs.weight)
    w_m, b_m, w = array(model.attention_hidden.weight), array(model.attention_hidden.bias), array(model.attention)
    expected = []
    for items, operations in SEQUENCES:
        e = np.concatenate([items_table[items], operations_table[operations]], axis=1)
        h = gru(model.gru, e, range(len(e)))
        powers = [np.exp(w @ np.tanh(w_m @ h_t + b_m)) for h_t in h]
        s = sum(power * h_t for power, h_t in zip(powers, h, strict=True)) / sum(powers)
        expected.append(outputs[1:] @ s)
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-10)


def test_word2vec_brings_items_of_the_same_sessions_together() -> None:
    pytest.importorskip("gensim")
    model = build(0, word2vec_epochs=50)
    model.observe(two_worlds())
    vectors = torch.nn.functional.normalize(model.items.weight.detach()[1:17], dim=1)
    cosines = vectors @ vectors.T
    within = (cosines[:8, :8].sum() - 8 + cosines[8:, 8:].sum() - 8) / (2 * 56)
    assert within - cosines[:8, 8:].mean() > 0.3


def test_word2vec_gives_the_same_vectors_for_the_same_seed() -> None:
    pytest.importorskip("gensim")
    first, second, other = build(1), build(1), build(2)
    torch.manual_seed(1)
    first.observe(two_worlds())
    second.observe(two_worlds())
    torch.manual_seed(2)
    other.observe(two_worlds())
    assert torch.equal(first.items.weight, second.items.weight)
    assert not torch.equal(first.items.weight, other.items.weight)


def test_what_does_not_occur_in_training_keeps_its_first_vector() -> None:
    pytest.importorskip("gensim")
    model = build(3)
    before = model.items.weight.detach().clone()
    model.observe(two_worlds())
    assert torch.equal(model.items.weight[17:], before[17:])
    assert not model.items.weight[0].any()
    assert (model.items.weight[1:17] != before[1:17]).any(dim=1).all()


def test_without_gensim_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(ConfigError, match=r"pip install 'mkmsr\[word2vec\]'"):
        build(4).observe(two_worlds())
    build(4, word2vec=False).observe(two_worlds())

"""NARM against its formulae written out."""

from __future__ import annotations

import numpy as np
import torch

from mkmsr.models.narm import NARM
from tests.models.small_sessions import SEQUENCES, array, scores_of, small_batch, small_model
from tests.oracles import gru, sigmoid


def test_scores_are_bilinear_in_the_last_state_and_the_attended_ones() -> None:
    model = small_model("narm")
    assert isinstance(model, NARM)
    table = array(model.items.weight)
    a1, a2, v = array(model.of_last.weight), array(model.of_each.weight), array(model.attention)
    expected = []
    for items, _ in SEQUENCES:
        h = gru(model.gru, table, items)
        local = sum((v @ sigmoid(a1 @ h[-1] + a2 @ h_t)) * h_t for h_t in h)
        expected.append(table[1:] @ array(model.bilinear.weight) @ np.concatenate([h[-1], local]))
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-10)


def test_both_dropouts_act_in_training_alone() -> None:
    model = small_model("narm")
    model.train()
    first, second = model.score(small_batch()), model.score(small_batch())
    assert not torch.allclose(first, second)
    assert np.array_equal(scores_of(model.eval()), scores_of(model))

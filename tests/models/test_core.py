"""CORE against its formula, session by session."""

from __future__ import annotations

import numpy as np
import torch

from mkmsr.models.core import CORE
from mkmsr.models.sasrec import CausalBlock
from tests.models.small_sessions import SEQUENCES, array, scores_of, small_batch, small_model
from tests.models.test_sasrec import block_by_hand, normalised, states_by_hand


def core() -> CORE:
    model = small_model("core", heads=2, blocks=2, max_events=3)
    assert isinstance(model, CORE)
    return model


def test_a_session_is_a_weighted_mean_of_its_items_compared_by_cosine() -> None:
    model = core()
    assert all(isinstance(block, CausalBlock) for block in model.blocks)
    table = array(model.items.weight)
    expected = []
    for items, _ in SEQUENCES:
        x = states_by_hand(model, items, block_by_hand)
        powers = np.exp([array(model.weigh.weight)[0] @ normalised(model.norm, each) for each in x])
        s = sum(power * table[item] for power, item in zip(powers / powers.sum(), items, strict=True))
        lengths = np.linalg.norm(table[1:], axis=1) * np.linalg.norm(s)
        expected.append(np.exp(array(model.log_scale)) * (table[1:] @ s) / lengths)
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-8)


def test_the_items_that_are_scored_are_dropped_out_in_training_alone() -> None:
    model = core()
    assert torch.equal(model.output_table(), model.items.weight)
    assert not torch.equal(model.train().output_table(), model.items.weight)
    assert model.session_vectors(small_batch()).shape == (len(SEQUENCES), 6)

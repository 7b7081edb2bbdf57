"""FPMC against its formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mkmsr.models.fpmc import FPMC
from tests.models.small_sessions import SEQUENCES, SIZES, array, scores_of, small_model


@pytest.mark.parametrize("basket", ["last", "prefix"])
def test_a_score_is_the_mean_transition_from_the_basket(basket: str) -> None:
    model = small_model("fpmc", basket=basket)
    assert isinstance(model, FPMC)
    following, leaving = array(model.next_items.weight), array(model.last_items.weight)
    expected = np.zeros((len(SEQUENCES), SIZES.num_items))
    for row, (items, _) in enumerate(SEQUENCES):
        start = items[-1:] if basket == "last" else items
        for item in range(1, SIZES.num_items + 1):
            expected[row, item - 1] = sum(following[item] @ leaving[each] for each in start) / len(start)
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-10)


def test_only_the_newest_item_counts_by_default() -> None:
    scores = scores_of(small_model("fpmc"))
    assert np.array_equal(scores[2], scores[3])  # both prefixes end with item 5


def test_factors_start_with_the_chosen_spread() -> None:
    model = small_model("fpmc", dim=1000, spread=0.5)
    assert isinstance(model, FPMC)
    assert float(model.next_items.weight.detach()[1:].std()) == pytest.approx(1.5, rel=0.05)  # times 3 in these tests
    assert torch.equal(model.next_items.weight[0], torch.zeros(1000, dtype=torch.float64))

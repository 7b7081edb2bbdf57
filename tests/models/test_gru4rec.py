"""GRU4REC against a GRU run event by event."""

from __future__ import annotations

import numpy as np
import pytest

from mkmsr.errors import ConfigError
from mkmsr.models.gru4rec import GRU4Rec
from mkmsr.models.registry import model_entry
from tests.models.small_sessions import SEQUENCES, array, scores_of, small_model
from tests.oracles import gru


@pytest.mark.parametrize("name", ["gru4rec-ce", "gru4rec-bpr", "gru4rec"])
def test_scores_are_products_of_the_last_state(name: str) -> None:
    model = small_model(name, scorer="dot")
    assert isinstance(model, GRU4Rec)
    table = array(model.items.weight)
    outputs = table if name == "gru4rec" else array(model.outputs.weight)
    expected = [outputs[1:] @ gru(model.gru, table, items)[-1] for items, _ in SEQUENCES]
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-10)


def test_a_cosine_is_the_product_of_normalised_vectors_times_the_scale() -> None:
    model = small_model("gru4rec", scorer="cosine", scale=2.0)
    assert isinstance(model, GRU4Rec)
    table = array(model.items.weight)
    for row, (items, _) in enumerate(SEQUENCES):
        state = gru(model.gru, table, items)[-1]
        cosines = table[1:] @ state / np.linalg.norm(table[1:], axis=1) / np.linalg.norm(state)
        scale = 2.0**3  # the tests' models have all weights times 3, here the logarithm of the scale
        np.testing.assert_allclose(scores_of(model)[row], scale * cosines, rtol=1e-6)


def test_the_well_made_form_has_one_item_table() -> None:
    shapes = [tuple(each.shape) for each in small_model("gru4rec").parameters()]
    assert shapes.count((10, 6)) == 1
    assert [tuple(each.shape) for each in small_model("gru4rec-ce").parameters()].count((10, 6)) == 2


def test_a_name_cannot_be_given_the_other_ones_tables() -> None:
    with pytest.raises(ConfigError, match=r"model\.tied: this model is defined by tied = False"):
        model_entry("gru4rec-ce").configure({"tied": True})

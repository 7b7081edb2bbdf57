"""What the item networks share: both kinds of score, rows of the catalogue, dropout of distinct items."""

from __future__ import annotations

import pytest
import torch

from mkmsr.models.base import FactorisedModel
from mkmsr.models.item_network import ItemNetwork, ItemNetworkConfig
from mkmsr.models.registry import MODELS
from tests.models.small_sessions import small_batch, small_model

NETWORKS = [name for name, entry in MODELS.items() if issubclass(entry.config, ItemNetworkConfig)]
PRODUCTS = [name for name in NETWORKS if name != "repeatnet"]  # whose scores are products with item vectors alone


def network(name: str, **settings: object) -> ItemNetwork:
    model = small_model(name, **settings)
    assert isinstance(model, ItemNetwork)
    return model


@pytest.mark.parametrize("scorer", ["dot", "cosine"])
@pytest.mark.parametrize("name", [*NETWORKS, "fpmc"])
def test_some_item_vectors_are_those_rows_of_the_catalogue(name: str, scorer: str) -> None:
    model = small_model(name, **({} if name == "fpmc" else {"scorer": scorer}))
    assert isinstance(model, FactorisedModel)
    items = torch.tensor([4, 1, 9, 4])
    torch.testing.assert_close(model.item_vectors(items), model.catalogue()[items])


@pytest.mark.parametrize("name", PRODUCTS)
def test_cosine_scores_lie_within_the_scale(name: str) -> None:
    model = network(name, scorer="cosine")
    scale = float(model.log_scale.detach().exp())
    scores = model.score(small_batch())[:, 1:]
    assert scores.abs().max() <= scale * (1 + 1e-9)
    lengths = model.catalogue()[1:].norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_length_of_an_item_vector_changes_dot_scores_and_not_cosines(name: str) -> None:
    for scorer, changes in (("dot", True), ("cosine", False)):
        model = network(name, scorer=scorer)
        before = model.score(small_batch())
        with torch.no_grad():
            model.output_table()[9] *= 2  # Item 9 occurs in no session.
        after = model.score(small_batch())
        assert torch.allclose(before[:, 9], after[:, 9]) != changes
        torch.testing.assert_close(before[:, 1:9], after[:, 1:9])


def test_a_dropped_component_is_dropped_in_every_event_of_an_item() -> None:
    model = network("stamp", dropout=0.5).train()
    vectors, row_of_event = model.distinct_items(small_batch())
    assert (vectors == 0).any()
    assert len(vectors) == len(small_batch().items.unique())
    assert torch.equal(small_batch().items.unique()[row_of_event], small_batch().items)


@pytest.mark.parametrize("name", NETWORKS)
def test_biases_start_at_zero_and_weights_do_not(name: str) -> None:
    parameters = dict(network(name).named_parameters())
    assert [each for each, value in parameters.items() if bool((value == 0).all()) != each.endswith("bias")] == []


def test_biases_can_start_like_weights() -> None:
    parameters = dict(network("stamp", bias_start="uniform").named_parameters())
    biases = [value for name, value in parameters.items() if name.endswith("bias")]
    assert biases
    assert all(bool((value != 0).any()) for value in biases)

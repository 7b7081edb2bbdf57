"""Ids count, after training, for what they were on average in training."""

from __future__ import annotations

import torch

from mkmsr.models.compass.item_vectors import ComposedVectors


def test_an_id_counts_for_its_mean_over_training_steps() -> None:
    torch.manual_seed(0)
    layer = ComposedVectors(6, 3, 1, 4, id_dropout=0.6, use_ids=True)
    layer.observe(torch.tensor([0, 1, 1, 1, 1, 1, 0]) > 0, *torch.tensor([[1, 1, 1], [2, 1, 2], [6, 1, 3]]).T)
    layer.train()
    with torch.no_grad():
        mean = torch.stack([layer() for _ in range(4_000)]).mean(0)
        some = layer.eval().rows_of(torch.tensor([2, 6]))
        assert torch.allclose(layer(), mean, atol=0.02)
        assert torch.allclose(layer()[[2, 6]], some, atol=1e-6)
    assert layer.ids is not None
    assert layer.attributes is not None
    whole = 0.4 * layer.ids.weight[2] + layer.relation_weight[1] * layer.attributes.weight[2]
    assert torch.allclose(layer()[2], whole, atol=1e-6)
    assert torch.allclose(layer()[6], layer.relation_weight[1] * layer.attributes.weight[3], atol=1e-6)


def test_weights_of_the_attributes_that_are_there_spread_like_those_of_all() -> None:
    layer = ComposedVectors(6, 3, 1, 4, id_dropout=0.6, use_ids=True)
    layer.observe(torch.ones(7) > 0, *torch.tensor([[1, 1, 1], [2, 1, 3], [6, 1, 3], [6, 1, 1], [4, 1, 2]]).T)
    items, weights, present = torch.tensor([6, 2, 5]), torch.rand(4, 5), torch.tensor([1, 3])
    assert torch.equal(layer.spread_to(items, weights[present], present=present), layer.spread_to(items, weights))

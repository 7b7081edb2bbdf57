"""Dropout by a quarter of a random number a component."""

from __future__ import annotations

import pytest
import torch

from mkmsr.layers.dropout import dropout, fixed_masks


@pytest.mark.parametrize("share", [0.1, 0.5, 0.6, 0.9])
def test_the_share_that_falls_and_the_mean_that_stays(share: float) -> None:
    torch.manual_seed(0)
    found = dropout(torch.ones(1000, 301), share, training=True)
    assert (found == 0).float().mean().item() == pytest.approx(share, abs=0.004)
    assert found.mean().item() == pytest.approx(1.0, abs=0.02)
    assert len(found.unique()) == 2


def test_components_fall_independently_of_their_neighbours_and_of_the_call_before() -> None:
    torch.manual_seed(0)
    first, second = (dropout(torch.ones(400_003), 0.5, training=True) > 0 for _ in range(2))
    for one, other in ((first[1:], first[:-1]), (first[4:], first[:-4]), (first, second)):
        assert (one == other).float().mean().item() == pytest.approx(0.5, abs=0.004)


def test_the_gradient_falls_where_the_value_fell() -> None:
    values = torch.randn(7, 5, requires_grad=True)
    found = dropout(values, 0.5, training=True)
    (gradient,) = torch.autograd.grad(found.sum(), values)
    torch.testing.assert_close(gradient * values, found)


def test_the_seed_is_its_only_chance() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(dropout(torch.ones(50, 3), 0.3, training=True))
    assert torch.equal(*found)


def test_nothing_falls_outside_of_training_or_without_a_share() -> None:
    values = torch.randn(3, 2)
    assert dropout(values, 0.5, training=False) is values
    assert dropout(values, 0.0, training=True) is values


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_graphics_card_it_is_pytorchs() -> None:
    found = dropout(torch.ones(1000, 10, device="cuda"), 0.5, training=True)
    assert (found == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("count", "share", "kept"), [(4, 0.5, 2), (8, 0.6, 3), (16, 0.25, 12), (2, 0.9, 1)])
def test_fixed_masks_keep_every_component_equally_often(count: int, share: float, kept: int) -> None:
    masks = fixed_masks(count, 57, share)
    assert masks.shape == (count, 57)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert masks.sum(0).tolist() == [kept] * 57
    assert len(masks.unique(dim=0)) == count


def test_fixed_masks_are_the_same_everywhere_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = fixed_masks(4, 9, 0.5)
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(6)
    assert torch.equal(fixed_masks(4, 9, 0.5), first)


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (4, 0.0)])
def test_one_mask_and_no_dropout_keep_everything(count: int, share: float) -> None:
    assert torch.equal(fixed_masks(count, 5, share), torch.ones(1, 5))

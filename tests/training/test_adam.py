"""Adam without the work around its kernel, against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mkmsr.layers.columns import store_by_columns
from mkmsr.training.adam import LeanAdam


def moved(kind: type[torch.optim.Adam], *, decay: float, decoupled: bool) -> tuple[list[torch.Tensor], object]:
    """Three weights after five steps, of which one has a gradient now and then and one never; and the state."""
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(size, generator=generator)) for size in ((7, 3), (5,), (2, 2))]
    optimiser = kind(weights, lr=0.1, weight_decay=decay, decoupled_weight_decay=decoupled, fused=True)
    for step in range(5):
        optimiser.zero_grad()
        for place, weight in enumerate(weights[:2]):
            if place == 0 or step % 2:
                weight.grad = torch.randn(weight.shape, generator=generator)
        for group in optimiser.param_groups:
            group["lr"] = 0.1 / (1 + step)
        optimiser.step()
    return [weight.detach() for weight in weights], optimiser.state_dict()["state"]


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("decoupled", [False, True])
def test_weights_and_state_are_those_of_pytorchs_adam_bit_for_bit(decay: float, *, decoupled: bool) -> None:
    mine, my_state = moved(LeanAdam, decay=decay, decoupled=decoupled)
    theirs, their_state = moved(torch.optim.Adam, decay=decay, decoupled=decoupled)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    torch.testing.assert_close(my_state, their_state, rtol=0, atol=0)


def test_a_weight_by_columns_moves_as_one_by_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    by_rows = nn.Parameter(torch.randn(7, 3, generator=generator))
    by_columns = nn.Parameter(by_rows.detach().clone())
    store_by_columns(by_columns)
    optimisers = [LeanAdam([each], lr=0.1, fused=True) for each in (by_rows, by_columns)]
    for step in range(5):
        gradient = torch.randn(7, 3, generator=generator)
        by_rows.grad = gradient
        by_columns.grad = gradient.clone() if step == 2 else gradient.T.contiguous().T  # Stored either way.
        for each in optimisers:
            each.step()
    assert by_columns.stride() == (1, 7)
    torch.testing.assert_close(by_rows, by_columns, rtol=1e-6, atol=0)
    moments = [each.state[weight] for each, weight in zip(optimisers, (by_rows, by_columns), strict=True)]
    torch.testing.assert_close(moments[0], moments[1], rtol=1e-6, atol=0)


def test_forgotten_gradients_are_none() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    LeanAdam([weight], fused=True).zero_grad()
    assert weight.grad is None

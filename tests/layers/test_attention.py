"""Soft attention on parts against the formulae on whole micro-behaviour vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mkmsr.layers.attention import Part, SoftAttention
from tests.oracles import attention

LENGTHS = [3, 1, 5]
ROWS = torch.repeat_interleave(torch.arange(3), torch.tensor(LENGTHS))
LAST = torch.tensor(LENGTHS).cumsum(0) - 1


def parts_of(widths: list[int]) -> list[Part]:
    """Tables of four rows each and an alias into each for every event."""
    torch.manual_seed(len(widths))
    return [Part(torch.randn(4, width, dtype=torch.float64), torch.randint(4, (len(ROWS),))) for width in widths]


def literal(layer: SoftAttention, parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    """alpha of every event and s of every session."""
    m = np.array([np.concatenate([p.table.numpy()[p.alias[t]] for p in parts]) for t in range(len(ROWS))])
    found = [attention(layer, session) for session in np.split(m, np.cumsum(LENGTHS)[:-1])]
    return np.concatenate([alphas for alphas, _ in found]), np.array([vector for _, vector in found])


@pytest.mark.parametrize("widths", [[4], [4, 3], [2, 5, 1]])
def test_alpha_and_s_are_what_the_formulae_give(widths: list[int]) -> None:
    layer, parts = SoftAttention(widths, 6).double(), parts_of(widths)
    alphas, vectors = literal(layer, parts)
    np.testing.assert_allclose(layer.weights(parts, ROWS, LAST).detach().numpy(), alphas, rtol=1e-10)
    np.testing.assert_allclose(layer(parts, ROWS, LAST).detach().numpy(), vectors, rtol=1e-10, atol=1e-12)


def test_alpha_is_not_normalised() -> None:
    layer, parts = SoftAttention([4, 3], 6).double(), parts_of([4, 3])
    with torch.no_grad():
        layer.weight.fill_(1.0)
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, ROWS, layer.weights(parts, ROWS, LAST))
    assert (sums[[0, 2]] - 1).abs().min() > 0.1


def test_gradients_are_those_of_finite_differences() -> None:
    layer, parts = SoftAttention([2, 2], 2).double(), parts_of([2, 2])
    tables = [part.table.requires_grad_() for part in parts]
    names = [name for name, _ in layer.named_parameters()]

    def vectors(first: torch.Tensor, second: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        given = [Part(first, parts[0].alias), Part(second, parts[1].alias)]
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (given, ROWS, LAST))

    assert torch.autograd.gradcheck(vectors, (*tables, *layer.parameters()))

"""Matrix products by oneDNN against PyTorch's own."""

from __future__ import annotations

import pytest
import torch

from mkmsr.layers.products import linear, padded_rows, product

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rows", [1, 15, 16, 130])
def test_a_product_is_that_of_matmul_however_its_sides_are_stored(rows: int, device: str) -> None:
    torch.manual_seed(rows)
    left, right = torch.randn(rows, 90, device=device), torch.randn(90, 250, device=device)
    expected = left @ right
    wide = torch.randn(rows, 180, device=device)
    wide[:, :90] = left
    for one in (left, left.T.contiguous().T, wide[:, :90]):
        for other in (right, right.T.contiguous().T, torch.cat([right, right], 1)[:, :250]):
            torch.testing.assert_close(product(one, other), expected, rtol=1e-5, atol=1e-4)


def test_rows_are_filled_up_to_few_sizes_and_never_by_much() -> None:
    sizes = [padded_rows(rows) for rows in range(1, 5000)]
    assert all(rows <= size < rows + max(16, rows / 8) for rows, size in enumerate(sizes, start=1))
    assert len(set(sizes)) < 130
    assert padded_rows(640) == 640


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_linear_map_and_its_gradients_are_pytorchs(device: str, *, with_bias: bool) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(601, 40, device=device, requires_grad=True)
    weight = torch.randn(70, 40, device=device, requires_grad=True)
    bias = torch.randn(70, device=device, requires_grad=True) if with_bias else None
    tensors = [each for each in (inputs, weight, bias) if each is not None]
    found, expected = linear(inputs, weight, bias), torch.nn.functional.linear(inputs, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    toward = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad(found, tensors, toward), torch.autograd.grad(expected, tensors, toward), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(linear(inputs, weight, bias), expected, rtol=1e-5, atol=1e-4)


def test_a_number_that_is_none_stays_in_its_row() -> None:
    inputs = torch.ones(601, 40)
    inputs[600] = torch.nan
    found = linear(inputs, torch.ones(70, 40))
    assert found[:600].isfinite().all()
    assert found[600].isnan().all()


def test_other_types_are_left_to_pytorch() -> None:
    inputs, weight = torch.randn(601, 40, dtype=torch.float64), torch.randn(70, 40, dtype=torch.float64)
    torch.testing.assert_close(product(inputs, weight.T), inputs @ weight.T, rtol=0, atol=0)
    torch.testing.assert_close(linear(inputs, weight), inputs @ weight.T, rtol=1e-12, atol=1e-12)

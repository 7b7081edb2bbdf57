"""Matrix products by oneDNN against PyTorch's own."""

from __future__ import annotations

import pytest
import torch

from mkmsr.layers.products import padded_rows, product

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


@pytest.mark.parametrize("device", DEVICES)
def test_a_tall_left_side_that_is_stored_by_columns_gives_rows_stored_one_after_the_other(device: str) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(128, 2000, device=device).T, torch.randn(128, 30, device=device)
    found = product(left, right)
    torch.testing.assert_close(found, left.contiguous() @ right, rtol=1e-5, atol=1e-4)
    assert found.is_contiguous()


def test_where_a_gradient_is_asked_for_it_is_given() -> None:
    left, right = torch.randn(64, 90, requires_grad=True), torch.randn(90, 250)
    (found,) = torch.autograd.grad(product(left, right).sum(), left)
    torch.testing.assert_close(found, right.sum(1).expand(64, -1), rtol=1e-4, atol=1e-4)


def test_rows_are_filled_up_to_few_sizes_and_never_by_much() -> None:
    sizes = [padded_rows(rows) for rows in range(1, 5000)]
    assert all(rows <= size < rows + max(16, rows / 8) for rows, size in enumerate(sizes, start=1))
    assert len(set(sizes)) < 130
    assert padded_rows(640) == 640


def test_other_types_are_left_to_pytorch() -> None:
    inputs, weight = torch.randn(601, 40, dtype=torch.float64), torch.randn(70, 40, dtype=torch.float64)
    torch.testing.assert_close(product(inputs, weight.T), inputs @ weight.T, rtol=0, atol=0)

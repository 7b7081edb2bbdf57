"""A table that enters a network by some rows and as a whole, and rows of norm 1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.layers.columns import store_by_columns
from mkmsr.layers.rows import rows_and_table, table_rows, unit_rows

INDEX = torch.tensor([3, 0, 3, 1])
BOTH_WAYS = pytest.mark.parametrize("by_columns", [False, True])


def planted(rows: int, *, by_columns: bool) -> Tensor:
    """A table [rows, 3] that wants a gradient, stored one way or the other."""
    table = torch.randn(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if by_columns:
        store_by_columns(table)
    return table.requires_grad_()


@BOTH_WAYS
def test_both_uses_of_a_table_meet_in_its_gradient(*, by_columns: bool) -> None:
    table = planted(5, by_columns=by_columns)

    def both(table: Tensor) -> tuple[Tensor, Tensor]:
        rows, whole = rows_and_table(table, INDEX)
        return rows.tanh(), whole.sin()

    assert torch.autograd.gradcheck(both, (table,))
    rows, whole = both(table)
    assert torch.equal(rows, table[INDEX].tanh())
    assert torch.equal(whole, table.sin())


@BOTH_WAYS
@pytest.mark.parametrize("use", [0, 1])
def test_one_use_alone_is_enough(use: int, *, by_columns: bool) -> None:
    table = planted(5, by_columns=by_columns)
    (found,) = torch.autograd.grad(rows_and_table(table, INDEX)[use].exp().sum(), table)
    (expected,) = torch.autograd.grad((table[INDEX], table)[use].exp().sum(), table)
    torch.testing.assert_close(found, expected)


def test_rows_of_a_table_by_columns_have_a_gradient_by_columns() -> None:
    table = nn.Embedding(5, 3)
    store_by_columns(table.weight)
    rows = table_rows(table, INDEX)
    assert torch.equal(rows, table.weight[INDEX])
    rows.sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.stride() == table.weight.stride() == (1, 5)
    assert table.weight.grad[:, 0].tolist() == [1, 1, 0, 2, 0]


def test_unit_rows_are_those_of_normalize_and_so_is_their_gradient() -> None:
    table = planted(6, by_columns=False)
    torch.testing.assert_close(unit_rows(table), F.normalize(table, dim=1))
    assert torch.autograd.gradcheck(unit_rows, (table,))


def test_a_row_of_zeros_stays_one_and_has_a_finite_gradient() -> None:
    table = torch.zeros(2, 3, requires_grad=True)
    found = unit_rows(table)
    assert torch.equal(found, torch.zeros(2, 3))
    (gradient,) = torch.autograd.grad(found.sum(), table)
    assert gradient.isfinite().all()

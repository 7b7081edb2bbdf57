"""A table that enters a network by some rows and as a whole, and rows of norm 1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mkmsr.layers.rows import rows_and_table, unit_rows

INDEX = torch.tensor([3, 0, 3, 1])


def test_both_uses_of_a_table_meet_in_its_gradient() -> None:
    torch.manual_seed(0)
    table = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)

    def both(table: Tensor) -> tuple[Tensor, Tensor]:
        rows, whole = rows_and_table(table, INDEX)
        return rows.tanh(), whole.sin()

    assert torch.autograd.gradcheck(both, (table,))
    rows, whole = both(table)
    assert torch.equal(rows, table[INDEX].tanh())
    assert torch.equal(whole, table.sin())


@pytest.mark.parametrize("use", [0, 1])
def test_one_use_alone_is_enough(use: int) -> None:
    table = torch.randn(5, 3, requires_grad=True)
    (found,) = torch.autograd.grad(rows_and_table(table, INDEX)[use].exp().sum(), table)
    (expected,) = torch.autograd.grad((table[INDEX], table)[use].exp().sum(), table)
    torch.testing.assert_close(found, expected)


def test_unit_rows_are_those_of_normalize_and_so_is_their_gradient() -> None:
    torch.manual_seed(0)
    table = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(unit_rows(table), F.normalize(table, dim=1))
    assert torch.autograd.gradcheck(unit_rows, (table,))


def test_a_row_of_zeros_stays_one_and_has_a_finite_gradient() -> None:
    table = torch.zeros(2, 3, requires_grad=True)
    found = unit_rows(table)
    assert torch.equal(found, torch.zeros(2, 3))
    (gradient,) = torch.autograd.grad(found.sum(), table)
    assert gradient.isfinite().all()

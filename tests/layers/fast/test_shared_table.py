"""A table that enters a network by some rows and as a whole, against its plain twin, and rows of length 1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mkmsr.layers.fast.shared_table import plain_rows_and_table, rows_and_table, unit_rows

INDEX = torch.tensor([3, 0, 3, 1])


def planted(rows: int) -> Tensor:
    table = torch.randn(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return table.requires_grad_()


def test_both_uses_of_a_table_meet_in_its_gradient() -> None:
    table = planted(5)
    found = []
    for each in (rows_and_table, plain_rows_and_table):
        rows, whole = each(table, INDEX)
        (gradient,) = torch.autograd.grad(rows.tanh().sum() + whole.sin().sum(), table)
        found.append((rows, whole, gradient))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("use", [0, 1])
def test_one_use_alone_is_enough(use: int) -> None:
    table = planted(5)
    found, expected = (
        torch.autograd.grad(each(table, INDEX)[use].exp().sum(), table)
        for each in (rows_and_table, plain_rows_and_table)
    )
    torch.testing.assert_close(found, expected)


def test_unit_rows_are_those_of_normalize_and_so_is_their_gradient() -> None:
    table = planted(6)
    torch.testing.assert_close(unit_rows(table), F.normalize(table, dim=1))
    assert torch.autograd.gradcheck(unit_rows, (table,))


def test_a_row_of_zeros_stays_one_and_has_a_finite_gradient() -> None:
    table = torch.zeros(2, 3, requires_grad=True)
    found = unit_rows(table)
    assert torch.equal(found, torch.zeros(2, 3))
    (gradient,) = torch.autograd.grad(found.sum(), table)
    assert gradient.isfinite().all()

"""Matrices stored by columns: the same object, the same numbers, another order in memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mkmsr.layers.columns import in_memory_order, is_by_columns, like_stored, store_by_columns, store_by_rows


def test_a_weight_keeps_its_numbers_and_its_holders_there_and_back() -> None:
    table = nn.Embedding(5, 3)
    weight, numbers = table.weight, table.weight.detach().clone()
    store_by_columns(weight)
    assert table.weight is weight
    assert is_by_columns(weight)
    assert torch.equal(weight, numbers)
    assert in_memory_order(weight).is_contiguous()
    assert in_memory_order(weight).shape == (3, 5)
    store_by_rows(weight)
    assert weight.is_contiguous()
    assert torch.equal(weight, numbers)


@pytest.mark.parametrize(
    "tensor", [torch.ones(3, 4), torch.ones(3, 1).T, torch.ones(4), torch.ones(()), torch.ones(4, 6)[:, ::2]]
)
def test_what_is_not_a_whole_matrix_by_columns_stays_as_it_is(tensor: torch.Tensor) -> None:
    assert not is_by_columns(tensor)
    assert in_memory_order(tensor) is tensor


def test_a_tensor_can_be_stored_as_another_is_without_a_copy_where_it_is_already() -> None:
    rows = torch.arange(6.0).reshape(2, 3)
    columns = rows.T.contiguous().T
    assert torch.equal(like_stored(rows, columns), rows)
    assert is_by_columns(like_stored(rows, columns))
    assert like_stored(columns, rows).is_contiguous()
    assert like_stored(columns, columns).data_ptr() == columns.data_ptr()
    assert like_stored(rows, rows).data_ptr() == rows.data_ptr()

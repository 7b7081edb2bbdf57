"""Rows of a table of vectors."""

from __future__ import annotations

import torch
from torch import nn

from mkmsr.layers.fast.shared_table import table_rows


def test_rows_have_a_sparse_gradient_where_the_table_asks_for_it_padding_included() -> None:
    table = nn.Embedding(5, 3, padding_idx=0)
    for sparse in (False, True):
        table.sparse, table.weight.grad = sparse, None
        rows = table_rows(table, torch.tensor([3, 0, 3]))
        assert torch.equal(rows, table.weight[[3, 0, 3]])
        rows.sum().backward()
        assert table.weight.grad is not None
        assert table.weight.grad.is_sparse == sparse
        assert table.weight.grad.to_dense()[:, 0].tolist() == [1, 0, 0, 2, 0]

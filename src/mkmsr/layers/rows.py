"""Rows of a table of vectors, with a gradient that has only these rows where the table is set to it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["table_rows"]


def table_rows(table: nn.Embedding, rows: Tensor) -> Tensor:
    """The vectors of some rows, [m, D] for rows [m]; padding rows are ordinary rows here.

    With `table.sparse` the gradient is a sparse tensor of these rows, at a cost that does not grow with the table.
    """
    return F.embedding(rows, table.weight, sparse=table.sparse)

"""Rows of a table of vectors.

Dimension letters: m chosen rows, D embedding size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def table_rows(table: nn.Embedding, rows: Tensor) -> Tensor:
    """Return the vectors of some rows, [m, D] for rows [m]; padding rows are ordinary rows here.

    With `table.sparse` the gradient is a sparse tensor of these rows, at a cost that does not grow with the table.
    """
    return F.embedding(rows, table.weight, sparse=table.sparse)

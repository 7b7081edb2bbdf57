"""A table of vectors that enters a network twice, some rows at a time and as a whole, and rows of length 1.

Dimension letters: m chosen rows, V rows, D embedding size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SHORTEST = 1e-12
"""Norms below it count as it, as in `torch.nn.functional.normalize`."""


def table_rows(table: nn.Embedding, rows: Tensor) -> Tensor:
    """Return the vectors of some rows, [m, D] for rows [m]; padding rows are ordinary rows here.

    With `table.sparse` the gradient is a sparse tensor of these rows, at a cost that does not grow with the table.
    """
    return F.embedding(rows, table.weight, sparse=table.sparse)


def rows_and_table(table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return some rows of a table [m, D], and the table itself [V, D] for a use that takes its gradient by all rows.

    The gradients of both uses meet in one array: the rows' part is added into the other's in place, where automatic
    differentiation would fill a second [V, D] array with zeros and add the two. Therefore the table that is returned
    must have one use, whose backward pass makes a new array, as that of a softmax over the catalogue does.
    """
    result: tuple[Tensor, Tensor] = _RowsAndTable.apply(table, index)  # type: ignore[no-untyped-call]
    return result


def plain_rows_and_table(table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same by its definition: the twin of `rows_and_table`."""
    return F.embedding(index, table), table


class _RowsAndTable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(index)
        ctx.size = table.shape
        ctx.set_materialize_grads(False)
        return table.index_select(0, index), table.view_as(table)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        (index,) = ctx.saved_tensors
        of_rows, of_table = gradients
        if of_rows is None:
            return of_table, None
        if of_table is None:
            of_table = of_rows.new_zeros(ctx.size)
        return of_table.index_add_(0, index, of_rows), None


def unit_rows(table: Tensor) -> Tensor:
    """Each row divided by its Euclidean norm. Shape [V, D]."""
    if not torch.is_grad_enabled():
        return _unit_rows(table)[0]
    result: Tensor = _UnitRows.apply(table)  # type: ignore[no-untyped-call]
    return result


def _unit_rows(table: Tensor) -> tuple[Tensor, Tensor]:
    """The rows [V, D] and 1 / norms [V, 1]."""
    inverse = torch.linalg.vector_norm(table, dim=1, keepdim=True).clamp_min_(_SHORTEST).reciprocal_()
    return table * inverse, inverse


class _UnitRows(torch.autograd.Function):
    """u = x / |x|:  dx = (du - (du . u) u) / |x|, in one new array."""

    @staticmethod
    def forward(ctx: Any, table: Tensor) -> Tensor:
        unit, inverse = _unit_rows(table)
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor]:
        unit, inverse = ctx.saved_tensors
        along = torch.linalg.vecdot(gradients[0], unit).unsqueeze(1)
        return (torch.addcmul(gradients[0], unit, along, value=-1).mul_(inverse),)

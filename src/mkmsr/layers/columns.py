"""Matrices stored by columns: the same numbers, of the same shape, with those of one column next to each other.

Scores of a catalogue [V, D] have a gradient by it whose product comes out by columns, [D, V], so that a table that is
stored so takes it as it is. By rows, 4.9 MB have to be turned round at every step on a log like Demo, which takes as
long as half of that product.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["in_memory_order", "is_by_columns", "like_stored", "store_by_columns", "store_by_rows"]


def is_by_columns(tensor: Tensor) -> bool:
    """Whether it is a matrix that is stored by columns alone; one of a single row or column is stored by rows too."""
    return tensor.dim() == 2 and not tensor.is_contiguous() and tensor.T.is_contiguous()


def in_memory_order(tensor: Tensor) -> Tensor:
    """A view of the tensor with the numbers one after another as they stand in memory."""
    return tensor.T if is_by_columns(tensor) else tensor


def like_stored(tensor: Tensor, other: Tensor) -> Tensor:
    """The tensor, stored as another of the same shape is; copied only where it is not."""
    return tensor.T.contiguous().T if is_by_columns(other) else tensor.contiguous()


def store_by_columns(weight: Tensor) -> None:
    """Store a matrix by columns from now on; whoever holds it holds the same object."""
    weight.data = weight.data.T.contiguous().T


def store_by_rows(weight: Tensor) -> None:
    """Store it by rows again."""
    weight.data = weight.data.contiguous()

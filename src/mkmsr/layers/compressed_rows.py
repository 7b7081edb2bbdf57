"""Sparse matrices in compressed rows: their products, their rows, and what is checked when they come back from a file.

The kernels that read them trust offsets: a negative one makes `embedding_bag` read memory that is not the matrix's.
Dimension letters: M entries, D columns of a dense matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, int64, nn
from torch.nn import functional as F

from mkmsr.errors import DataError


class CompressedRows(nn.Module):
    """A sparse matrix, empty until it is filled.

    Buffers:
        rows: Where each row begins, and M. Shape [rows + 1].
        columns, values: Of each entry. Shapes [M].
    """

    rows: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, num_rows: int):
        super().__init__()
        self.register_buffer("rows", torch.zeros(num_rows + 1, dtype=int64))
        self.register_buffer("columns", torch.zeros(0, dtype=int64))
        self.register_buffer("values", torch.zeros(0))

    @property
    def sizes(self) -> Tensor:
        """Entries of each row."""
        return self.rows.diff()

    def fill(self, rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> None:
        """Take these entries, in any order, in place of what was there; `size` is that of the matrix."""
        order = torch.argsort(rows * size[1] + columns)
        sizes = torch.bincount(rows, minlength=size[0])
        self.rows = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        self.columns, self.values = columns[order], values[order].float()

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the entries of some rows: position in `rows`, column and value. Each of shape [M]."""
        owner, place = expand(self.rows[rows], self.rows[rows + 1])
        return owner, self.columns[place], self.values[place]

    def product(self, dense: Tensor, transpose: CompressedRows) -> Tensor:
        """Return the product with a dense matrix; the backward pass needs the transpose. [columns, D] -> [rows, D]."""
        own, other = (self.rows, self.columns, self.values), (transpose.rows, transpose.columns, transpose.values)
        result: Tensor = _Product.apply(dense, *own, *other)  # type: ignore[no-untyped-call]
        return result

    def check(self, name: str, num_rows: int, num_columns: int) -> None:
        """Make sure that buffers from a file are those of such a matrix; a `DataError` says what does not fit."""
        check_compressed_rows(name, self.rows, self.columns, self.values)
        check_indexes(f"columns of {name}", self.columns, 0, num_columns)
        if len(self.rows) != num_rows + 1:
            raise DataError(f"{name} has {len(self.rows) - 1} rows, not {num_rows}")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, *matrix_and_transpose: Tensor) -> Tensor:
        ctx.transpose = matrix_and_transpose[3:]
        return _product(matrix_and_transpose[:3], dense)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (_product(ctx.transpose, gradients[0].contiguous()), *[None] * 6)


def _product(matrix: tuple[Tensor, ...], dense: Tensor) -> Tensor:
    rows, columns, values = matrix
    return F.embedding_bag(columns, dense, rows[:-1], mode="sum", per_sample_weights=values)


def expand(begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Return the range that each position of several ranges belongs to, and the position; one range after the other."""
    counts = (end - begin).clamp(min=0)
    if begin.device.type == "cpu":  # NumPy calls small operations several times faster than PyTorch.
        sizes = counts.numpy()
        owner = np.arange(len(sizes)).repeat(sizes)
        place = np.arange(len(owner)) + (begin.numpy() - sizes.cumsum() + sizes)[owner]
        return torch.from_numpy(owner), torch.from_numpy(place)
    total = int(counts.sum())
    owners = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts, output_size=total)
    shift = begin - (counts.cumsum(0) - counts)
    return owners, torch.arange(total, device=counts.device) + shift[owners]


def check_compressed_rows(name: str, offsets: Tensor, *entries: Tensor) -> None:
    """Raise DataError unless rows lie one after the other and hold all entries; the name is for the message.

    Offsets [rows + 1] say where each row begins, and the number of entries; columns, values and whatever else belongs
    to each entry are of equal lengths.
    """
    shaped = offsets.dtype == int64 and offsets.dim() == 1 and len(offsets) > 0
    if not shaped or bool((offsets.diff() < 0).any()) or int(offsets[0]) != 0:
        raise DataError(f"{name}: the offsets of its rows do not rise from 0")
    if any(each.dim() != 1 or len(each) != int(offsets[-1]) for each in entries):
        raise DataError(f"{name}: its rows end at {int(offsets[-1])}, which is not how many entries there are")


def check_indexes(name: str, indexes: Tensor, low: int, high: int) -> None:
    """Raise DataError unless they are one row of whole numbers from `low` to below `high`."""
    inside = not indexes.numel() or low <= int(indexes.min()) <= int(indexes.max()) < high
    if indexes.dtype != int64 or indexes.dim() != 1 or not inside:
        raise DataError(f"{name} must be whole numbers from {low} to {high - 1}")

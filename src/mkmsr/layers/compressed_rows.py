"""Sparse matrices in compressed rows, as they come back from a file.

The kernels that read them trust offsets: a negative one makes `embedding_bag` read memory that is not the matrix's.
"""

from __future__ import annotations

from torch import Tensor, int64

from mkmsr.errors import DataError


def check_compressed_rows(name: str, offsets: Tensor, *entries: Tensor) -> None:
    """Make sure that rows lie one after the other and hold all entries.

    Args:
        name: For the message.
        offsets: Where each row begins, and the number of entries. Shape [rows + 1].
        entries: Columns, values and whatever else belongs to each entry. Equal lengths.

    Raises:
        DataError: They do not.
    """
    shaped = offsets.dtype == int64 and offsets.dim() == 1 and len(offsets) > 0
    if not shaped or bool((offsets.diff() < 0).any()) or int(offsets[0]) != 0:
        raise DataError(f"{name}: the offsets of its rows do not rise from 0")
    if any(each.dim() != 1 or len(each) != int(offsets[-1]) for each in entries):
        raise DataError(f"{name}: its rows end at {int(offsets[-1])}, which is not how many entries there are")


def check_indexes(name: str, indexes: Tensor, low: int, high: int) -> None:
    """Make sure that they are one row of whole numbers from `low` to below `high`.

    Raises:
        DataError: One is not.
    """
    inside = not indexes.numel() or low <= int(indexes.min()) <= int(indexes.max()) < high
    if indexes.dtype != int64 or indexes.dim() != 1 or not inside:
        raise DataError(f"{name} must be whole numbers from {low} to {high - 1}")

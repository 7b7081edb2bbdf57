"""What holds of compressed rows, and what a forger might write instead."""

from __future__ import annotations

import pytest
import torch

from mkmsr.errors import DataError
from mkmsr.layers.compressed_rows import check_compressed_rows, check_indexes


def rows(*offsets: int) -> torch.Tensor:
    return torch.tensor(offsets, dtype=torch.int64)


def test_rows_that_hold_all_entries_in_order_are_right() -> None:
    check_compressed_rows("it", rows(0, 2, 2, 5), torch.arange(5), torch.rand(5))
    check_compressed_rows("it", rows(0), torch.zeros(0))
    check_compressed_rows("it", rows(0, 0, 0), torch.zeros(0))


@pytest.mark.parametrize(
    "offsets",
    [rows(0, -3, 2, 5), rows(1, 2, 5), rows(-1, 2, 5), rows(0, 3, 2, 5), rows(), rows(0, 5).float(), rows(0, 5)[None]],
)
def test_offsets_that_do_not_rise_from_zero_are_refused(offsets: torch.Tensor) -> None:
    with pytest.raises(DataError, match="it: the offsets of its rows do not rise from 0"):
        check_compressed_rows("it", offsets, torch.arange(5))


@pytest.mark.parametrize("entries", [torch.arange(4), torch.arange(6), torch.zeros(5, 1)])
def test_entries_that_the_rows_do_not_hold_are_refused(entries: torch.Tensor) -> None:
    with pytest.raises(DataError, match="it: its rows end at 5, which is not how many entries there are"):
        check_compressed_rows("it", rows(0, 2, 5), torch.arange(5), entries)


def test_indexes_are_whole_and_within_their_bounds() -> None:
    check_indexes("they", rows(0, 2), 0, 3)
    check_indexes("they", rows(), 0, 0)
    for wrong in (rows(-1, 2), rows(0, 3), rows(0, 2).float(), rows(0, 2).int()):
        with pytest.raises(DataError, match="they must be whole numbers from 0 to 2"):
            check_indexes("they", wrong, 0, 3)

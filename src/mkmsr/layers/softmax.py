"""What is added to a few scores of a catalogue, and its softmax where the scores of all items do not fit in memory.

Dimension letters: B sessions, D embedding size, V catalogue + 1 (column 0 is padding and takes no part).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_CACHED_SCORES = 2**18
"""Scores of as many rows as fill about 1 MiB are turned into probabilities at a time: they stay in the processor's
second-level cache between the passes over them."""


class SparseScores(NamedTuple):
    """Something to add to a few scores: `values[m]` to the score of item `columns[m]` for session `rows[m]`.

    Each of shape [M]; values of the same pair add up.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor

    def plus(self, rows: Tensor, columns: Tensor, values: Tensor) -> SparseScores:
        """Return these and more."""
        return SparseScores(*(torch.cat(pair) for pair in zip(self, (rows, columns, values), strict=True)))


def blockwise_target_log_softmax(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    block: int,
    extra: SparseScores | None = None,
    by_item: Callable[[int, int], Tensor] | None = None,
) -> Tensor:
    """Return what `layers.fast.catalogue_softmax.target_log_softmax` does, with [B, block] arrays alone.

    The scores of each block are taken a second time on the way back. `by_item` gives what is added to the scores of the
    items from one index to before another, [items, B].
    """
    totals, of_target = [], torch.zeros_like(queries[:, 0])
    begin = 0
    for part in torch.split(items, block):
        total, found = checkpoint(_block_total, queries, part, targets, extra, by_item, begin, use_reentrant=False)
        totals.append(total)
        of_target = of_target + found
        begin += len(part)
    return of_target - torch.stack(totals, dim=1).logsumexp(1)


def row_blocks(scores: Tensor) -> list[slice]:
    """Return rows of a [B, V] array to work through at a time."""
    rows, columns = scores.shape
    height = max(1, _CACHED_SCORES // columns if scores.device.type == "cpu" else rows)
    return [slice(begin, begin + height) for begin in range(0, rows, height)]


def _block_total(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    extra: SparseScores | None,
    by_item: Callable[[int, int], Tensor] | None,
    begin: int,
) -> tuple[Tensor, Tensor]:
    """Log of the sum of e^score over a block of items, and the target's score if it is there, else 0; [B] each."""
    end = begin + len(items)
    scores = queries @ items.T
    if by_item is not None:
        scores = scores + by_item(begin, end).T
    if extra is not None:
        here = (extra.columns >= begin) & (extra.columns < end)
        scores = scores.index_put((extra.rows[here], extra.columns[here] - begin), extra.values[here], accumulate=True)
    inside = (targets >= begin) & (targets < end)
    found = scores.gather(1, (targets - begin).clamp(0, len(items) - 1)[:, None])[:, 0]
    if begin == 0:
        scores = scores.index_fill(1, targets.new_zeros(1), float("-inf"))
    return scores.logsumexp(1), torch.where(inside, found, 0.0)

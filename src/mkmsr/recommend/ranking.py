"""The best columns of score rows, in a stable order and with at most so many of one value.

Dimension letters: B sessions, V catalogue + 1, K list length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["Caps", "best_columns", "top"]

Caps = Sequence[tuple[int, Mapping[int, Sequence[int]]]]
"""For each relation the most items of one value, and the values of each item."""


def best_columns(scores_BV: Tensor, k: int, caps: Caps = ()) -> list[list[int]]:
    """The k best columns of each row, best first; columns at -inf are never among them.

    With caps, the list is what walking down the whole ranking and passing over items that would be one too many gives.
    """
    if not caps:
        return _finite(scores_BV, top(scores_BV, k))
    return [_capped(scores_BV[row : row + 1], k, caps) for row in range(len(scores_BV))]


def _capped(scores_1V: Tensor, k: int, caps: Caps) -> list[int]:
    """One row, looking further down until the list is full."""
    width = min(4 * k, scores_1V.shape[1])
    while True:
        (ranked,) = _finite(scores_1V, top(scores_1V, width))
        chosen = _walk(ranked, k, caps)
        if len(chosen) == k or len(ranked) < width or width == scores_1V.shape[1]:
            return chosen
        width = min(4 * width, scores_1V.shape[1])


def _walk(ranked: Sequence[int], k: int, caps: Caps) -> list[int]:
    chosen: list[int] = []
    counts: list[Counter[int]] = [Counter() for _ in caps]
    for item in ranked:
        of_item = [values.get(item, ()) for _, values in caps]
        if any(
            count[value] >= most for (most, _), count, own in zip(caps, counts, of_item, strict=True) for value in own
        ):
            continue
        for count, own in zip(counts, of_item, strict=True):
            count.update(own)
        chosen.append(item)
        if len(chosen) == k:
            break
    return chosen


def _finite(scores_BV: Tensor, columns_BK: Tensor) -> list[list[int]]:
    kept_BK = scores_BV.gather(1, columns_BK) > -torch.inf
    return [columns[kept].tolist() for columns, kept in zip(columns_BK.cpu(), kept_BK.cpu(), strict=True)]


def top(scores_BV: Tensor, k: int) -> Tensor:
    """Columns of the k best scores of each row, best first, equal scores in the order of columns. Shape [B, K].

    `torch.topk` leaves the order of equal scores open, so a row whose k-th score occurs again is cut by hand.
    """
    k = min(k, scores_BV.shape[1])
    values_BK, columns_BK = scores_BV.topk(k)
    columns_BK = columns_BK.sort(dim=1).values
    tied = (scores_BV >= values_BK[:, -1:]).sum(dim=1) > k
    for row in tied.nonzero().flatten().tolist():
        threshold = values_BK[row, -1]
        above = (scores_BV[row] > threshold).nonzero().flatten()
        level = (scores_BV[row] == threshold).nonzero().flatten()[: k - len(above)]
        columns_BK[row] = torch.cat([above, level]).sort().values
    order = scores_BV.gather(1, columns_BK).argsort(dim=1, descending=True, stable=True)
    return columns_BK.gather(1, order)

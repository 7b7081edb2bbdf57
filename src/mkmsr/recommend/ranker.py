"""From encoded sessions to ranked lists: what `recommend` does for one session and a bulk job for millions.

Dimension letters: S sessions, B sessions of a batch, V catalogue + 1, K list length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.errors import ConfigError, EvaluationError
from mkmsr.models.base import Scorer, ShortScorer
from mkmsr.models.capabilities import answers_wanted, asks_neighbours
from mkmsr.recommend.filters import (
    Facts,
    Filters,
    allowed_items,
    capped_values,
    excluded_operations,
    positive_integer,
)
from mkmsr.recommend.sessions import EncodedSessions

_SCORES_AT_ONCE = 8_000_000
"""32 MB, which `keep_freed_memory` can keep from one batch to the next."""
_MOST_SESSIONS_AT_ONCE = 256
_MOST_SHORT_AT_ONCE = 16
"""Sessions that share a shortlist: each is scored for the items of all."""
_PROPOSED = 25
"""Proposals of an index that filters must leave for each place of a list; otherwise all items are scored."""
_STRETCH, _WIDE = 64, 16
"""Columns of a stretch, see `top`; a row is wide from so many times the columns on that are then looked at."""

Caps: TypeAlias = "Sequence[tuple[int, Mapping[int, Sequence[int]]]]"
"""For each relation the most items of one value, and the values of each item."""


class Ranker:
    """Ranks the catalogue for sessions, with the same filters for all of them.

    A session of which no event is known gets the most popular items. Equal scores keep the order of the catalogue.

    Args:
        bundle: The model with its vocabularies.
        score: Its scorer.
        k: Items a list, at least 1.
        filters: What the lists may hold.
        facts: What filters see and the model does not.
        operation: Operation that the next event is to have; None is any.
        device: Where the model computes.
        short: Its scorer of items that an index proposes; None scores all items.

    Attributes:
        is_exact: Whether all items were scored for the lists that were ranked last.

    Raises:
        ConfigError: k is no whole number from 1 on, a filter names what is not known, or the model takes no wanted
            operation.
        UnknownIdError: There is no such operation.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        score: Scorer,
        *,
        k: int,
        filters: Filters,
        facts: Facts,
        operation: str | None,
        device: torch.device,
        short: ShortScorer | None = None,
    ):
        self.bundle = bundle
        self.is_exact = True
        self._score, self._device = score, device
        allowed_V = torch.from_numpy(allowed_items(bundle, filters, facts)).to(device)
        self._width = len(allowed_V)
        self._k = min(positive_integer(k, "k"), self._width)
        # Models score column 0 as -inf themselves: without filters there is nothing to mask.
        self._forbidden_V = None if bool(allowed_V[1:].all()) else ~allowed_V
        self._popularity_V = torch.from_numpy(bundle.item_counts / max(bundle.item_counts.sum(), 1)).to(device)
        self._popularity_V = self._popularity_V.masked_fill(~allowed_V, -torch.inf)
        self._caps = capped_values(bundle, filters, facts)
        self._short = None if self._caps else short
        self._own_items, self._operations = filters.exclude_session, excluded_operations(bundle, filters)
        self._wanted = wanted_operation(bundle, operation)

    def rank(
        self, sessions: EncodedSessions, done: Callable[[int], None] = lambda sessions: None, *, in_haste: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the lists of sessions, in their order.

        Args:
            sessions: The sessions.
            done: Told after each batch how many sessions it had.
            in_haste: Rank by the model's neighbours alone, and all else, or where it has none, by popularity.

        Returns:
            Item indexes, best first, 0 where no item is left; and the model's scores, or where popularity ranked the
            share of each item in the events of training. In haste the shares of the neighbours' votes, and below 0 what
            popularity ranked. Both of shape [S, K].

        Raises:
            EvaluationError: The model gave scores that are not numbers.
        """
        items_SK = np.zeros((len(sessions), self._k), np.int64)
        scores_SK = np.zeros(items_SK.shape)
        excluded = sessions.exclusions(self._own_items, self._operations)
        self.is_exact = True
        for rows, is_known in self._batches(sessions):
            mine_R, mine_I = _excluded_from(rows, excluded)
            best = None
            if is_known and not in_haste and self._short is not None:
                best = self._short_best(self._short, sessions, rows, mine_R, mine_I)
            if best is None:
                scores_BV = self._scores(sessions, rows, is_known=is_known, in_haste=in_haste)
                if len(mine_R):
                    scores_BV = scores_BV.clone()
                    scores_BV[mine_R, mine_I] = -torch.inf
                best = best_columns(scores_BV, self._k, self._caps)
            items_BK, best_BK = best
            if bool(best_BK.isnan().any()):  # Of all numbers it is what PyTorch takes for the highest.
                raise EvaluationError(f"the model {self.bundle.name!r} gave scores that are not numbers")
            items_SK[rows] = items_BK.cpu().numpy()
            scores_SK[rows] = best_BK.cpu().numpy()
            done(len(rows))
        return items_SK, scores_SK

    @property
    def has_neighbours(self) -> bool:
        """Whether lists in haste are those of neighbours."""
        return asks_neighbours(self.bundle.model)

    def _batches(self, sessions: EncodedSessions) -> Iterator[tuple[NDArray[np.int64], bool]]:
        """Sessions that are scored at the same time, and whether the model scores them."""
        size = max(1, min(_MOST_SESSIONS_AT_ONCE, _SCORES_AT_ONCE // self._width))
        size = size if self._short is None else max(size, _MOST_SHORT_AT_ONCE)
        is_empty = sessions.is_empty
        for is_known in (True, False):
            rows = np.flatnonzero(is_empty != is_known)
            for begin in range(0, len(rows), size):
                yield rows[begin : begin + size], is_known

    def _scores(self, sessions: EncodedSessions, rows: NDArray[np.int64], *, is_known: bool, in_haste: bool) -> Tensor:
        """The scores of all items, -inf where the filters forbid one. Shape [B, V]."""
        if not is_known or (in_haste and not self.has_neighbours):
            return self._popularity_V.expand(len(rows), -1)
        if in_haste:
            return self._neighbour_scores(sessions, rows)
        with torch.inference_mode():
            scores_BV = self._score(sessions.batch(rows, self._wanted).to(self._device)).float()
            return scores_BV if self._forbidden_V is None else scores_BV.masked_fill(self._forbidden_V, -torch.inf)

    def _short_best(
        self, short: ShortScorer, sessions: EncodedSessions, rows: NDArray[np.int64], mine_R: Tensor, mine_I: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """The best items and their scores, [B, K] each, without the excluded pairs; None where too few are proposed."""
        with torch.inference_mode():
            scores_BC, items_C, proposed_BM = short(sessions.batch(rows, self._wanted))
            left_B = torch.full((len(rows),), proposed_BM.shape[1]) - torch.bincount(mine_R, minlength=len(rows))
            if self._forbidden_V is not None:
                left_B -= self._forbidden_V[proposed_BM].sum(1)
                scores_BC = scores_BC.masked_fill(self._forbidden_V[items_C], -torch.inf)
            if int(left_B.min()) < _PROPOSED * self._k:
                return None
            self.is_exact = False
            place = torch.searchsorted(items_C, mine_I.contiguous()).clamp(max=len(items_C) - 1)
            found = items_C[place] == mine_I
            scores_BC[mine_R[found], place[found]] = -torch.inf
            columns_BK, best_BK = best_columns(scores_BC, self._k)
            return items_C[columns_BK], best_BK

    def _neighbour_scores(self, sessions: EncodedSessions, rows: NDArray[np.int64]) -> Tensor:
        model = self.bundle.model
        assert asks_neighbours(model)
        with torch.inference_mode():
            shares_BV = model.neighbour_shares(sessions.batch(rows).to(self._device))
            voted_BV = (shares_BV > 0) & (self._popularity_V > -torch.inf)
            return torch.where(voted_BV, shares_BV, self._popularity_V - 1)


def _excluded_from(rows: NDArray[np.int64], excluded: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Which of the excluded pairs of a session and an item are of some sessions, rising, and their places there."""
    sessions, items = excluded
    place = np.searchsorted(rows, sessions).clip(max=len(rows) - 1)
    mine = rows[place] == sessions
    return torch.from_numpy(place[mine]), torch.from_numpy(items[mine])


def wanted_operation(bundle: ModelBundle, operation: str | None) -> int | None:
    """Return the index of the operation that the next event is to have; None for any.

    Raises:
        ConfigError: The model takes none.
        UnknownIdError: There is no such operation.
    """
    if operation is None:
        return None
    if not answers_wanted(bundle.model):
        raise ConfigError(
            f"{bundle.name!r} as trained predicts the next event whatever its operation; train compass with "
            "model.target_operation=true",
            key="operation",
        )
    return bundle.operations.index(operation)


def best_columns(scores_BV: Tensor, k: int, caps: Caps = ()) -> tuple[Tensor, Tensor]:
    """Return the k best columns of each row, best first, 0 where no score above -inf is left, and their scores.

    With caps, the list is what walking down the whole ranking and passing over items that would be one too many gives.
    Column 0 is no item, and its scores are -inf. Both shapes are [B, K].
    """
    if caps:
        columns_BK = torch.zeros((len(scores_BV), k), dtype=torch.int64, device=scores_BV.device)
        for row in range(len(scores_BV)):
            chosen = _capped(scores_BV[row : row + 1], k, caps)
            columns_BK[row, : len(chosen)] = torch.tensor(chosen, dtype=torch.int64)
    else:
        columns_BK = top(scores_BV, k)
    best_BK = scores_BV.gather(1, columns_BK)
    return columns_BK.masked_fill(best_BK == -torch.inf, 0), best_BK


def top(scores_BV: Tensor, k: int) -> Tensor:
    """Return columns of the k best scores of each row, best first, equal scores in the order of columns. Shape [B, K].

    Of a wide row only the k stretches with the highest scores are looked at. That is exact where no further stretch
    reaches the k-th best score; other rows are looked at whole.
    """
    k = min(k, scores_BV.shape[1])
    if scores_BV.shape[1] < _WIDE * k * _STRETCH:
        return _top_of_whole(scores_BV, k)
    ends = scores_BV.shape[1] // _STRETCH * _STRETCH
    highest_BN = scores_BV[:, :ends].view(len(scores_BV), -1, _STRETCH).amax(2)
    begins_BK1 = highest_BN.topk(k).indices.sort(1).values[:, :, None] * _STRETCH
    within = torch.arange(_STRETCH, device=scores_BV.device)
    rest = torch.arange(ends, scores_BV.shape[1], device=scores_BV.device).expand(len(scores_BV), -1)
    columns_BC = torch.cat([(begins_BK1 + within).flatten(1), rest], dim=1)
    found_BC = scores_BV.gather(1, columns_BC)
    columns_BK = columns_BC.gather(1, _top_of_whole(found_BC, k))
    worst_B1 = scores_BV.gather(1, columns_BK[:, -1:])
    for row in ((highest_BN >= worst_B1).sum(1) > k).nonzero().flatten().tolist():
        columns_BK[row] = _top_of_whole(scores_BV[row : row + 1], k)[0]
    return columns_BK


def _top_of_whole(scores_BV: Tensor, k: int) -> Tensor:
    """`top` by looking at all columns.

    `torch.topk` leaves the order of equal scores open: where there are some, rows are put in order and cut by hand.
    """
    values_BK, columns_BK = scores_BV.topk(min(k + 1, scores_BV.shape[1]))
    if not bool((values_BK[:, 1:] == values_BK[:, :-1]).any()):
        return columns_BK[:, :k]
    values_BK, columns_BK = values_BK[:, :k], columns_BK[:, :k]
    columns_BK = columns_BK.sort(dim=1).values
    tied = (scores_BV >= values_BK[:, -1:]).sum(dim=1) > k
    for row in tied.nonzero().flatten().tolist():
        threshold = values_BK[row, -1]
        above = (scores_BV[row] > threshold).nonzero().flatten()
        level = (scores_BV[row] == threshold).nonzero().flatten()[: k - len(above)]
        columns_BK[row] = torch.cat([above, level]).sort().values
    order = scores_BV.gather(1, columns_BK).argsort(dim=1, descending=True, stable=True)
    return columns_BK.gather(1, order)


def _capped(scores_1V: Tensor, k: int, caps: Caps) -> list[int]:
    """One row's list, looking further down until it is full."""
    width = min(4 * k, scores_1V.shape[1])
    while True:
        ranked = [column for column in best_columns(scores_1V, width)[0][0].tolist() if column]
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

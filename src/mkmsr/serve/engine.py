"""Ranked lists for requests that come at the same time: one thread computes them in batches.

All lists come from `Recommender`: its rankers and `SessionEncoder` rank the sessions of a batch together.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mkmsr.errors import BundleError, MkmsrError
from mkmsr.recommend import Explanation, Filters, Ranker, Recommender, SessionEncoder, parse_condition
from mkmsr.recommend.index import IndexReport
from mkmsr.serve.batching import Batcher
from mkmsr.serve.endpoint import Problem
from mkmsr.serve.types import RankedBy, RecommendationsRequest

Pair = tuple[str, str | None]
_MOST_AT_ONCE = 64
_MOST_RANKERS, _CAP_WEIGHT = 64, 15
"""Rankers that are kept. One counts more for each cap, which holds the values of every item."""

_SIMILAR_BYTES = 64 * 1024 * 1024
_LENGTHS = (20, 50, 100, 200, 500, 1000)
"""Lists are made in these lengths and cut, so that sessions with the same filters share a batch."""


@dataclass(frozen=True)
class FilterKey:
    """What a request says of its list, in a form that tells whether two say the same: then they share a batch.

    The fields are those of `Filters`, and the wanted operation.
    """

    where: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    at_most: tuple[tuple[str, int], ...] = ()
    exclude_session: bool = False
    exclude_operations: tuple[str, ...] = ()
    operation: str | None = None

    @classmethod
    def of(cls, asked: RecommendationsRequest) -> FilterKey:
        """Return that of a request."""
        return cls(
            tuple(asked.where),
            None if asked.only is None else tuple(sorted(set(asked.only))),
            tuple(sorted(asked.at_most.items())),
            asked.exclude_session,
            tuple(sorted(set(asked.exclude_operations))),
            asked.operation,
        )

    @property
    def filters(self) -> Filters:
        """The filters."""
        return Filters(
            exclude_session=self.exclude_session,
            exclude_operations=self.exclude_operations,
            only=self.only,
            where=[parse_condition(each) for each in self.where],
            at_most=dict(self.at_most),
        )


@dataclass(frozen=True)
class Serving:
    """A bundle that serves.

    Args:
        recommender: What answers.
        digest: Beginning of the bundle's SHA-256.
        made: When it was written, in ISO 8601.
        index: Whether its lists come from an index.
    """

    recommender: Recommender
    digest: str
    made: str
    index: IndexReport

    @property
    def offline(self) -> dict[str, float]:
        """The metrics of the bundle's evaluation, such as `{"hit@20": 0.41}`; on the test split if there are any."""
        metrics = self.recommender.bundle.metadata.get("metrics", {})
        for split in ("test", "validation"):
            found = metrics.get(split, {})
            found = found.get("metrics", found) if isinstance(found, dict) else {}
            if found:
                return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
        return {}


@dataclass
class Slot:
    """A place where bundles serve one after the other.

    Args:
        name: The name that requests use.
        serving: What serves now; replaced by one assignment.
        display: What is shown with items that were added since.
        previous: What served before the last swap.
    """

    name: str
    serving: Serving
    display: dict[str, Mapping[str, str]] = field(default_factory=dict)
    previous: Serving | None = None

    @property
    def recommender(self) -> Recommender:
        """What answers."""
        return self.serving.recommender

    def shown(self, serving: Serving, item: str) -> Mapping[str, str]:
        """What is shown with an item of a bundle that serves here, or did a moment ago."""
        return self.display.get(item) or serving.recommender.bundle.display.get(item, {})


@dataclass(frozen=True)
class Ask:
    """A list that is asked for.

    Args:
        slot: Who ranks.
        events: (item, operation) pairs, oldest first.
        exclude: Items that the list must not hold.
        k: Its length.
        filters: What else it may hold.
        until: When the model is not worth waiting for any more, on the monotonic clock.
    """

    slot: Slot
    events: Sequence[Pair]
    exclude: Sequence[str]
    k: int
    filters: FilterKey
    until: float


@dataclass(frozen=True)
class Ranked:
    """A list: items and scores, best first.

    `ranked_by` is "model", "neighbours" or "popularity". `serving` is what ranked; it may have been replaced since.
    `is_late` says that the queue was too long for the model. `why_nothing` is a sentence if the list is empty.
    `is_exact`: all items were scored, not those alone that an index proposes.
    """

    items: Sequence[str]
    scores: Sequence[float]
    skipped: int
    replaced: int
    ranked_by: RankedBy
    serving: Serving
    version: int
    is_late: bool = False
    why_nothing: str = ""
    is_exact: bool = True


class Engine:
    """Ranks for all slots of a process.

    Args:
        slots: The slots by name, the first is the usual one.
        patience: Seconds that a request waits in the queue before neighbours or popularity answer for the model.
        most_queued: Requests that wait at the same time; more are turned away.
        observe_batch: Told the size of every batch.
    """

    def __init__(
        self,
        slots: Mapping[str, Slot],
        *,
        patience: float,
        most_queued: int,
        observe_batch: Callable[[int], None] = lambda size: None,
    ):
        self.slots = dict(slots)
        self.version = 0
        self._patience, self._most_queued, self._observe = patience, most_queued, observe_batch
        self._rankers: OrderedDict[Any, tuple[Ranker, SessionEncoder]] = OrderedDict()
        self._similar: OrderedDict[Any, Ranked] = OrderedDict()
        self._similar_bytes = 0
        self._batcher: Batcher[Ask | Callable[[], Any], Any] = Batcher(self._batch, most=_MOST_AT_ONCE, name="compute")

    @property
    def first(self) -> Slot:
        """The usual slot."""
        return next(iter(self.slots.values()))

    async def rank(
        self,
        slot: Slot,
        events: Sequence[Pair],
        *,
        exclude: Sequence[str],
        k: int,
        filters: FilterKey,
        patience: float | None = None,
    ) -> Ranked:
        """Return the list of one session; `patience` is the engine's if it is None.

        Raises:
            Problem: Too many requests wait already: 429.
            MkmsrError: A filter or the wanted operation names what is not known.
        """
        self._check_queue()
        until = time.monotonic() + (self._patience if patience is None else patience)
        ranked: Ranked = await self._batcher.submit(Ask(slot, events, exclude, k, filters, until))
        return ranked

    async def check(self, slot: Slot, k: int, filters: FilterKey) -> None:
        """Raise what `rank` would raise now about the queue and these filters."""
        self._check_queue()
        recommender, length, version = slot.recommender, _length(k), self.version
        if (version, recommender, length, filters) not in self._rankers:
            await self._batcher.submit(lambda: self._ranker(recommender, length, filters, version))

    async def similar(self, slot: Slot, item: str, *, k: int, filters: FilterKey) -> Ranked:
        """Return what the model ranks highest after an event of one item alone; such lists are kept.

        However long the queue, the model answers: what is popular would not be similar.

        Raises:
            UnknownIdError: The item is not in the catalogue.
            Problem: As in `rank`; likewise the other errors.
        """
        slot.recommender.bundle.items.index(item)
        key = slot.name, slot.serving.digest, self.version, item, k, filters
        ranked = self._similar.get(key)
        if ranked is None:
            ranked = await self.rank(slot, [(item, None)], exclude=[item], k=k, filters=filters, patience=math.inf)
            is_current = key[1:3] == (slot.serving.digest, self.version)
            if ranked.ranked_by == "model" and is_current and key not in self._similar:
                self._similar[key] = ranked
                self._similar_bytes += _bytes(key, ranked)
                while self._similar_bytes > _SIMILAR_BYTES:
                    self._similar_bytes -= _bytes(*self._similar.popitem(last=False))
        return ranked

    async def explain(
        self, recommender: Recommender, events: Sequence[Pair], items: Sequence[str], operation: str | None
    ) -> list[Explanation]:
        """Return why items got their scores, see `Recommender.explain`."""
        self._check_queue()
        found: list[Explanation] = await self._batcher.submit(
            lambda: recommender.explain(list(events), items, operation=operation)
        )
        return found

    def changed(self, version: int) -> None:
        """Take note that the catalogue, the facts or a bundle are others now."""
        self.version = version
        self._similar.clear()
        self._similar_bytes = 0

    def close(self) -> None:
        """End the thread."""
        self._batcher.close()

    def _check_queue(self) -> None:
        if len(self._batcher) >= self._most_queued:
            raise Problem(429, "too many requests wait already; try again in a second", {"retry-after": "1"})

    def _batch(self, tasks: Sequence[Ask | Callable[[], Any]]) -> list[Any]:
        """Results or errors of tasks, in their order; lists with the same filters are ranked together."""
        results: list[Any] = [None] * len(tasks)
        groups: dict[Any, list[int]] = {}
        now = time.monotonic()
        for place, task in enumerate(tasks):
            if isinstance(task, Ask):
                groups.setdefault((task.slot.name, _length(task.k), task.filters, task.until < now), []).append(place)
            else:
                results[place] = _result(task)
        for (_, length, filters, is_late), places in groups.items():
            asks = [task for task in (tasks[place] for place in places) if isinstance(task, Ask)]
            self._observe(len(asks))
            try:
                ranked: Sequence[Any] = self._group(asks, length, filters, is_late=is_late)
            except MkmsrError as error:
                ranked = [error] * len(asks)
            for place, each in zip(places, ranked, strict=True):
                results[place] = each
        return results

    def _group(self, asks: Sequence[Ask], length: int, filters: FilterKey, *, is_late: bool) -> list[Ranked]:
        version, serving = self.version, asks[0].slot.serving
        recommender = serving.recommender
        ranker, encoder = self._ranker(recommender, length, filters, version)
        sessions = {str(row): {"events": ask.events, "exclude": ask.exclude} for row, ask in enumerate(asks)}
        encoded = encoder.encode(sessions)
        items_SK, scores_SK = ranker.rank(encoded, in_haste=is_late)
        known: RankedBy = "model" if not is_late else "neighbours" if ranker.has_neighbours else "popularity"
        ids, empty = ranker.bundle.items.ids, encoded.is_empty.tolist()
        counts = np.count_nonzero(items_SK, axis=1).tolist()
        rows = zip(
            items_SK.tolist(), scores_SK.tolist(), encoded.skipped.tolist(), encoded.replaced.tolist(), strict=True
        )
        lists = []
        for row, (items, scores, skipped, replaced) in enumerate(rows):
            count = min(counts[row], asks[row].k)
            why = "" if count else recommender.why_nothing(filters.filters)
            listed = [ids[item - 1] for item in items[:count]]
            by: RankedBy = "popularity" if empty[row] else known
            ranked = (listed, scores[:count], skipped, replaced, by, serving, version, is_late, why, ranker.is_exact)
            lists.append(Ranked(*ranked))
        return lists

    def _ranker(
        self, recommender: Recommender, length: int, filters: FilterKey, version: int
    ) -> tuple[Ranker, SessionEncoder]:
        """The ranker of a bundle, its facts and these filters; the last ones are kept."""
        key = version, recommender, length, filters
        kept = self._rankers.pop(key, None)
        if kept is None:
            ranker = recommender.ranker(length, filters=filters.filters, operation=filters.operation)
            kept = ranker, SessionEncoder(ranker.bundle)
        self._rankers[key] = kept
        while next(iter(self._rankers))[0] != version or (
            len(self._rankers) > 1
            and sum(1 + _CAP_WEIGHT * len(each[3].at_most) for each in self._rankers) > _MOST_RANKERS
        ):
            self._rankers.popitem(last=False)
        return kept


def warm_up(recommender: Recommender, sessions: Sequence[Sequence[Pair]]) -> None:
    """Make lists for sessions, and for the most popular items, so that the first visitor waits for nothing.

    Raises:
        BundleError: A list is empty or its scores are not numbers.
    """
    bundle = recommender.bundle
    popular = bundle.item_counts[1:].argsort()[::-1][:32]
    operations = bundle.operations.ids
    made: list[list[Pair]] = [
        [(bundle.items.ids[item], operations[row % len(operations)])] for row, item in enumerate(popular.tolist())
    ]
    replayed = [list(session) for session in sessions]
    batches: list[list[list[Pair]]] = [made[:1], made, replayed, [[]]]
    for batch in batches:
        for session, found in zip(batch, recommender.recommend_many(batch) if batch else [], strict=True):
            if not found.items or not all(np.isfinite(each.score) for each in found.items):
                raise BundleError(f"makes no list for a session of {len(session)} events, so that it cannot serve")


def _length(k: int) -> int:
    return next(each for each in _LENGTHS if each >= k)


def _bytes(key: tuple[Any, ...], ranked: Ranked) -> int:
    """About how much memory a kept list of similar items takes."""
    return 1000 + 50 * len(ranked.items) + 4 * sum(map(len, key[-1].where))


def _result(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except MkmsrError as error:
        return error

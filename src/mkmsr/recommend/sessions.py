"""Sessions in external ids turned into the indexes that a model reads, for many sessions at once.

An event of an unknown item is left out and counted. An unknown operation counts as the most common one of training,
and is counted; so does a missing one, which is not. Of the events that are left, a model reads the newest.
Dimension letters: S sessions, T events of known items, U those of earlier sessions, P events that the model reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.data.batching import EarlierBatch, SessionBatch
from mkmsr.data.sessions import MOST_EARLIER_ITEMS, EarlierItems
from mkmsr.errors import DataError, shown

Event: TypeAlias = "str | int | Sequence[str | int | None] | Mapping[str, Any]"
"""An item id; an (item id, operation) pair; or a mapping with "item" and perhaps "operation"."""

Session: TypeAlias = "Sequence[Event] | Mapping[str, Any]"
"""Events, oldest first; or a mapping that holds them under "events", and perhaps those of the visitor's earlier
sessions, oldest first too, under "earlier", and ids that this session's list must not hold under "exclude"."""


@dataclass(frozen=True)
class EventColumns:
    """Events of many sessions, one entry an event, session after session, the oldest first within each.

    `sessions` are their numbers, from 0; an operation may be None.
    """

    sessions: list[int] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    operations: list[str | None] = field(default_factory=list)

    def add(self, session: int, events: Sequence[Event], where: str) -> None:
        """Append the events of one session; one of another form raises DataError, whose message `where` begins."""
        for number, event in enumerate(events, start=1):
            item, operation = item_and_operation(event, f"{where} {number}")
            self.sessions.append(session)
            self.items.append(item)
            self.operations.append(operation)


@dataclass(frozen=True)
class EncodedSessions:
    """Sessions in indexes, one after the other.

    Args:
        items: Item of each event that the model reads, oldest first. Shape [P], int64.
        operations: Operation of each of them. Shape [P], int64.
        offsets: Where each session begins, and P; a session without known items is empty. Shape [S + 1].
        skipped: Events of each session left out because their item is unknown. Shape [S].
        replaced: Events of each session whose operation is unknown, and was taken for the most common one. Shape [S].
        touched: Session, item and operation of all events of known items, those too old to be read included. [3, T].
        touched_earlier: The same for the events of earlier sessions. Shape [3, U].
        earlier: What the model reads of those; None where there are none.
        excluded: Session, and an item that its list must not hold, by the caller's word. Shape [2, pairs].
    """

    items: NDArray[np.int64]
    operations: NDArray[np.int64]
    offsets: NDArray[np.int64]
    skipped: NDArray[np.int64]
    replaced: NDArray[np.int64]
    touched: NDArray[np.int64]
    touched_earlier: NDArray[np.int64]
    earlier: EarlierItems | None
    excluded: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.skipped)

    @property
    def is_empty(self) -> NDArray[np.bool_]:
        """Whether each session has no event of a known item. Shape [S]."""
        return np.equal(np.diff(self.offsets), 0)

    def batch(self, rows: NDArray[np.int64], wanted: int | None = None) -> SessionBatch:
        """Return what the model reads of some sessions; only empty ones may lie between them.

        `rows` are rising; `wanted` is the operation that the next events are to have, None for any.
        """
        events = slice(self.offsets[rows[0]], self.offsets[rows[-1] + 1])
        batch = SessionBatch.from_arrays(self.items[events], self.operations[events], np.diff(self.offsets)[rows])
        return replace(
            batch,
            wanted=None if wanted is None else torch.full((len(rows),), wanted),
            earlier=None if self.earlier is None else EarlierBatch.of_sessions(self.earlier, rows),
        )

    def exclusions(self, own_items: bool, operations: Collection[int]) -> NDArray[np.int64]:
        """Return pairs of a session and an item that its list must not hold. Shape [2, pairs].

        With `own_items` those of each session; with `operations` what the visitor did one of these with, earlier too.
        """
        if not own_items and not operations:
            return self.excluded
        pairs = [self.excluded]
        if own_items:
            pairs.append(self.touched[:2])
        if operations:
            touched = np.concatenate([self.touched, self.touched_earlier], axis=1)
            pairs.append(touched[:2, np.isin(touched[2], list(operations))])
        return np.concatenate(pairs, axis=1)


class SessionEncoder:
    """Turns external ids into the indexes of a bundle's vocabularies."""

    def __init__(self, bundle: ModelBundle):
        self._items, self._operations = bundle.items, bundle.operations
        self._default = default_operation(bundle)
        self._most_events = bundle.max_session_events - 1

    def encode(self, sessions: Mapping[str, Session], exclude: Sequence[str] = ()) -> EncodedSessions:
        """Encode sessions as callers write them, by what messages call them: "the session" or "session 3".

        `exclude` must be in none of their lists. A session or an event of another form raises DataError.
        """
        events, earlier = EventColumns(), EventColumns()
        excluded = [(row, item) for row in range(len(sessions)) for item in exclude]
        for row, (name, session) in enumerate(sessions.items()):
            _read(session, name, row, events, earlier, excluded)
        return self.encode_columns(len(sessions), events, earlier, excluded)

    def encode_columns(
        self,
        count: int,
        events: EventColumns,
        earlier: EventColumns | None = None,
        excluded: Sequence[tuple[int, str]] = (),
    ) -> EncodedSessions:
        """Encode so many sessions, given their events, those of earlier sessions and what lists must not hold."""
        touched, skipped, replaced = self._indexes(events, count)
        before = self._indexes(earlier, count)[0] if earlier and earlier.items else np.zeros((3, 0), np.int64)
        ends = np.cumsum(np.bincount(touched[0], minlength=count))
        read = touched[:, ends[touched[0]] - np.arange(touched.shape[1]) <= self._most_events]
        pairs = [(row, self._items.index(item)) for row, item in excluded if item in self._items]
        return EncodedSessions(
            items=np.ascontiguousarray(read[1]),
            operations=np.ascontiguousarray(read[2]),
            offsets=_offsets(read[0], count),
            skipped=skipped,
            replaced=replaced,
            touched=touched,
            touched_earlier=before,
            earlier=_newest_distinct(before, count) if before.size else None,
            excluded=np.array(pairs, np.int64).reshape(-1, 2).T,
        )

    def _indexes(self, events: EventColumns, count: int) -> tuple[NDArray[np.int64], ...]:
        """Session, item and operation of the events of known items, [3, T]; by session, how many were left out, and
        how many operations were replaced, both [S]."""
        rows = np.asarray(events.sessions, np.int64)
        items = self._items.indexes(events.items, missing="zero")
        is_stated = np.fromiter((each is not None for each in events.operations), np.bool_, len(rows))
        operations = self._operations.indexes((each or "" for each in events.operations), missing="zero") * is_stated
        is_known, is_replaced = items > 0, (operations == 0) & is_stated
        operations[operations == 0] = self._default
        return (
            np.stack([rows, items, operations])[:, is_known],
            np.bincount(rows[~is_known], minlength=count),
            np.bincount(rows[is_known & is_replaced], minlength=count),
        )


def default_operation(bundle: ModelBundle) -> int:
    """Return the index of the operation that training saw most often."""
    return int(bundle.operation_counts[1:].argmax()) + 1


def id_text(value: object) -> str | None:
    """Return an id as text; None for what is neither text nor a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | Integral):
        return None
    try:
        return str(value)
    except ValueError:  # Python does not write out an integer of thousands of digits.
        return None


def item_and_operation(event: Event, where: str) -> tuple[str, str | None]:
    """Return the two ids of an event; one of another form raises DataError, whose message `where` begins."""
    item: object = event
    operation: object = None
    if isinstance(event, Mapping):
        item, operation = event.get("item"), event.get("operation")
    elif isinstance(event, list | tuple) and len(event) == 2:
        item, operation = event
    texts = id_text(item), None if operation is None else id_text(operation)
    if texts[0] is None or (texts[1] is None and operation is not None):
        is_session = isinstance(event, list) or (isinstance(event, Mapping) and "events" in event)
        raise DataError(
            f"{where} should be an item id, an (item, operation) pair or "
            f'{{"item": ..., "operation": ...}}; found {shown(event)}'
            f"{' (recommend_many takes several sessions)' if is_session else ''}"
        )
    return texts[0], texts[1]


def check_session(session: Session) -> None:
    """Make sure that a session has one of the forms that a recommender takes; otherwise DataError is raised."""
    _read(session, "the session", 0, EventColumns(), EventColumns(), [])


def _read(
    session: Session, name: str, row: int, events: EventColumns, earlier: EventColumns, excluded: list[tuple[int, str]]
) -> None:
    """Append what a session holds: its events, those of earlier sessions, and what its list must not hold."""
    if not isinstance(session, Mapping) or "events" not in session:
        rule = f"{name} should be a list of events, or have one under 'events'"
        events.add(row, _sequence(session, rule), f"{name}, event")
        return
    own = _sequence(session["events"], f"{name} should have a list of events under 'events'")
    events.add(row, own, f"{name}, event")
    before = _sequence(session.get("earlier", ()), f"{name} should have a list of events under 'earlier'")
    earlier.add(row, before, f"{name}, earlier event")
    for each in _sequence(session.get("exclude", ()), f"{name} should have a list of item ids under 'exclude'"):
        text = id_text(each)
        if text is None:
            raise DataError(f"{name}, 'exclude', should hold item ids; found {shown(each)}")
        excluded.append((row, text))


def _sequence(value: Any, rule: str) -> Sequence[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise DataError(f"{rule}; found {shown(value)}")
    return value


def _newest_distinct(touched: NDArray[np.int64], count: int) -> EarlierItems:
    """The distinct items of each session, the newest first, at most so many as preparation keeps."""
    newest_first = touched[:, ::-1]
    newest_first = newest_first[:, np.argsort(newest_first[0], kind="stable")]
    keys = newest_first[0] * (newest_first[1].max() + 1) + newest_first[1]
    distinct = newest_first[:, np.sort(np.unique(keys, return_index=True)[1])]
    places = np.arange(distinct.shape[1]) - _offsets(distinct[0], count)[distinct[0]]
    rows, items, operations = distinct[:, places < MOST_EARLIER_ITEMS]
    return EarlierItems(items.astype(np.int32), operations.astype(np.int16), _offsets(rows, count))


def _offsets(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Where each session begins among entries of these rising session numbers, and how many entries there are."""
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]).astype(np.int64)

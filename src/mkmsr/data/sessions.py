"""SessionTable: all sessions as flat arrays, the form in which everything after preparation reads them.

EarlierItems is the same of what each session's visitor touched in earlier sessions; who the visitors are is forgotten.
ExampleTable has every (prefix, next item) pair of a session table as three numbers; nothing is copied.
Letters: S sessions, N pairs of a session and an item, n examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

MOST_EARLIER_ITEMS = 50
"""Items that a session remembers of earlier ones, the newest."""
MOST_EARLIER_VISITS = 20
"""Earlier sessions that it looks back to."""

MAX_SESSION_EVENTS = 29
"""Sequences keep the last 29 events (the 99th percentile of JDATA), so the longest prefix has 28. Source: the paper."""


def offsets_of(counts: NDArray[np.integer] | NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return where each of some rows begins that have so many entries, and the number of all entries. Shape [n + 1]."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def ranges(begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all positions of some ranges, one range after the other, and the offsets of the ranges among them."""
    lengths = end - begin
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1], dtype=np.int64) + np.repeat(begin - offsets[:-1], lengths), offsets


@dataclass(frozen=True)
class EarlierItems:
    """Compressed rows: session `s` has the items `offsets[s]:offsets[s + 1]`, distinct, the newest first.

    Items, int32 [N], with the operation of the newest event on each before the session, int16 [N]; offsets int64 [S +
    1].
    """

    items: NDArray[np.int32]
    operations: NDArray[np.int16]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        assert self.items.shape == self.operations.shape
        assert self.offsets[0] == 0
        assert self.offsets[-1] == len(self.items)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self, begin: int, end: int) -> EarlierItems:
        """Those of the sessions from `begin` to before `end`."""
        first, last = self.offsets[begin], self.offsets[end]
        offsets = self.offsets[begin : end + 1] - first
        return EarlierItems(self.items[first:last], self.operations[first:last], offsets)

    def select(self, sessions: NDArray[np.bool_]) -> EarlierItems:
        """Those of the sessions where the mask is true, [S]."""
        counts = np.diff(self.offsets)
        kept = np.repeat(sessions, counts)
        return EarlierItems(self.items[kept], self.operations[kept], offsets_of(counts[sessions]))

    def concatenate(self, other: EarlierItems) -> EarlierItems:
        """These sessions' followed by those of another table."""
        return EarlierItems(
            np.concatenate([self.items, other.items]),
            np.concatenate([self.operations, other.operations]),
            np.concatenate([self.offsets, other.offsets[1:] + len(self.items)]),
        )

    @classmethod
    def nothing(cls, sessions: int) -> EarlierItems:
        """Of so many sessions, none of which has earlier ones."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros(sessions + 1, np.int64))


@dataclass(frozen=True)
class SessionTable:
    """Sessions as compressed rows: session `s` is events `offsets[s]:offsets[s + 1]`, oldest first.

    Args:
        items: Item index of each event, 1..V-1. Shape [events], int32.
        operations: Operation index of each event, 1..O-1. Shape [events], int16.
        offsets: Where each session begins, and the number of events. Shape [sessions + 1], int64.
        times: Seconds since 1970 (UTC) of each event, or its row number in a log without times. Shape [events], int64.
        earlier: What each session's visitor touched in earlier sessions; None where the data do not say.
    """

    items: NDArray[np.int32]
    operations: NDArray[np.int16]
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]
    earlier: EarlierItems | None = None

    def __post_init__(self) -> None:
        assert self.items.shape == self.operations.shape == self.times.shape
        assert self.offsets.ndim == 1
        assert self.offsets[0] == 0
        assert self.offsets[-1] == len(self.items)
        assert self.earlier is None or len(self.earlier) == len(self)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_events(self) -> int:
        """How many events all sessions hold together."""
        return len(self.items)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events of each session. Shape [sessions]."""
        return np.diff(self.offsets)

    @property
    def session_of_event(self) -> NDArray[np.int64]:
        """The session of each event. Shape [events]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def session(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        """Items and operations of one session, oldest first."""
        begin, end = self.offsets[index], self.offsets[index + 1]
        return self.items[begin:end], self.operations[begin:end]

    def rows(self, begin: int, end: int) -> SessionTable:
        """The sessions from `begin` to before `end`."""
        first, last = self.offsets[begin], self.offsets[end]
        offsets = self.offsets[begin : end + 1] - first
        earlier = None if self.earlier is None else self.earlier.rows(begin, end)
        return SessionTable(
            self.items[first:last], self.operations[first:last], offsets, self.times[first:last], earlier
        )

    def select(self, events: NDArray[np.bool_]) -> SessionTable:
        """Only the events where the mask is true; sessions left empty disappear, the order stays."""
        kept = np.diff(offsets_of(events)[self.offsets])
        earlier = None if self.earlier is None else self.earlier.select(kept > 0)
        offsets = offsets_of(kept[kept > 0])
        return SessionTable(self.items[events], self.operations[events], offsets, self.times[events], earlier)

    def concatenate(self, other: SessionTable) -> SessionTable:
        """These sessions followed by those of another table over the same vocabularies."""
        earlier = None
        if self.earlier is not None and other.earlier is not None:
            earlier = self.earlier.concatenate(other.earlier)
        return SessionTable(
            np.concatenate([self.items, other.items]),
            np.concatenate([self.operations, other.operations]),
            np.concatenate([self.offsets, other.offsets[1:] + self.num_events]),
            np.concatenate([self.times, other.times]),
            earlier,
        )

    @classmethod
    def empty(cls) -> SessionTable:
        """A table without sessions."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros(1, np.int64), np.zeros(0, np.int64))


def earlier_items(tables: Sequence[SessionTable], visitors: Sequence[NDArray[np.int64]]) -> list[EarlierItems]:
    """Return what each session's visitor touched in sessions that ended before it began, whichever table they stand in.

    `tables` are all sessions of the log; `visitors` have a number for the visitor of each session, one array a table.
    """
    whole = tables[0]
    for table in tables[1:]:
        whole = whole.concatenate(table)
    session, earlier = _pairs(whole, np.concatenate(visitors))
    steps, _ = ranges(1 - whole.offsets[earlier + 1], 1 - whole.offsets[earlier])
    event = -steps  # The newest event of a visit first.
    owner, item = np.repeat(session, whole.lengths[earlier]), whole.items[event].astype(np.int64)
    # np.unique names the first of equals, which is the newest: pairs stand by session, then from the newest visit on.
    first = np.sort(np.unique(owner * (int(whole.items.max(initial=0)) + 1) + item, return_index=True)[1])
    owner, event = owner[first], event[first]
    total = np.bincount(owner, minlength=len(whole))
    begins = offsets_of(total)[:-1]
    kept, offsets = ranges(begins, begins + np.minimum(total, MOST_EARLIER_ITEMS))
    found = EarlierItems(whole.items[event[kept]], whole.operations[event[kept]], offsets)
    bounds = offsets_of(np.array([len(table) for table in tables]))
    return [found.rows(int(begin), int(end)) for begin, end in pairwise(bounds)]


def _pairs(sessions: SessionTable, visitors: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sessions and earlier sessions of the same visitor, by session and then from the newest visit on."""
    begins, ends = sessions.times[sessions.offsets[:-1]], sessions.times[sessions.offsets[1:] - 1]
    order = np.lexsort((np.arange(len(sessions)), ends, visitors))
    later, earlier = [], []
    for back in range(1, MOST_EARLIER_VISITS + 1):
        here, before = order[back:], order[:-back]
        kept = (visitors[here] == visitors[before]) & (ends[before] < begins[here])
        later.append(here[kept])
        earlier.append(before[kept])
    session, visit = np.concatenate(later), np.concatenate(earlier)
    by_session = np.argsort(session, kind="stable")
    return session[by_session], visit[by_session]


@dataclass(frozen=True)
class ExampleTable:
    """Examples over a session table: the prefix is events `begin:end`, the target is event `end`.

    Their sessions are int32 [n], events, which are indexes into the table's, int64 [n].
    """

    sessions: SessionTable
    session: NDArray[np.int32]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.session)

    @classmethod
    def from_sessions(cls, sessions: SessionTable, *, max_events: int = MAX_SESSION_EVENTS) -> ExampleTable:
        """Every prefix of the last `max_events` events of each session, in session order, shortest prefix first."""
        lengths = np.minimum(sessions.lengths, max_events)
        counts = np.maximum(lengths - 1, 0)
        session = np.repeat(np.arange(len(sessions), dtype=np.int32), counts)
        first, last = sessions.offsets[1:] - lengths, sessions.offsets[1:]
        end, _ = ranges(last - counts, last)
        return cls(sessions, session, np.repeat(first, counts), end)

    @property
    def targets(self) -> NDArray[np.int32]:
        """Item index of each example's next event. Shape [n]."""
        return self.sessions.items[self.end]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events in each prefix. Shape [n]."""
        return self.end - self.begin

    def rows(self, index: NDArray[np.integer] | NDArray[np.bool_] | slice) -> ExampleTable:
        """The chosen rows, over the same sessions."""
        return ExampleTable(self.sessions, self.session[index], self.begin[index], self.end[index])

    def target_in_prefix(self) -> NDArray[np.bool_]:
        """Whether each target already occurs in its prefix. Shape [n]."""
        row = np.repeat(np.arange(len(self)), self.lengths)
        event, _ = ranges(self.begin, self.end)
        same = self.sessions.items[event] == self.targets[row]
        return np.bincount(row[same], minlength=len(self)) > 0

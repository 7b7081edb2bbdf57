"""ExampleTable: every (prefix, next item) pair of a session table, as three numbers a row; nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mkmsr.data.sessions import SessionTable, ranges

MAX_SESSION_EVENTS = 29
"""Sequences keep the last 29 events (the 99th percentile of JDATA), so the longest prefix has 28. Source: the paper."""


@dataclass(frozen=True)
class ExampleTable:
    """Examples over a session table: the prefix is events `begin:end`, the target is event `end`.

    Args:
        sessions: The table that the rows point into.
        session: The session of each example. Shape [n], int32.
        begin: First event of the prefix, an index into the table's events. Shape [n], int64.
        end: The target's event, one past the prefix. Shape [n], int64.
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

"""Collect what the visitor of each session touched in earlier sessions, and then forget who the visitors are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mkmsr.data.sessions import EarlierItems, SessionTable

__all__ = ["MOST_EARLIER_ITEMS", "earlier_items"]

MOST_EARLIER_ITEMS = 50
"""Items that a session remembers of earlier ones, the newest."""
MOST_EARLIER_VISITS = 20
"""Earlier sessions that it looks back to."""


def earlier_items(tables: Sequence[SessionTable], visitors: Sequence[NDArray[np.int64]]) -> list[EarlierItems]:
    """Return what each session's visitor touched in sessions that ended before it began, whichever table they stand in.

    Args:
        tables: All sessions of the log, such as train, validation and test.
        visitors: A number for the visitor of each session, one array a table.
    """
    whole = tables[0]
    for table in tables[1:]:
        whole = whole.concatenate(table)
    session, earlier = _pairs(whole, np.concatenate(visitors))
    counts = whole.lengths[earlier]
    pair = np.repeat(np.arange(len(earlier)), counts)
    steps = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    event = whole.offsets[earlier + 1][pair] - 1 - steps  # The newest event of a visit first.
    owner, item = session[pair], whole.items[event].astype(np.int64)
    # np.unique names the first of equals, which is the newest: pairs stand by session, then from the newest visit on.
    first = np.sort(np.unique(owner * (int(whole.items.max(initial=0)) + 1) + item, return_index=True)[1])
    owner, event = owner[first], event[first]
    total = np.bincount(owner, minlength=len(whole))
    place = np.arange(len(owner)) - np.repeat(np.cumsum(total) - total, total)
    owner, event = owner[place < MOST_EARLIER_ITEMS], event[place < MOST_EARLIER_ITEMS]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(whole)))]).astype(np.int64)
    found = EarlierItems(whole.items[event], whole.operations[event], offsets)
    bounds = np.concatenate([[0], np.cumsum([len(table) for table in tables])])
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

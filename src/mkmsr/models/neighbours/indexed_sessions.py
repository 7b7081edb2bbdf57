"""IndexedSessions: the training sessions of a `SessionIndex`, by session and by item.

Sessions are numbered from the newest to the oldest ("places"), so that the most recent sessions of an item are the
first of its list and a cut of the list is exact. Dimension letters: S indexed sessions, N (session, item) pairs,
V catalogue + 1.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mkmsr.data.sessions import SessionTable
from mkmsr.errors import DataError
from mkmsr.layers.compressed_rows import check_compressed_rows, check_indexes


class IndexedSessions(nn.Module):
    """Training sessions by item, and their items. All state is buffers, filled by `build`.

    A bundle is to hold no more about other visitors than scores need: no ids, no times, and how old a session is only
    where that counts.

    Args:
        num_columns: V.
        by_age: Whether a neighbour's age counts.

    Buffers:
        items: The distinct items of each session, sessions by place. Shape [N].
        item_events: Newest event of that item in that session. Shape [N].
        session_offsets: Where each session's items begin. Shape [S + 1].
        ages: Days from a session's last event to the newest of all, if ages count. Shape [S].
    """

    items: Tensor
    item_events: Tensor
    session_offsets: Tensor
    ages: Tensor

    def __init__(self, num_columns: int, *, by_age: bool = False):
        super().__init__()
        self.num_columns, self.by_age = num_columns, by_age
        self.by_item = PostingLists(num_columns)
        for name in ("items", "item_events"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64))
        self.register_buffer("session_offsets", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("ages", torch.zeros(0))

    @property
    def num_sessions(self) -> int:
        """S."""
        return len(self.session_offsets) - 1

    def idf(self, items: Tensor) -> Tensor:
        """Return log(S / sessions with the item) of some items, [M] -> [M]."""
        return torch.log(self.num_sessions / self.by_item.sizes(items).clamp(min=1))

    def build(self, sessions: SessionTable) -> None:
        """Index these training sessions in place of what was there; empty ones are left out."""
        place_of_row = places_of(sessions)
        rows = np.flatnonzero(sessions.lengths)
        rows = rows[place_of_row[rows].argsort()]
        places = place_of_row[sessions.session_of_event]
        item, place, newest = self.by_item.build(sessions, places)
        by_place = np.argsort(place, kind="stable")
        columns = {
            "items": item[by_place],
            "item_events": newest[by_place],
            "session_offsets": np.searchsorted(place[by_place], np.arange(len(rows) + 1)),
        }
        for name, values in columns.items():
            setattr(self, name, torch.from_numpy(values.astype(np.int64)).to(self.ages.device))
        if self.by_age:
            ends = sessions.times[sessions.offsets[1:][rows] - 1]
            days = (ends.max(initial=0) - ends) / 86_400
            self.ages = torch.from_numpy(days.astype(np.float32)).to(self.ages.device)

    def check_buffers(self) -> None:
        """Make sure that buffers from a file fit each other.

        Raises:
            DataError: They do not.
        """
        check_compressed_rows("items by session", self.session_offsets, self.items, self.item_events)
        check_indexes("items of sessions", self.items, 0, self.num_columns)
        if len(self.by_item.counts) != self.num_columns:
            raise DataError(f"sessions of {len(self.by_item.counts)} items, not {self.num_columns}")
        self.by_item.check("sessions by item", self.num_sessions)
        if self.by_age and self.ages.shape != (self.num_sessions,):
            raise DataError(f"ages of {list(self.ages.shape)} sessions, not {self.num_sessions}")

    def forget(self, places: NDArray[np.int64]) -> None:
        """Take some sessions out, by their places; those behind them move up."""
        kept = torch.ones(self.num_sessions, dtype=torch.bool, device=self.items.device)
        kept[torch.from_numpy(places).to(kept.device)] = False
        sizes = self.session_offsets.diff()
        pairs = torch.repeat_interleave(kept, sizes)
        self.items, self.item_events = self.items[pairs], self.item_events[pairs]
        if len(self.ages):
            self.ages = self.ages[kept]
        self.session_offsets = torch.cat([self.session_offsets[:1], sizes[kept].cumsum(0)])
        self.by_item.forget(kept)

    def append_items(self, count: int) -> None:
        """Make room for items that stand in no indexed session."""
        self.num_columns += count
        self.by_item.offsets = torch.cat([self.by_item.offsets, self.by_item.offsets[-1:].expand(count)])


class PostingLists(nn.Module):
    """Sessions by item in compressed rows: the newest session of each list first.

    Sessions are known by their places, see `SessionIndex`. All state is buffers, filled by `build`.

    Args:
        num_lists: V.

    Buffers:
        postings: list * S + place of every pair, rising. Shape [N].
        events: Newest event of that item in that session, from its beginning. Shape [N].
        offsets: Where each list begins. Shape [V + 1].
    """

    postings: Tensor
    events: Tensor
    offsets: Tensor

    def __init__(self, num_lists: int):
        super().__init__()
        self.register_buffer("postings", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("events", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("offsets", torch.zeros(num_lists + 1, dtype=torch.int64))

    @property
    def counts(self) -> Tensor:
        """Sessions of each list. Shape [V]."""
        return self.offsets.diff()

    def sizes(self, lists: Tensor) -> Tensor:
        """Sessions of some lists, [M] -> [M]."""
        return self.offsets[lists + 1] - self.offsets[lists]

    def build(
        self, sessions: SessionTable, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Index these sessions in place of what was there; `places` are those of their events.

        Returns:
            Item, place and newest event of every pair, by item and then place; each of shape [N].
        """
        items, num_lists = sessions.items.astype(np.int64), len(self.counts)
        num_places = max(int((sessions.lengths > 0).sum()), 1)
        event = np.arange(sessions.num_events) - sessions.offsets[sessions.session_of_event]
        # Backwards: np.unique keeps the first of equals, the newest event.
        pairs, at = np.unique((items * num_places + places)[::-1], return_index=True)
        newest = event[::-1][at].astype(np.int64)
        offsets = np.searchsorted(pairs, np.arange(num_lists + 1) * num_places)
        device = self.offsets.device
        self.postings, self.events, self.offsets = (
            torch.from_numpy(each).to(device) for each in (pairs, newest, offsets)
        )
        return *np.divmod(pairs, num_places), newest

    def forget(self, kept: Tensor) -> None:
        """Leave out all sessions but some; those move up. Whether each is kept: [S], bool."""
        lists, before = torch.repeat_interleave(self.counts), max(len(kept), 1)
        places = self.postings - lists * before
        stays, after = kept[places], max(int(kept.sum()), 1)
        self.postings = (lists * after + (kept.cumsum(0) - 1)[places])[stays]
        self.events = self.events[stays]
        counts = torch.bincount(lists[stays], minlength=len(self.counts))
        self.offsets = torch.cat([self.offsets[:1], counts.cumsum(0)])

    def check(self, what: str, num_sessions: int) -> None:
        """Make sure that buffers from a file fit each other and so many sessions; `what` names them.

        Raises:
            DataError: They do not.
        """
        check_compressed_rows(what, self.offsets, self.postings, self.events)
        owner = torch.repeat_interleave(self.counts)
        check_indexes(what, self.postings - owner * num_sessions, 0, num_sessions)


def places_of(sessions: SessionTable) -> NDArray[np.int64]:
    """Return the place of each session in an index of them, -1 of an empty one; those that ended last come first."""
    kept = np.flatnonzero(sessions.lengths)
    ends = sessions.times[sessions.offsets[1:][kept] - 1]
    places = np.full(len(sessions), -1, np.int64)
    places[kept[np.lexsort((kept, ends))[::-1]]] = np.arange(len(kept))
    return places


RENAMED = {
    "index.table_rows": "",
    "index.places": "",
    "index.postings": "index.by_item.postings",
    "index.posting_events": "index.by_item.events",
    "index.item_offsets": "index.by_item.offsets",
}
"""Tensors of an index in bundles of earlier releases, see `ModelEntry.renamed`."""

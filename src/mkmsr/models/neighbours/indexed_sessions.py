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
        postings: item * S + place of every pair, rising: of an item, its newest session comes first. Shape [N].
        posting_events: Newest event of that item in that session, from its beginning. Shape [N].
        item_offsets: Where each item's sessions begin. Shape [V + 1].
        ages: Days from a session's last event to the newest of all, if ages count. Shape [S].
    """

    items: Tensor
    item_events: Tensor
    session_offsets: Tensor
    postings: Tensor
    posting_events: Tensor
    item_offsets: Tensor
    ages: Tensor

    def __init__(self, num_columns: int, *, by_age: bool = False):
        super().__init__()
        self.num_columns, self.by_age = num_columns, by_age
        for name in ("items", "item_events", "postings", "posting_events"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64))
        self.register_buffer("session_offsets", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("item_offsets", torch.zeros(num_columns + 1, dtype=torch.int64))
        self.register_buffer("ages", torch.zeros(0))

    @property
    def num_sessions(self) -> int:
        """S."""
        return len(self.session_offsets) - 1

    def idf(self, items: Tensor) -> Tensor:
        """Return log(S / sessions with the item) of some items, [M] -> [M]."""
        sizes = self.item_offsets[items + 1] - self.item_offsets[items]
        return torch.log(self.num_sessions / sizes.clamp(min=1))

    def build(self, sessions: SessionTable) -> None:
        """Index these training sessions in place of what was there; empty ones are left out."""
        place_of_row = places_of(sessions)
        rows = np.flatnonzero(sessions.lengths)
        rows = rows[place_of_row[rows].argsort()]
        places = place_of_row[sessions.session_of_event]
        event = np.arange(sessions.num_events) - sessions.offsets[sessions.session_of_event]
        num_places = max(len(rows), 1)
        # Backwards: np.unique keeps the first of equals, the newest event.
        pairs, at = np.unique((sessions.items.astype(np.int64) * num_places + places)[::-1], return_index=True)
        item, place = np.divmod(pairs, num_places)
        newest = event[::-1][at]
        by_place = np.argsort(place, kind="stable")
        columns = {
            "postings": pairs,
            "posting_events": newest,
            "item_offsets": np.searchsorted(item, np.arange(self.num_columns + 1)),
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
        check_compressed_rows("items by session", self.session_offsets, self.items, self.item_events)
        check_indexes("items of sessions", self.items, 0, self.num_columns)
        if len(self.item_offsets) != self.num_columns + 1:
            raise DataError(f"sessions of {len(self.item_offsets) - 1} items, not {self.num_columns}")
        check_compressed_rows("sessions by item", self.item_offsets, self.postings, self.posting_events)
        owner = torch.repeat_interleave(self.item_offsets.diff())
        check_indexes("sessions by item", self.postings - owner * self.num_sessions, 0, self.num_sessions)
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
        owner, before = torch.repeat_interleave(self.item_offsets.diff()), max(len(kept), 1)
        place = self.postings - owner * before
        stays, after = kept[place], max(int(kept.sum()), 1)
        self.postings = (owner * after + (kept.cumsum(0) - 1)[place])[stays]
        self.posting_events = self.posting_events[stays]
        counts = torch.bincount(owner[stays], minlength=self.num_columns)
        self.item_offsets = torch.cat([self.item_offsets[:1], counts.cumsum(0)])

    def append_items(self, count: int) -> None:
        """Make room for items that stand in no indexed session."""
        self.num_columns += count
        self.item_offsets = torch.cat([self.item_offsets, self.item_offsets[-1:].expand(count)])


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
    "index.by_item.postings": "index.postings",
    "index.by_item.events": "index.posting_events",
    "index.by_item.offsets": "index.item_offsets",
}
"""Tensors of an index in bundles of earlier releases, see `ModelEntry.renamed`."""

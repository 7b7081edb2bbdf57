"""IndexedSessions: the training sessions of a `SessionIndex`, by session, by item and by group of similar items.

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
from mkmsr.models.neighbours.similar_items import PostingLists, SimilarItems

__all__ = ["RENAMED", "IndexedSessions", "places_of"]


class IndexedSessions(nn.Module):
    """Training sessions by item, and their items. All state is buffers, filled by `build`.

    A bundle is to hold no more about other visitors than scores need: which row a session had in the training data is
    known to training alone, and how old it is is saved only where that counts.

    Args:
        num_columns: V.
        by_attributes: Whether sessions can be found by similar items too.
        by_age: Whether a neighbour's age counts.

    Buffers:
        items: The distinct items of each session, sessions by place. Shape [N].
        item_events: Newest event of that item in that session. Shape [N].
        session_offsets: Where each session's items begin. Shape [S + 1].
        ages: Days from a session's last event to the newest of all, if ages count. Shape [S].
        places: Place of each row of the table that was indexed, see `places_of`; not saved. Shape [rows of the table].
    """

    items: Tensor
    item_events: Tensor
    session_offsets: Tensor
    ages: Tensor
    places: Tensor

    def __init__(self, num_columns: int, *, by_attributes: bool = False, by_age: bool = True):
        super().__init__()
        self.num_columns, self.by_age = num_columns, by_age
        self.by_item = PostingLists(num_columns)
        self.similar_items = SimilarItems(num_columns) if by_attributes else None
        for name in ("items", "item_events", "places"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64), persistent=name != "places")
        self.register_buffer("session_offsets", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("ages", torch.zeros(0))

    @property
    def num_sessions(self) -> int:
        """S."""
        return len(self.session_offsets) - 1

    def idf(self, items: Tensor) -> Tensor:
        """Return log(S / sessions with the item) of some items, [M] -> [M]."""
        return torch.log(self.num_sessions / self.by_item.sizes(items).clamp(min=1))

    def build(self, sessions: SessionTable, triples: Tensor | None = None) -> None:
        """Index these sessions in place of what was there; empty ones are left out.

        Args:
            sessions: Training sessions.
            triples: Item and attribute indexes, for an index by attributes. Shape [T, 2].
        """
        place_of_row = places_of(sessions)
        rows = np.flatnonzero(sessions.lengths)
        rows = rows[place_of_row[rows].argsort()]
        places = place_of_row[sessions.session_of_event]
        item, place, newest = self.by_item.build(sessions.items.astype(np.int64), places, sessions, self.num_columns)
        by_place = np.argsort(place, kind="stable")
        columns = {
            "items": item[by_place],
            "item_events": newest[by_place],
            "session_offsets": np.searchsorted(place[by_place], np.arange(len(rows) + 1)),
            "places": place_of_row,
        }
        for name, values in columns.items():
            setattr(self, name, torch.from_numpy(values.astype(np.int64)).to(self.ages.device))
        if self.by_age:
            ends = sessions.times[sessions.offsets[1:][rows] - 1]
            days = (ends.max(initial=0) - ends) / 86_400
            self.ages = torch.from_numpy(days.astype(np.float32)).to(self.ages.device)
        if self.similar_items is not None:
            assert triples is not None
            self.similar_items.build(sessions, places, triples[:, 0], triples[:, 1])

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
        if self.similar_items is not None:
            self.similar_items.check(self.num_columns, self.num_sessions)

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
        self.places = self.places[:0]
        self.by_item.forget(kept)
        if self.similar_items is not None:
            self.similar_items.lists.forget(kept)

    def append_items(self, count: int, triples: Tensor) -> None:
        """Make room for items that stand in no indexed session; `triples` as in `build`."""
        self.num_columns += count
        self.by_item.offsets = torch.cat([self.by_item.offsets, self.by_item.offsets[-1:].expand(count)])
        if self.similar_items is not None:
            self.similar_items.append_items(count, triples[:, 0], triples[:, 1])


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
    "index.kinds.of_item": "index.similar_items.group_of_item",
    "index.kinds.signatures": "index.similar_items.signatures",
    "index.kinds.postings": "index.similar_items.lists.postings",
    "index.kinds.posting_events": "index.similar_items.lists.events",
    "index.kinds.offsets": "index.similar_items.lists.offsets",
}
"""Tensors of an index in bundles of earlier releases, see `ModelEntry.renamed`."""

"""Similar items by attributes, those that have the same ones throughout, and the training sessions that hold them.

Where most items occur once or twice, hardly any session shares an item with a prefix, but many hold another phone of
the same brand and shop. Dimension letters: V catalogue + 1, G groups + 1 (0: no attributes), S sessions, N (list,
session) pairs, T triples.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mkmsr.data.sessions import SessionTable
from mkmsr.errors import DataError
from mkmsr.layers.compressed_rows import check_compressed_rows, check_indexes

__all__ = ["PostingLists", "SimilarItems"]

_NO_GROUP = 0


class PostingLists(nn.Module):
    """Sessions by item, or by group of items, in compressed rows: the newest session of each list first.

    Sessions are known by their places, see `SessionIndex`. All state is buffers, filled by `build`.

    Args:
        num_lists: V, or G.

    Buffers:
        postings: list * S + place of every pair, rising. Shape [N].
        events: Newest event of that item or group in that session, from its beginning. Shape [N].
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
        self, lists: NDArray[np.int64], places: NDArray[np.int64], sessions: SessionTable, num_lists: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Put these lists in place of what was there.

        Args:
            lists: List of each event, -1 for none. Shape [events].
            places: Place of each event's session. Shape [events].
            sessions: Where the events stand.
            num_lists: V.

        Returns:
            List, place and newest event of every pair, by list and then place; each of shape [N].
        """
        num_places = max(int((sessions.lengths > 0).sum()), 1)
        event = np.arange(sessions.num_events) - sessions.offsets[sessions.session_of_event]
        kept = np.flatnonzero(lists >= 0)[::-1]  # Backwards: np.unique keeps the first of equals, the newest event.
        pairs, at = np.unique((lists * num_places + places)[kept], return_index=True)
        newest = event[kept][at].astype(np.int64)
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


class SimilarItems(nn.Module):
    """The group of every item, those with the same attributes, and the sessions of every group. All state is buffers.

    Args:
        num_columns: V.

    Buffers:
        group_of_item: Group of each item. Shape [V].
        signatures: What stands for each group's set of attributes, rising; group g is at place g - 1. Shape [G - 1].
    """

    group_of_item: Tensor
    signatures: Tensor

    def __init__(self, num_columns: int):
        super().__init__()
        self.register_buffer("group_of_item", torch.zeros(num_columns, dtype=torch.int64))
        self.register_buffer("signatures", torch.zeros(0, dtype=torch.int64))
        self.lists = PostingLists(1)

    @property
    def num_groups(self) -> int:
        """G."""
        return len(self.lists.offsets) - 1

    def build(self, sessions: SessionTable, places: NDArray[np.int64], items: Tensor, attributes: Tensor) -> None:
        """Take in the sessions, with the place of each event's, and the triples: items [T], attributes [T]."""
        device = self.group_of_item.device
        signature_V = _signatures(items.to(device), attributes.to(device), len(self.group_of_item))
        self.signatures = torch.unique(signature_V[signature_V != _NO_GROUP])
        self.group_of_item = self._groups(signature_V)
        groups = self.group_of_item.cpu().numpy()[sessions.items]
        groups = np.where(groups == _NO_GROUP, -1, groups)
        self.lists.build(groups, places, sessions, len(self.signatures) + 1)

    def check(self, num_columns: int, num_sessions: int) -> None:
        """Make sure that buffers from a file fit each other and so many items and sessions.

        Raises:
            DataError: They do not.
        """
        self.lists.check("sessions by group of similar items", num_sessions)
        check_indexes("groups of items", self.group_of_item, 0, self.num_groups)
        if self.signatures.shape != (self.num_groups - 1,):
            raise DataError(f"signatures of {list(self.signatures.shape)} groups, not {self.num_groups - 1}")
        if len(self.group_of_item) != num_columns:
            raise DataError(f"groups of {len(self.group_of_item)} items, not {num_columns}")

    def similar_to(self, items: Tensor) -> Tensor:
        """Return all items of the groups of these, these included if they have one. Rising."""
        groups = self.group_of_item[items]
        return torch.isin(self.group_of_item, groups[groups != _NO_GROUP]).nonzero().squeeze(1)

    def append_items(self, count: int, items: Tensor, attributes: Tensor) -> None:
        """Give `count` items behind the catalogue their groups, by their triples; a new group has no sessions."""
        signature = _signatures(items - len(self.group_of_item), attributes, count)
        self.group_of_item = torch.cat([self.group_of_item, self._groups(signature.to(self.group_of_item))])

    def _groups(self, signatures: Tensor) -> Tensor:
        if len(self.signatures) == 0:
            return torch.zeros_like(signatures)
        place = torch.searchsorted(self.signatures, signatures).clamp(max=len(self.signatures) - 1)
        return torch.where(self.signatures[place] == signatures, place + 1, _NO_GROUP)


def _signatures(items: Tensor, attributes: Tensor, num_items: int) -> Tensor:
    """A 63-bit number for each item's set of attributes, 0 for none. Sets differ in theirs but for one in 2^63. [V]."""
    mixed = _scrambled(attributes.to(torch.int64))
    total = torch.zeros(num_items, dtype=torch.int64, device=items.device).index_add_(0, items, mixed)
    known = torch.bincount(items, minlength=num_items) > 0
    return torch.where(known, (total & (2**63 - 1)).clamp(min=1), _NO_GROUP)


def _scrambled(numbers: Tensor) -> Tensor:
    """Each whole number as 64 bits that look random, the same on every machine (SplitMix64; products wrap around)."""
    bits = numbers * -0x61C8864680B583EB
    bits = (bits ^ _shifted(bits, 30)) * -0x40A7B892E31B1A47
    bits = (bits ^ _shifted(bits, 27)) * -0x6B2FB644ECCEEE15
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Logical shift to the right: zeros come in from the left."""
    return (bits >> places) & ((1 << (64 - places)) - 1)

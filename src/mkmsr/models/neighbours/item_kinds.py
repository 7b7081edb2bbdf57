"""Items of one kind, those that have the same attributes throughout, and the training sessions that hold them.

Where most items occur once or twice, hardly any session shares an item with a prefix, but many hold another phone of
the same brand and shop. Dimension letters: V catalogue + 1, A attributes, K kinds + 1 (0: no attributes), S sessions,
N (session, kind) pairs, T triples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mkmsr.data.sessions import SessionTable
from mkmsr.errors import DataError
from mkmsr.layers.compressed_rows import check_compressed_rows, check_indexes

__all__ = ["ItemKinds", "PostingLists"]

_NO_KIND = 0


@dataclass(frozen=True)
class PostingLists:
    """Sessions by item or kind, the newest of each list first.

    Args:
        postings: number * S + place of every pair of item (or kind) and session, rising. Shape [N].
        offsets: Where each item's postings begin. Shape [V + 1].
        events: Newest event of that item in that session, from its beginning. Shape [N].
    """

    postings: Tensor
    offsets: Tensor
    events: Tensor

    @property
    def counts(self) -> Tensor:
        """Sessions of each item. Shape [V]."""
        return self.offsets.diff()


class ItemKinds(nn.Module):
    """Kind of every item, and the sessions of every kind in compressed rows. All state is buffers.

    Args:
        num_columns: V.

    Buffers:
        of_item: Kind of each item. Shape [V].
        signatures: What stands for each kind's set of attributes, rising; kind k is at place k - 1. Shape [K - 1].
        postings: kind * S + place of every pair, rising, as in `SessionIndex`. Shape [N].
        posting_events: The kind's newest event in that session, from its beginning. Shape [N].
        offsets: Where each kind's postings begin. Shape [K + 1].
    """

    of_item: Tensor
    signatures: Tensor
    postings: Tensor
    posting_events: Tensor
    offsets: Tensor

    def __init__(self, num_columns: int):
        super().__init__()
        empty = torch.zeros(0, dtype=torch.int64)
        for name in ("signatures", "postings", "posting_events"):
            self.register_buffer(name, empty.clone())
        self.register_buffer("of_item", torch.zeros(num_columns, dtype=torch.int64))
        self.register_buffer("offsets", torch.zeros(2, dtype=torch.int64))

    @property
    def num_kinds(self) -> int:
        """K."""
        return len(self.offsets) - 1

    @property
    def lists(self) -> PostingLists:
        """The sessions of each kind."""
        return PostingLists(self.postings, self.offsets, self.posting_events)

    def build(self, sessions: SessionTable, place_of_row: Tensor, items: Tensor, attributes: Tensor) -> None:
        """Take in the sessions, whose places are `SessionIndex.places`, and the triples: items [T], attributes [T]."""
        device = self.of_item.device
        signature_V = _signatures(items.to(device), attributes.to(device), len(self.of_item))
        self.signatures = torch.unique(signature_V[signature_V != _NO_KIND])
        self.of_item = self._kinds(signature_V)
        kinds = self.of_item.cpu().numpy()[sessions.items]
        owner = sessions.session_of_event
        place = place_of_row.cpu().numpy()[owner]
        num_sessions = max(int((place_of_row >= 0).sum()), 1)
        event = np.arange(sessions.num_events) - sessions.offsets[owner]
        of_a_kind = np.flatnonzero(kinds != _NO_KIND)[::-1]  # Backwards: np.unique keeps the first of equals.
        pairs, at = np.unique((kinds * num_sessions + place)[of_a_kind], return_index=True)
        offsets = np.searchsorted(pairs, np.arange(len(self.signatures) + 2) * num_sessions)
        self.postings = torch.from_numpy(pairs).to(device)
        self.posting_events = torch.from_numpy(event[of_a_kind][at]).to(device)
        self.offsets = torch.from_numpy(offsets).to(device)

    def check_buffers(self) -> None:
        """Make sure that buffers from a file fit each other.

        Raises:
            DataError: They do not.
        """
        check_compressed_rows("sessions by kind", self.offsets, self.postings, self.posting_events)
        check_indexes("kinds of items", self.of_item, 0, self.num_kinds)
        if self.signatures.shape != (self.num_kinds - 1,):
            raise DataError(f"signatures of {list(self.signatures.shape)} kinds, not {self.num_kinds - 1}")

    def alike(self, items: Tensor) -> Tensor:
        """All items that are of a kind with one of these, these included if they have a kind. Rising."""
        kinds = self.of_item[items]
        return torch.isin(self.of_item, kinds[kinds != _NO_KIND]).nonzero().squeeze(1)

    def append_items(self, count: int, items: Tensor, attributes: Tensor) -> None:
        """Give `count` items behind the catalogue their kinds, by their triples; a kind that is new has no sessions."""
        first = len(self.of_item)
        signature = _signatures(items - first, attributes, count)
        self.of_item = torch.cat([self.of_item, self._kinds(signature.to(self.of_item))])

    def _kinds(self, signatures: Tensor) -> Tensor:
        if len(self.signatures) == 0:
            return torch.zeros_like(signatures)
        place = torch.searchsorted(self.signatures, signatures).clamp(max=len(self.signatures) - 1)
        return torch.where(self.signatures[place] == signatures, place + 1, _NO_KIND)


def _signatures(items: Tensor, attributes: Tensor, num_items: int) -> Tensor:
    """A 63-bit number for each item's set of attributes, 0 for none. Sets differ in theirs but for one in 2^63. [V]."""
    mixed = _scrambled(attributes.to(torch.int64))
    total = torch.zeros(num_items, dtype=torch.int64, device=items.device).index_add_(0, items, mixed)
    known = torch.bincount(items, minlength=num_items) > 0
    return torch.where(known, (total & (2**63 - 1)).clamp(min=1), _NO_KIND)


def _scrambled(numbers: Tensor) -> Tensor:
    """Each whole number as 64 bits that look random, the same on every machine (SplitMix64; products wrap around)."""
    bits = numbers * -0x61C8864680B583EB
    bits = (bits ^ _shifted(bits, 30)) * -0x40A7B892E31B1A47
    bits = (bits ^ _shifted(bits, 27)) * -0x6B2FB644ECCEEE15
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Logical shift to the right: zeros come in from the left."""
    return (bits >> places) & ((1 << (64 - places)) - 1)

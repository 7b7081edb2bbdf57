"""SessionIndex: training sessions that resemble a prefix and the items they vote for; all neighbour models use it.

Everything is a few tensor operations a batch over compressed rows. Sessions are numbered from the newest to the oldest
("places"), so that the most recent sessions of an item are the first of its list and a cut of the list is exact.
Dimension letters: B prefixes, M neighbours or votes of all prefixes, S indexed sessions, N (session, item) pairs,
V catalogue + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.errors import DataError
from mkmsr.layers.compressed_rows import check_compressed_rows, check_indexes
from mkmsr.models.neighbours.similar_items import PostingLists, SimilarItems
from mkmsr.models.neighbours.voting import NO_DECAY, Decay, PrefixItems, Votes, expand, heaviest_first, prefix_values

__all__ = ["RENAMED", "Exclude", "Neighbours", "SessionIndex", "VoteSettings", "second_hop"]

_BEST_ITEMS = 10
_LESS = 10

Exclude = Literal["nothing", "own", "later"]


@dataclass(frozen=True)
class VoteSettings:
    """How neighbours are found and how much each of their items gets.

        sim(s, n)  = [ sum over i in both of  prefix_decay(steps of i in s)
                       + w_group sum over groups g in both of  prefix_decay(steps of g in s) log(S / sessions with g) ]
                     [/ sqrt(|s| |n|)]  * age_decay(n)
        score(s, i) = sum over n in N(s), i in n of  sim(s, n) * match_decay(steps of i*)
                      * gap_decay(|place of i - place of i*| in n) * (1 + w_idf idf(i))

    where i* is the newest item of the prefix that n has too, or else the newest that it has a similar item to, steps
    are counted back from the prefix's last event, what recurs stands at its newest place, and |.| counts distinct
    items. Groups are those of similar items, see `SimilarItems`.

    Args:
        neighbours: k, the sessions that vote: the most similar, the newest first among equals.
        sample_size: m, the sessions that may become neighbours: the newest that share an item with the prefix.
        cosine: Divide by sqrt(|s| |n|).
        prefix_decay: Of a prefix item, with its steps.
        match_decay: Of a neighbour, with the steps of i*.
        gap_decay: Of a neighbour's item, with its distance from i* there.
        age_decay: Of a neighbour, with its age in days (86,400 rows in a log without times), counted from the youngest
            neighbour of the same prefix. For an exponential decay every fixed point of time gives the same ranking.
        idf_weight: w_idf; idf(i) = log(S / sessions with i).
        kind_weight: w_group; only in an index by attributes.
    """

    neighbours: int = 100
    sample_size: int = 1000
    cosine: bool = True
    prefix_decay: Decay = NO_DECAY
    match_decay: Decay = NO_DECAY
    gap_decay: Decay = NO_DECAY
    age_decay: Decay = NO_DECAY
    idf_weight: float = 0.0
    kind_weight: float = 0.0


@dataclass(frozen=True)
class Neighbours:
    """The chosen neighbour sessions of every prefix, by prefix and then from the newest to the oldest; shapes [M].

    Args:
        rows: Prefix.
        places: The neighbour's place in the index, see `SessionIndex.table_rows`.
        similarity: sim(s, n).
        shared: Distinct items of the prefix that the neighbour has too.
        steps: Steps in the prefix of i*, the newest item of the prefix that the neighbour has too.
        anchors: Place of i* in the neighbour, in events from its beginning.
    """

    rows: Tensor
    places: Tensor
    similarity: Tensor
    shared: Tensor
    steps: Tensor
    anchors: Tensor

    def concatenated(self, other: Neighbours) -> Neighbours:
        """Return both lists of neighbours; those of `self` come first."""
        pairs = [(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)]
        return Neighbours(*(torch.cat(pair) for pair in pairs))

    def chosen(self, which: Tensor) -> Neighbours:
        """The neighbours at the given positions or where a mask is true."""
        return Neighbours(*(getattr(self, each.name)[which] for each in fields(self)))


class SessionIndex(nn.Module):
    """Training sessions by item, and their items. All state is buffers, filled by `build`.

    Args:
        num_columns: V.
        by_attributes: Whether sessions can be found by similar items too.

    Buffers:
        items: The distinct items of each session, sessions by place. Shape [N].
        item_events: Newest event of that item in that session. Shape [N].
        session_offsets: Where each session's items begin. Shape [S + 1].
        ages: Days from a session's last event to the newest of all. Shape [S].
        table_rows: Row of each session in the table that was indexed. Shape [S].
        places: Place of each row of that table, -1 for an empty session. Shape [rows of the table].
    """

    items: Tensor
    item_events: Tensor
    session_offsets: Tensor
    ages: Tensor
    table_rows: Tensor
    places: Tensor

    def __init__(self, num_columns: int, *, by_attributes: bool = False):
        super().__init__()
        self.num_columns = num_columns
        self.by_item = PostingLists(num_columns)
        self.similar_items = SimilarItems(num_columns) if by_attributes else None
        for name in ("items", "item_events", "table_rows", "places"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64))
        self.register_buffer("session_offsets", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("ages", torch.zeros(0))

    @property
    def num_sessions(self) -> int:
        """S."""
        return len(self.table_rows)

    def build(self, sessions: SessionTable, triples: Tensor | None = None) -> None:
        """Index these sessions in place of what was there; empty ones are left out.

        Args:
            sessions: Training sessions.
            triples: Item and attribute indexes, for an index by attributes. Shape [T, 2].
        """
        kept = np.flatnonzero(sessions.lengths)
        ends = sessions.times[sessions.offsets[1:][kept] - 1]
        rows = kept[np.lexsort((kept, ends))[::-1]]
        place_of_row = np.full(len(sessions), -1, np.int64)
        place_of_row[rows] = np.arange(len(rows))
        places = place_of_row[sessions.session_of_event]
        item, place, newest = self.by_item.build(sessions.items.astype(np.int64), places, sessions, self.num_columns)
        by_place = np.argsort(place, kind="stable")
        columns = {
            "items": item[by_place],
            "item_events": newest[by_place],
            "session_offsets": np.searchsorted(place[by_place], np.arange(len(rows) + 1)),
            "table_rows": rows,
            "places": place_of_row,
        }
        for name, values in columns.items():
            setattr(self, name, torch.from_numpy(values.astype(np.int64)).to(self.ages.device))
        days = (ends.max(initial=0) - sessions.times[sessions.offsets[1:][rows] - 1]) / 86_400
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
        check_indexes("places of sessions", self.places, -1, max(self.num_sessions, 1))
        if len(self.by_item.counts) != self.num_columns:
            raise DataError(f"sessions of {len(self.by_item.counts)} items, not {self.num_columns}")
        self.by_item.check("sessions by item", self.num_sessions)
        if not len(self.session_offsets) - 1 == len(self.ages) == self.num_sessions:
            raise DataError(f"buffers for other sessions than {self.num_sessions}")
        if self.similar_items is not None:
            self.similar_items.check(self.num_columns, self.num_sessions)

    def append_items(self, count: int, triples: Tensor) -> None:
        """Make room for items that stand in no indexed session; `triples` as in `build`."""
        self.num_columns += count
        self.by_item.offsets = torch.cat([self.by_item.offsets, self.by_item.offsets[-1:].expand(count)])
        if self.similar_items is not None:
            self.similar_items.append_items(count, triples[:, 0], triples[:, 1])

    def vote(self, batch: SessionBatch, settings: VoteSettings, *, exclude: Exclude = "nothing") -> tuple[Votes, Votes]:
        """One weight for each (prefix, item) that a neighbour votes for, by prefix and then item; and, for the same
        pairs, how many items those who voted share with the prefix, added up.

        Args:
            batch: The prefixes.
            settings: How neighbours vote.
            exclude: Of the indexed sessions, "own" leaves out the one that the prefix was cut from (`batch.sessions`
                are rows of the table that was indexed), "later" that one and all that ended after it. Needed on
                training data, where a session would otherwise find itself; rows of -1 exclude nothing.
        """
        return self.votes_of(self.neighbours(batch, settings, exclude=exclude), batch, settings)

    def votes_of(self, neighbours: Neighbours, batch: SessionBatch, settings: VoteSettings) -> tuple[Votes, Votes]:
        """What these neighbours vote for, see `vote`."""
        votes, source = self.raw_votes(neighbours, batch, settings)
        both = replace(votes, weights=torch.stack([votes.weights, neighbours.shared[source]], dim=1))
        summed = both.summed(self.num_columns)
        weights, counts = summed.weights.unbind(1)
        return replace(summed, weights=weights), replace(summed, weights=counts)

    def neighbours(self, batch: SessionBatch, settings: VoteSettings, *, exclude: Exclude = "nothing") -> Neighbours:
        """The sessions that vote for each prefix, see `vote`."""
        prefix = prefix_values(batch, batch.items, self.num_columns, settings.prefix_decay)
        found = self._sharing(prefix, 1, self.by_item, batch, settings.sample_size, exclude)
        if self.similar_items is not None and settings.kind_weight > 0:
            groups, lists = self._groups_of(batch, self.similar_items, settings), self.similar_items.lists
            found = found.concatenated(self._sharing(groups, 0, lists, batch, settings.sample_size, exclude))
        # Stable, and steps rise within a prefix: the first of a (prefix, session) group is the newest shared item.
        keys, order = (found.rows * self.num_sessions + found.places).sort(stable=True)
        first = torch.ones_like(keys, dtype=torch.bool)
        first[1:] = keys[1:] != keys[:-1]
        group = first.cumsum(0) - 1
        similarity, shared = (
            each.new_zeros(int(first.sum())).index_add(0, group, each[order])
            for each in (found.similarity, found.shared)
        )
        found = replace(found.chosen(order[first]), similarity=similarity, shared=shared)
        if settings.cosine:
            counts = prefix.rows.bincount(minlength=len(batch))
            lengths = self.session_offsets.diff()[found.places] * counts[found.rows]
            found = replace(found, similarity=similarity / lengths.float().sqrt())
        return self._selected(found, batch, settings)

    def raw_votes(self, neighbours: Neighbours, batch: SessionBatch, settings: VoteSettings) -> tuple[Votes, Tensor]:
        """Every vote of every neighbour, where the same item may stand several times for a prefix; and whose it is."""
        by_match = settings.match_decay(neighbours.steps, batch.lengths[neighbours.rows])
        of_neighbour = neighbours.similarity * by_match
        source, pair = self.items_of(neighbours)
        rows, items, weights = neighbours.rows[source], self.items[pair], of_neighbour[source]
        if settings.gap_decay.kind != "none":
            gap = (self.item_events[pair] - neighbours.anchors[source]).abs()
            weights = weights * settings.gap_decay(gap, batch.lengths[rows])
        if settings.idf_weight > 0:
            idf_V = torch.log(self.num_sessions / self.by_item.counts.clamp(min=1))
            weights = weights * (1 + settings.idf_weight * idf_V[items])
        return Votes(rows, items, weights), source

    def items_of(self, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
        """The items of one neighbour after the other: whose each is, and its place among `items`."""
        return expand(self.session_offsets[neighbours.places], self.session_offsets[neighbours.places + 1])

    def _sharing(
        self,
        things: PrefixItems,
        shared: int,
        lists: PostingLists,
        batch: SessionBatch,
        sample_size: int,
        exclude: Exclude,
    ) -> Neighbours:
        """One entry for each thing (item or group) that a prefix and a session share, in the order of `things`.

        The similarity is the thing's weight, and each counts as so many `shared` items. The newest m sessions of a
        prefix are among the newest m of each of its things, so longer lists are cut.
        """
        own = self._own_places(batch, exclude)
        begin, end = lists.offsets[things.items], lists.offsets[things.items + 1]
        if exclude == "later":
            begin = torch.searchsorted(lists.postings, things.items * self.num_sessions + own[things.rows] + 1)
        source, posting = expand(begin, torch.minimum(end, begin + sample_size + (exclude == "own")))
        rows = things.rows[source]
        places = lists.postings[posting] - things.items[source] * self.num_sessions
        weights = things.weights[source]
        found = Neighbours(
            rows, places, weights, torch.full_like(weights, shared), things.steps[source], lists.events[posting]
        )
        return found.chosen((places != own[rows]).nonzero().squeeze(1)) if exclude == "own" else found

    def _groups_of(self, batch: SessionBatch, similar: SimilarItems, settings: VoteSettings) -> PrefixItems:
        """The distinct groups of each prefix's items, weighted by place and rarity."""
        groups = similar.group_of_item[batch.items]
        things = prefix_values(batch, groups, similar.num_groups, settings.prefix_decay)
        rarity_G = torch.log(self.num_sessions / similar.lists.counts.clamp(min=1))
        return things.chosen(things.items > 0).weighted(settings.kind_weight * rarity_G)

    def _own_places(self, batch: SessionBatch, exclude: Exclude) -> Tensor:
        """The place of each prefix's own session, -1 where it comes from none. Shape [B]."""
        if exclude == "nothing" or len(self.places) == 0:
            return torch.full_like(batch.sessions, -1)
        own = self.places[batch.sessions.clamp(0, len(self.places) - 1)]
        return torch.where((batch.sessions >= 0) & (batch.sessions < len(self.places)), own, -1)

    def _selected(self, found: Neighbours, batch: SessionBatch, settings: VoteSettings) -> Neighbours:
        """The m newest, aged, and of these the k most similar; `found` is ordered by prefix and place."""
        found = found.chosen(_place_in_row(found.rows, len(batch)) < settings.sample_size)
        if settings.age_decay.kind != "none":
            ages = self.ages[found.places]
            youngest = ages.new_full((len(batch),), torch.inf).scatter_reduce(0, found.rows, ages, "amin")
            by_age = settings.age_decay(ages - youngest[found.rows], batch.lengths[found.rows])
            found = replace(found, similarity=found.similarity * by_age)
        order = heaviest_first(found.rows, found.similarity)
        best = order[_place_in_row(found.rows, len(batch)) < settings.neighbours]
        return found.chosen(best.sort().values)


def second_hop(first: Votes, settings: VoteSettings) -> tuple[Tensor, SessionBatch, VoteSettings]:
    """Return whom to ask next: the ten best items of each prefix, as a prefix, best one newest.

    Where few sessions share an item, the first votes name few items; the neighbours of these, from a tenth of the
    sample, fill the list with what stands one step further.

    Args:
        first: The first votes, `summed`.
        settings: Its settings.

    Returns:
        For each new prefix the row of `first` that it stands for, the new prefixes, and how their neighbours vote:
        those that share items, never groups of similar items.
    """
    best = first.best(_BEST_ITEMS)
    rows, lengths = torch.unique_consecutive(best.rows, return_counts=True)
    items = best.items.flip(0)
    nothing = torch.zeros_like(rows)
    offsets = torch.cat([lengths.new_zeros(1), lengths.flip(0).cumsum(0)])
    batch = SessionBatch(items, torch.zeros_like(items), offsets, nothing, nothing, nothing - 1)
    return rows.flip(0), batch, replace(settings, sample_size=-(-settings.sample_size // _LESS), kind_weight=0.0)


def _place_in_row(rows: Tensor, num_rows: int) -> Tensor:
    """0, 1, 2, ... within each run of equal rows; rows rise. Shape [M]."""
    counts = rows.bincount(minlength=num_rows)
    return torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]


RENAMED = {
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

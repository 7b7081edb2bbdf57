"""SessionIndex: training sessions that resemble a prefix and the items they vote for; all neighbour models use it.

Everything is a few tensor operations a batch over compressed rows; one session alone takes those of `one_session.py`.
Dimension letters: B prefixes, M neighbours or votes of all prefixes, S indexed sessions, V catalogue + 1.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.compressed_rows import expand
from mkmsr.models.neighbours import one_session
from mkmsr.models.neighbours.indexed_sessions import IndexedSessions
from mkmsr.models.neighbours.voting import Neighbours, PrefixItems, Votes, VoteSettings, heaviest_first, prefix_items

_BEST_ITEMS = 10
_LESS = 10


class SessionIndex(IndexedSessions):
    """Training sessions by item, and their items, with the look-up of those that resemble a prefix."""

    def vote(self, batch: SessionBatch, settings: VoteSettings) -> tuple[Votes, Votes]:
        """One weight for each (prefix, item) that a neighbour votes for, by prefix and then item; and, for the same
        pairs, how many items those who voted share with the prefix, added up."""
        return self.votes_of(self.neighbours(batch, settings), batch, settings)

    def votes_of(self, neighbours: Neighbours, batch: SessionBatch, settings: VoteSettings) -> tuple[Votes, Votes]:
        """What these neighbours vote for, see `vote`."""
        if _is_alone(batch):
            return one_session.votes(self, neighbours, len(batch.items), settings)
        votes, source = self.raw_votes(neighbours, batch, settings)
        both = replace(votes, weights=torch.stack([votes.weights, neighbours.shared[source]], dim=1))
        summed = both.summed(self.num_columns)
        weights, counts = summed.weights.unbind(1)
        return replace(summed, weights=weights), replace(summed, weights=counts)

    def neighbours(self, batch: SessionBatch, settings: VoteSettings) -> Neighbours:
        """The sessions that vote for each prefix, see `vote`."""
        if _is_alone(batch):
            return one_session.neighbours(self, batch.items, settings)
        prefix = prefix_items(batch, self.num_columns, settings.prefix_decay)
        found = self._sharing(prefix, settings.sample_size)
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
            sizes = self.session_offsets[found.places + 1] - self.session_offsets[found.places]
            lengths = sizes * counts[found.rows]
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
            weights = weights * (1 + settings.idf_weight * self.idf(items))
        return Votes(rows, items, weights), source

    def items_of(self, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
        """The items of one neighbour after the other: whose each is, and its place among `items`."""
        return expand(self.session_offsets[neighbours.places], self.session_offsets[neighbours.places + 1])

    def _sharing(self, prefix: PrefixItems, sample_size: int) -> Neighbours:
        """One entry for each item that a prefix and a session share, in the order of `prefix`; it counts as one.

        The newest m sessions of a prefix are among the newest m of each of its items, so longer lists are cut.
        """
        begin, end = self.item_offsets[prefix.items], self.item_offsets[prefix.items + 1]
        source, posting = expand(begin, torch.minimum(end, begin + sample_size))
        places = self.postings[posting] - prefix.items[source] * self.num_sessions
        weights = prefix.weights[source]
        steps, anchors = prefix.steps[source], self.posting_events[posting]
        return Neighbours(prefix.rows[source], places, weights, torch.ones_like(weights), steps, anchors)

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
    """Return whom to ask next: the ten best items of each prefix, as a prefix, best one newest; and how they vote.

    Where few sessions share an item, the first votes, `summed`, name few items; the neighbours of these, from a tenth
    of the sample, fill the list with what stands one step further. The first of the results is the row of `first` that
    each new prefix stands for.
    """
    best = first.best(_BEST_ITEMS)
    rows, lengths = torch.unique_consecutive(best.rows, return_counts=True)
    items = best.items.flip(0)
    nothing = torch.zeros_like(rows)
    offsets = torch.cat([lengths.new_zeros(1), lengths.flip(0).cumsum(0)])
    batch = SessionBatch(items, torch.zeros_like(items), offsets, nothing, nothing, nothing - 1)
    return rows.flip(0), batch, replace(settings, sample_size=-(-settings.sample_size // _LESS))


def _place_in_row(rows: Tensor, num_rows: int) -> Tensor:
    """0, 1, 2, ... within each run of equal rows; rows rise. Shape [M]."""
    counts = rows.bincount(minlength=num_rows)
    return torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]


def _is_alone(batch: SessionBatch) -> bool:
    """Whether this is one session, on a processor."""
    return len(batch) == 1 and batch.items.device.type == "cpu"

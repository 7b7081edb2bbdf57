"""COMPASS's training sessions that resemble the present one: a component of the mixture, evidence, and lifts.

Dimension letters: B sessions, M votes or lifted pairs, N neighbours, V catalogue + 1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.layers.segments import segment_log_softmax
from mkmsr.layers.softmax import SparseScores
from mkmsr.models.compass.config import RetrievalConfig
from mkmsr.models.neighbours.session_index import Neighbours, SessionIndex, second_hop
from mkmsr.models.neighbours.voting import Votes

__all__ = ["SMALLEST", "Similar", "SimilarSessions", "lifted", "no_similar"]

SMALLEST = 1e-12
"""Probabilities below this are not told apart from it."""
_SMALLEST_SHARE = 1e-3
"""Shares of neighbours much below this are like none: a tenth of one neighbour in a hundred."""


class Similar(NamedTuple):
    """What similar sessions say.

    Args:
        votes: Items and their weights; as probabilities they are a component of the mixture.
        evidence: What is added to explore scores.
        log_lift: What is added to the final scores, see `SimilarSessions.log_lifts`; None in training.
    """

    votes: Votes
    evidence: SparseScores
    log_lift: Votes | None = None


class SimilarSessions(nn.Module):
    """An index of training sessions; its answer is read as a component of the mixture, as evidence, and as lifts.

    The component says which share of the votes an item has, whether three sessions voted or a hundred. Evidence counts:
    log(1 + n_j), where n_j sums, over the neighbours with item j, how many items they share with the session. In
    training a session never sees itself; when scoring, second-hop neighbours say something too.

    Args:
        config: How sessions are found.
        num_columns: V.
        by_attributes: Whether sessions are neighbours for similar items too, see `SimilarItems`.

    Source: this project; the votes' weights are V-SkNN's and STAN's.
    """

    def __init__(self, config: RetrievalConfig, num_columns: int, *, by_attributes: bool):
        super().__init__()
        self.config = config
        self.index = SessionIndex(num_columns, by_attributes=by_attributes)
        self.sharpness = nn.Parameter(torch.ones(()))

    def build(self, sessions: SessionTable, triples: Tensor) -> None:
        """Index the training sessions; `triples` are items and attributes, [T, 2]."""
        self.index.build(sessions, triples)

    def append_items(self, count: int, triples: Tensor) -> None:
        """Make room for items that stand in no session; `triples` as in `build`."""
        self.index.append_items(count, triples)

    def forward(self, batch: SessionBatch, found: Similar | None = None) -> Similar:
        """Return what `look_up` finds, or has found; the votes, sharpened by a learnt power, are probabilities."""
        found = self.look_up(batch) if found is None else found
        votes = found.votes
        logits = self.sharpness * votes.weights.clamp_min(SMALLEST).log()
        return found._replace(votes=replace(votes, weights=segment_log_softmax(logits, votes.rows, len(batch)).exp()))

    @torch.no_grad()
    def look_up(self, batch: SessionBatch) -> Similar:
        """Return what the index says, whatever was learnt: the votes as they are counted; evidence * log(1 + n_j) for
        the items outside the session that have any, since the session's own items are the copies' business; and, when
        scoring, lifts."""
        config, index, settings = self.config, self.index, self.config.settings()
        neighbours = index.neighbours(batch, settings, exclude=config.exclude if self.training else "nothing")
        votes, counts = index.votes_of(neighbours, batch, settings)
        log_lift = None
        if not self.training:
            log_lift = self.log_lifts(neighbours, batch) if config.lifts else None
            if config.second_hop > 0:
                votes, counts = self._with_second_hop(votes, counts, len(batch))
        counts = counts.outside(batch.rows, batch.items, index.num_columns)
        evidence = SparseScores(counts.rows, counts.items, config.evidence * counts.weights.log1p())
        return Similar(votes, evidence, log_lift)

    def log_lifts(self, neighbours: Neighbours, batch: SessionBatch) -> Votes:
        """Return log lift(j) of the session's own items and of those that its neighbours hold; 0 for others. [M] each.

        The mixture learns its weights on sessions that it overfits, so that in new ones it gives neighbours too little
        weight. Therefore scoring multiplies the probability of every item by

            lift(j) = (1 + share_j / 0.001)^a (1 + near_j)^b            for an item outside the session
            lift(j) = (1 + 1 / 0.001)^a                                 for one of its own, which it holds itself

        with the settings' a and b, `share_power` and `near_power`. share_j is the share of the neighbours that hold j.
        A neighbour n counts decay(steps back to the newest shared item) times the items that it shares, so that one
        that shares nothing but attributes says nothing; near_j sums decay(...) / (events between j and that item)^2.
        """
        index, share_power = self.index, self.config.share_power
        by_place_N = self.config.settings().prefix_decay(neighbours.steps, batch.lengths[neighbours.rows])
        weight_N = by_place_N * neighbours.shared
        total_B = weight_N.new_zeros(len(batch)).index_add(0, neighbours.rows, weight_N)
        source, pair = index.items_of(neighbours)
        gap = (index.item_events[pair] - neighbours.anchors[source]).abs().clamp(min=1)
        near = (by_place_N * (neighbours.shared > 0))[source] / gap**2
        held = Votes(neighbours.rows[source], index.items[pair], torch.stack([weight_N[source], near], dim=1))
        others = held.summed(index.num_columns).outside(batch.rows, batch.items, index.num_columns)
        weight, near = others.weights.unbind(1)
        share = weight / total_B[others.rows].clamp_min(torch.finfo(weight.dtype).tiny)
        log_lift = share_power * (share / _SMALLEST_SHARE).log1p() + self.config.near_power * near.log1p()
        own = torch.unique(batch.rows * index.num_columns + batch.items)
        of_own = torch.full_like(own, share_power * math.log1p(1 / _SMALLEST_SHARE), dtype=weight.dtype)
        return replace(others, weights=log_lift).concatenated(
            Votes(own // index.num_columns, own % index.num_columns, of_own)
        )

    def _with_second_hop(self, votes: Votes, counts: Votes, num_rows: int) -> tuple[Votes, Votes]:
        """Votes, and counts n_j in their place, with what second-hop neighbours add to both."""
        weight, num_columns = self.config.second_hop, self.index.num_columns
        rows, followers, settings = second_hop(votes, self.config.settings())
        more_votes, more_counts = (replace(each, rows=rows[each.rows]) for each in self.index.vote(followers, settings))
        more_counts = replace(more_counts, weights=weight * more_counts.weights)
        return (
            votes.plus_scaled(more_votes, weight, num_rows, num_columns).summed(num_columns),
            counts.concatenated(more_counts).summed(num_columns),
        )


def lifted(scores_BV: Tensor, log_lift: Votes, seen_V: Tensor, total_B: Tensor) -> Tensor:
    """Return log probabilities that sum to `total_B` times their lifts, in place, with the same sum. Shape [B, V].

    An item that training did not see (`seen_V` is 0) could not be held by any neighbour: it keeps its probability,
    unless it is the session's own.
    """
    rows, items = log_lift.rows, log_lift.items
    before = scores_BV[rows, items]
    added = before.exp() * log_lift.weights.expm1()
    unseen = (seen_V == 0).nonzero().squeeze(1)
    kept_B = scores_BV[:, unseen].exp().sum(1).index_add(0, rows, before.exp() * (seen_V[items] - 1))
    others_B = (total_B - kept_B).clamp_min(torch.finfo(kept_B.dtype).eps)
    growth_B = added.new_zeros(len(scores_BV)).index_add(0, rows, added).div(others_B).log1p()
    scores_BV.addcmul_(growth_B[:, None], seen_V[None, :], value=-1)
    return scores_BV.index_put_((rows, items), before + log_lift.weights - growth_B[rows])


def no_similar(batch: SessionBatch, like: Tensor) -> Similar:
    """Return what is said where there are no neighbours; numbers are of the kind of `like`."""
    rows, items, nothing = batch.rows[:0], batch.items[:0], like[:0]
    return Similar(Votes(rows, items, nothing), SparseScores(rows, items, nothing))

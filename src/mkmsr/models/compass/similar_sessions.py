"""COMPASS's training sessions that resemble the present one: what they vote for, and what stood beside its items.

Dimension letters: B sessions, M votes, V catalogue + 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.layers.segments import segment_log_softmax
from mkmsr.layers.softmax import SparseScores
from mkmsr.models.compass.config import RetrievalConfig
from mkmsr.models.compass.gates import SMALLEST
from mkmsr.models.compass.lift import log_lifts
from mkmsr.models.neighbours.index import SessionIndex
from mkmsr.models.neighbours.second_round import second_round
from mkmsr.models.neighbours.voting import Votes

__all__ = ["CompassScorer", "Similar", "SimilarSessions", "no_similar"]


class Similar(NamedTuple):
    """What similar sessions say.

    Args:
        votes: Items and their weights; as probabilities they are a component of the mixture.
        evidence: What is added to explore scores.
        log_lift: What is added to the final scores, see `log_lifts`; None in training.
    """

    votes: Votes
    evidence: SparseScores
    log_lift: Votes | None = None


class CompassScorer(Protocol):
    """Scores of a batch, [B, V]; what `SimilarSessions.look_up` has found for it may be given."""

    def __call__(self, batch: SessionBatch, found: Similar | None = None) -> Tensor: ...


class SimilarSessions(nn.Module):
    """An index of training sessions; its answer is read as a component of the mixture, as evidence, and as lifts.

    The component says which share of the votes an item has, whether three sessions voted or a hundred. Evidence counts:
    log(1 + n_j), where n_j sums, over the neighbours with item j, how many items they share with the session. In
    training a session never sees itself; when scoring, a second round of neighbours says something too.

    Args:
        config: How sessions are found.
        num_columns: V.
        kinds: Whether sessions are neighbours for items of the same kind too.

    Source: this project; the votes' weights are V-SkNN's and STAN's.
    """

    def __init__(self, config: RetrievalConfig, num_columns: int, *, kinds: bool):
        super().__init__()
        self.config = config
        self.index = SessionIndex(num_columns, kinds=kinds)
        self.sharpness = nn.Parameter(torch.ones(()))

    def build(self, sessions: SessionTable, triples: Tensor) -> None:
        """Index the training sessions; `triples` are items and attributes, [T, 2]."""
        self.index.build(sessions, triples)

    def append_items(self, count: int, triples: Tensor) -> None:
        """Make room for items that stand in no session; `triples` as in `build`."""
        self.index.append_items(count, triples)

    def forward(self, batch: SessionBatch, found: Similar | None = None) -> Similar:
        """What `look_up` finds, or has found; the votes, sharpened by a learnt power, become probabilities."""
        found = self.look_up(batch) if found is None else found
        votes = found.votes
        logits = self.sharpness * votes.weights.clamp_min(SMALLEST).log()
        return found._replace(votes=replace(votes, weights=segment_log_softmax(logits, votes.rows, len(batch)).exp()))

    @torch.no_grad()
    def look_up(self, batch: SessionBatch) -> Similar:
        """What the index says, whatever was learnt: the votes as they are counted; evidence * log(1 + n_j) for the
        items outside the session that have any, since the session's own items are the copies' business; and, when
        scoring, lifts."""
        config, index, settings = self.config, self.index, self.config.settings()
        neighbours = index.neighbours(batch, settings, exclude=config.exclude if self.training else "nothing")
        votes, counts = index.votes_of(neighbours, batch, settings)
        log_lift = None
        if not self.training and config.lifts:
            powers = {"share_power": config.share_power, "near_power": config.near_power}
            log_lift = log_lifts(index, neighbours, batch, settings.prefix_decay, **powers)
        if not self.training and config.second_hop > 0:
            votes, counts = self._second_round(votes, counts, len(batch))
        counts = counts.outside(batch.rows, batch.items, index.num_columns)
        evidence = SparseScores(counts.rows, counts.items, config.evidence * counts.weights.log1p())
        return Similar(votes, evidence, log_lift)

    def _second_round(self, votes: Votes, counts: Votes, num_rows: int) -> tuple[Votes, Votes]:
        """Votes, and counts n_j in their place, with what a second round adds to both."""
        weight, num_columns = self.config.second_hop, self.index.num_columns
        rows, followers, settings = second_round(votes, self.config.settings())
        more_votes, more_counts = (replace(each, rows=rows[each.rows]) for each in self.index.vote(followers, settings))
        more_counts = replace(more_counts, weights=weight * more_counts.weights)
        return (
            votes.joined(more_votes, weight, num_rows, num_columns).summed(num_columns),
            counts.and_also(more_counts).summed(num_columns),
        )


def no_similar(batch: SessionBatch, like: Tensor) -> Similar:
    """What is said where there are no neighbours; numbers are of the kind of `like`."""
    rows, items, nothing = batch.rows[:0], batch.items[:0], like[:0]
    return Similar(Votes(rows, items, nothing), SparseScores(rows, items, nothing))

"""COMPASS's training sessions that resemble the present one: a component of the mixture, and evidence for explore.

Dimension letters: B sessions, M votes, V catalogue + 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.layers.softmax import SparseScores
from mkmsr.models.compass.mixture import Encoded, Said, probabilities
from mkmsr.models.neighbours.session_index import SessionIndex, VoteSettings
from mkmsr.models.neighbours.voting import Decay, Votes

__all__ = ["Similar", "SimilarSessions"]

_STEPS = 2.0
"""Events in which an item of the session falls to 1/e of its weight, when neighbours are looked for."""
_REACH = 10.0
"""Events after which a neighbour that shares nothing newer has no vote, as in V-SkNN."""


class Similar(NamedTuple):
    """What similar sessions say.

    Args:
        votes: Items outside the session and the logarithms of their votes. Each of shape [M].
        evidence: log(1 + n_j) of items outside the session; n_j counts the items that those with j share with it.
    """

    votes: Votes
    evidence: SparseScores

    @classmethod
    def nothing(cls, batch: SessionBatch, like: Tensor) -> Similar:
        """Return what is said where nobody is asked; numbers are of the kind of `like`."""
        rows, items, nothing = batch.rows[:0], batch.items[:0], like.flatten()[:0]
        return cls(Votes(rows, items, nothing), SparseScores(rows, items, nothing))


class SimilarSessions(nn.Module):
    """An index of training sessions. What it says is learnt nowhere, so training need not ask it.

    The component says which share of the votes an item has, whether three sessions voted or a hundred; evidence counts.

    Args:
        nearest: Sessions that vote.
        sample_size: The newest that share an item with the session, of which these come.
        num_columns: V.

    Source: this project; the votes' weights are V-SkNN's and STAN's.
    """

    features = 3

    def __init__(self, nearest: int, sample_size: int, num_columns: int):
        super().__init__()
        self.settings = VoteSettings(
            neighbours=nearest,
            sample_size=sample_size,
            prefix_decay=Decay("exponential", _STEPS),
            match_decay=Decay("linear", _REACH),
        )
        self.index = SessionIndex(num_columns)

    def build(self, sessions: SessionTable) -> None:
        """Index the training sessions."""
        self.index.build(sessions)

    @torch.no_grad()
    def look_up(self, batch: SessionBatch) -> Similar:
        """Return what the index says of items outside the sessions, since those in them are the copies' business."""
        votes, counts = self.index.vote(batch, self.settings)
        votes, counts = (each.outside(batch.rows, batch.items, self.index.num_columns) for each in (votes, counts))
        voted = votes.weights > 0
        votes = Votes(votes.rows[voted], votes.items[voted], votes.weights[voted].log())
        return Similar(votes, SparseScores(counts.rows, counts.items, counts.weights.log1p()))

    def forward(self, session: Encoded) -> Said:
        """Return the votes; gates look at whether there are any, how many items have some, and the largest share."""
        votes, num_rows = session.votes, len(session.batch)
        counts_B = torch.bincount(votes.rows, minlength=num_rows).to(votes.weights)
        shares = probabilities(votes, num_rows).weights
        largest_B = shares.new_zeros(num_rows).scatter_reduce(0, votes.rows, shares, "amax")
        return Said(votes, torch.stack([(counts_B > 0).float(), counts_B.log1p(), largest_B], dim=1))

"""COMPASS's training sessions that resemble the present one: a component of the mixture, and evidence for explore.

Dimension letters: B sessions, M votes, V catalogue + 1.
"""

from __future__ import annotations

import torch
from torch import nn

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.softmax import SparseScores
from mkmsr.models.compass.explore import Encoded
from mkmsr.models.compass.mixture import Said, largest_shares
from mkmsr.models.neighbours.session_index import SessionIndex
from mkmsr.models.neighbours.voting import Decay, Votes, VoteSettings

_STEPS = 2.0
"""Events in which an item of the session falls to 1/e of its weight, when neighbours are looked for."""


class SimilarSessions(nn.Module):
    """An index of training sessions. What it says is learnt nowhere, and in training it would find the session itself.

    The component says which share of the votes an item has, whether three sessions voted or a hundred; evidence counts.
    The nearest of the newest that share an item with the session vote.

    Source: this project; the votes' weights are STAN's.
    """

    features, learns = 3, False

    def __init__(self, nearest: int, sample_size: int, num_columns: int):
        super().__init__()
        self.settings = VoteSettings(nearest, sample_size, prefix_decay=Decay("exponential", _STEPS))
        self.index = SessionIndex(num_columns)

    @torch.no_grad()
    def look_up(self, batch: SessionBatch) -> tuple[Votes, SparseScores]:
        """Return logarithms of votes for items outside the sessions, and log(1 + n_j) of these.

        n_j counts the items that those with j share with the session. Items in it are the copies' business.
        """
        votes, counts = self.index.vote(batch, self.settings)
        both = Votes(votes.rows, votes.items, torch.stack([votes.weights, counts.weights], dim=1))
        both = both.outside(batch.rows, batch.items, self.index.num_columns)
        votes_M, counts_M = both.weights.unbind(1)
        return Votes(both.rows, both.items, votes_M.log()), SparseScores(both.rows, both.items, counts_M.log1p())

    def forward(self, session: Encoded) -> Said:
        """Return the votes; gates look at whether there are any, how many items have some, and the largest share."""
        votes, num_rows = session.votes, len(session.batch)
        assert votes is not None
        counts_B = torch.bincount(votes.rows, minlength=num_rows).to(votes.weights)
        features = [(counts_B > 0).float(), counts_B.log1p(), largest_shares(votes, num_rows)]
        return Said(votes, torch.stack(features, dim=1))

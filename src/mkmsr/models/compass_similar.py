"""COMPASS's training sessions that resemble the present one: what they vote for, and what stood beside its items.

Dimension letters: B sessions, M votes, V catalogue + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.layers.segments import segment_log_softmax
from mkmsr.layers.softmax import SparseScores
from mkmsr.models.compass_config import RetrievalConfig
from mkmsr.models.compass_gates import SMALLEST
from mkmsr.models.neighbour_index import Exclude, SessionIndex
from mkmsr.models.voting import Votes

__all__ = ["SimilarSessions"]


class SimilarSessions(nn.Module):
    """An index of training sessions, asked twice: for a component of the mixture, and for evidence.

    A component says which share of the votes an item has, whether three sessions voted or a hundred. Evidence counts:
    log(1 + n_j), where n_j sums, over the sessions with item j that share most with this one, how many of its items
    they share. In training a session never sees itself.

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

    def votes(self, batch: SessionBatch) -> Votes:
        """The neighbours' votes, sharpened by a learnt power, as probabilities."""
        with torch.no_grad():
            votes = self.index.vote(batch, self.config.settings(), exclude=self._exclude)
        logits = self.sharpness * votes.weights.clamp_min(SMALLEST).log()
        return Votes(votes.rows, votes.items, segment_log_softmax(logits, votes.rows, len(batch)).exp())

    def evidence(self, batch: SessionBatch) -> SparseScores:
        """evidence * log(1 + n_j) for the items outside the session that have any; the session's own are copied."""
        with torch.no_grad():
            counts = self.index.vote(batch, self.config.counting(), exclude=self._exclude)
            counts = counts.outside(batch.rows, batch.items, self.index.num_columns)
            return SparseScores(counts.rows, counts.items, self.config.evidence * counts.weights.log1p())

    @property
    def _exclude(self) -> Exclude:
        return self.config.exclude if self.training else "nothing"

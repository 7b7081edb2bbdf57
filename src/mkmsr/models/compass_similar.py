"""COMPASS's training sessions that resemble the present one: what they vote for, and what stood beside its items.

Dimension letters: B sessions, M votes, V catalogue + 1.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.layers.segments import segment_log_softmax
from mkmsr.layers.softmax import SparseScores
from mkmsr.models.compass_config import RetrievalConfig
from mkmsr.models.compass_gates import SMALLEST
from mkmsr.models.neighbour_index import SessionIndex
from mkmsr.models.voting import Votes

__all__ = ["SimilarSessions"]


class SimilarSessions(nn.Module):
    """An index of training sessions; its answer is read twice, as a component of the mixture and as evidence.

    The component says which share of the votes an item has, whether three sessions voted or a hundred. Evidence counts:
    log(1 + n_j), where n_j sums, over the neighbours with item j, how many items they share with the session. In
    training a session never sees itself.

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

    def forward(self, batch: SessionBatch) -> tuple[Votes, SparseScores]:
        """The votes, sharpened by a learnt power, as probabilities; and evidence * log(1 + n_j) for the items outside
        the session that have any. The session's own items are the copies' business."""
        exclude = self.config.exclude if self.training else "nothing"
        with torch.no_grad():
            votes, counts = self.index.votes_and_counts(batch, self.config.settings(), exclude=exclude)
            counted = replace(votes, weights=counts).outside(batch.rows, batch.items, self.index.num_columns)
            evidence = SparseScores(counted.rows, counted.items, self.config.evidence * counted.weights.log1p())
        logits = self.sharpness * votes.weights.clamp_min(SMALLEST).log()
        return replace(votes, weights=segment_log_softmax(logits, votes.rows, len(batch)).exp()), evidence

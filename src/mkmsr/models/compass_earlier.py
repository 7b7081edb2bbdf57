"""COMPASS's component for visitors who come back: which of the items of their earlier sessions comes next.

Dimension letters: B sessions, H items of earlier sessions of all visitors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mkmsr.data.batching import EarlierBatch, SessionBatch
from mkmsr.layers.segments import segment_log_softmax
from mkmsr.models.voting import Votes

__all__ = ["EarlierVisits", "visits_of"]

_RANKS = 50


class EarlierVisits(nn.Module):
    """A distribution over the items of a visitor's earlier sessions.

        logit_h = age[rank_h] + operation[o_h] + w score_h

    rank_h counts the visitor's items from the newest back, o_h is the last operation on the item, score_h is its score
    in the explore component: what the session looks for decides which of the old finds it goes back to.

    Args:
        num_operations: Operations, padding not counted.

    Source: this project.
    """

    features = 2
    """Numbers a session that the gates look at: whether there are such items, and how many."""

    def __init__(self, num_operations: int):
        super().__init__()
        self.age = nn.Embedding(_RANKS, 1)
        self.operation = nn.Embedding(num_operations + 1, 1)
        self.likeness = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Newer items are likelier (1 / (10 + rank) of it), operations alike, and half the explore score counts."""
        with torch.no_grad():
            self.age.weight.copy_(-(10.0 + torch.arange(_RANKS)).log()[:, None])
            self.operation.weight.zero_()
            self.likeness.fill_(0.5)

    def forward(self, earlier: EarlierBatch, scores_H: Tensor, num_rows: int) -> Votes:
        """The items and their probabilities; `scores_H` are their explore scores, `num_rows` is B."""
        rows = earlier.rows
        logits_H = (
            self.age(earlier.ranks.clamp(max=_RANKS - 1)).squeeze(1)
            + self.operation(earlier.operations).squeeze(1)
            + self.likeness * scores_H
        )
        return Votes(rows, earlier.items, segment_log_softmax(logits_H, rows, num_rows).exp())

    def of_sessions(self, earlier: EarlierBatch) -> Tensor:
        """What the gates look at. Shape [B, `features`]."""
        counts_B = earlier.offsets.diff().float()
        return torch.stack([(counts_B > 0).float(), counts_B.log1p()], dim=1)


def visits_of(batch: SessionBatch) -> EarlierBatch:
    """The items of the visitors' earlier sessions; none where the data do not know visitors."""
    return EarlierBatch.nothing(len(batch), batch.items.device) if batch.earlier is None else batch.earlier

"""COMPASS's components of items that come back: the session's own, and those of the visitor's earlier sessions.

Dimension letters: B sessions, P events of all prefixes, H items of earlier sessions of all visitors, D size of a
micro-behaviour, O operations + 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mkmsr.data.batching import EarlierBatch, SessionBatch
from mkmsr.layers.fast.shared_table import unit_rows
from mkmsr.layers.segments import segment_log_softmax, segment_sum
from mkmsr.models.compass.item_vectors import ItemVectors
from mkmsr.models.neighbours.voting import Votes

__all__ = ["CopyAttention", "EarlierVisits", "visits_of"]

_RANKS = 50
_BOTH = ("amax", "mean")
_REACH = 3
"""Places before and after an old find that are told apart; farther ones count as this far."""


class CopyAttention(nn.Module):
    """Log probability that the next event repeats the item of each event of the prefix.

        logit_t = u' relu(U m_t + b) + m_t' C m_L / sqrt(D) + age[L - t] + pair[operation_t, operation_L]

    The pair table lets "added to cart, then clicked something else" weigh differently from "clicked twice".

    Args:
        dim: D.
        num_operations: O - 1.
        hidden: Units of the hidden layer.
        ages: Ages told apart; older events share the last one.

    Source: the repeat mode of RepeatNet (Ren et al., AAAI 2019), with operations and age.
    """

    def __init__(self, dim: int, num_operations: int, *, hidden: int = 32, ages: int = 28):
        super().__init__()
        self.dim, self.num_columns = dim, num_operations + 1
        self.of_event = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.of_last = nn.Linear(dim, dim, bias=False)
        self.age = nn.Embedding(ages, 1)
        self.pair = nn.Embedding(self.num_columns**2, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw maps from U(-1/sqrt(D), 1/sqrt(D)); tables start at zero, so age and operations begin neutral."""
        bound = 1 / math.sqrt(self.dim)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        nn.init.zeros_(self.age.weight)
        nn.init.zeros_(self.pair.weight)

    def forward(
        self,
        events: Tensor,
        operations: Tensor,
        ages: Tensor,
        rows: Tensor,
        last: Tensor,
        extra: Tensor | None = None,
    ) -> Tensor:
        """Return the log probabilities, [P].

        Args:
            events: Micro-behaviours. Shape [P, D].
            operations: Shape [P].
            ages: Events since each one. Shape [P].
            rows: Session of each event. Shape [P].
            last: Newest event of each session. Shape [B].
            extra: What is added to the log probabilities, which are then renormalised. Shape [P].
        """
        newest_PD = self.of_last(events[last])[rows]
        pairs = operations * self.num_columns + operations[last][rows]
        logits_P = (
            self.of_event(events).squeeze(1)
            + (events * newest_PD).sum(1) / math.sqrt(self.dim)
            + self.age(ages.clamp(max=self.age.num_embeddings - 1)).squeeze(1)
            + self.pair(pairs).squeeze(1)
        )
        log_shares_P = segment_log_softmax(logits_P, rows, len(last))
        return log_shares_P if extra is None else segment_log_softmax(log_shares_P + extra, rows, len(last))


class EarlierVisits(nn.Module):
    """A distribution over the items of a visitor's earlier sessions.

        logit_h = age[rank_h] + operation[o_h] + beside[rank_a - rank_h] + w score_h

    rank_h counts the visitor's items from the newest back, o_h is the last operation on the item, score_h is its score
    in the explore component: what the session looks for decides which of the old finds it goes back to. a is the
    newest item of the session that is an old find itself; what stood beside it then is likely to come back with it.

    Args:
        num_operations: Operations, padding not counted.

    Source: this project.
    """

    features = 6
    """Numbers a session that the gates look at, see `of_sessions`."""

    def __init__(self, num_operations: int):
        super().__init__()
        self.age = nn.Embedding(_RANKS, 1)
        self.operation = nn.Embedding(num_operations + 1, 1)
        self.beside = nn.Embedding(2 * _REACH + 2, 1)
        self.likeness = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Newer items are likelier (1 / (10 + rank) of it), all else is alike, and half the explore score counts."""
        with torch.no_grad():
            self.age.weight.copy_(-(10.0 + torch.arange(_RANKS)).log()[:, None])
            self.operation.weight.zero_()
            self.beside.weight.zero_()
            self.likeness.fill_(0.5)

    def forward(self, batch: SessionBatch, scores_H: Tensor) -> Votes:
        """The items of the batch's visitors and their probabilities; `scores_H` are their explore scores."""
        earlier = visits_of(batch)
        logits_H = (
            self.age(earlier.positions.clamp(max=_RANKS - 1)).squeeze(1)
            + self.operation(earlier.operations).squeeze(1)
            + self.beside(_steps_from_old_find(batch, earlier)).squeeze(1)
            + self.likeness * scores_H
        )
        return Votes(earlier.rows, earlier.items, segment_log_softmax(logits_H, earlier.rows, len(batch)).exp())

    def of_sessions(self, batch: SessionBatch, vectors: ItemVectors) -> Tensor:
        """What the gates look at: whether there are such items; log(1 + how many); whether the session's last item is
        one of them; which share of its events are; and the greatest and the mean cosine of the others with its last
        item, for which nothing is learnt here. `vectors` are read by item index. Shape [B, `features`]."""
        earlier, num_rows = visits_of(batch), len(batch)
        counts_B = earlier.offsets.diff().float()
        is_old_P = (batch.earlier_ranks >= 0).float()
        last_B = batch.items[batch.last]
        is_other_H = earlier.items != last_B[earlier.rows]
        rows = earlier.rows[is_other_H]
        with torch.no_grad():
            others, last = unit_rows(vectors[earlier.items[is_other_H]]), unit_rows(vectors[last_B])
            cosines = (others * last[rows]).sum(1)
        features = [
            (counts_B > 0).float(),
            counts_B.log1p(),
            is_old_P[batch.last],
            segment_sum(is_old_P, batch.rows, num_rows) / batch.lengths,
            *(cosines.new_zeros(num_rows).scatter_reduce(0, rows, cosines, how, include_self=False) for how in _BOTH),
        ]
        return torch.stack(features, dim=1)


def visits_of(batch: SessionBatch) -> EarlierBatch:
    """The items of the visitors' earlier sessions; none where the data do not know visitors."""
    return EarlierBatch.nothing(len(batch), batch.items.device) if batch.earlier is None else batch.earlier


def _steps_from_old_find(batch: SessionBatch, earlier: EarlierBatch) -> Tensor:
    """Row of `beside` of each earlier item: how far after the session's newest old find it stood; the last row where
    the session has none. Shape [H]."""
    ranks_P = batch.earlier_ranks
    event_P = torch.where(ranks_P >= 0, torch.arange(len(ranks_P), device=ranks_P.device), -1)
    newest_B = torch.full_like(batch.last, -1).scatter_reduce(0, batch.rows, event_P, "amax")
    newest_H = newest_B[earlier.rows]
    steps_H = (ranks_P[newest_H] - earlier.positions).clamp(-_REACH, _REACH) + _REACH
    return torch.where(newest_H >= 0, steps_H, 2 * _REACH + 1)

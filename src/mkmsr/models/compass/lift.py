"""Lifts: what similar sessions say about COMPASS's mixture as a whole, once it is trained.

The mixture has learnt its weights on sessions that it knows by heart, and takes in new ones what the neighbours say for
less than it is worth. So scoring multiplies the probability of every item by

    lift(j) = (1 + share_j / 0.001)^a (1 + near_j)^b                for an item outside the session
    lift(j) = (1 + 1 / 0.001)^a                                     for one of its own, which it holds itself

and divides by a number that makes them add up to 1 again. share_j is the share of the neighbours that hold j, near_j
counts them by how close to a shared item j stands there. An item that training did not see could not be held by anyone:
it keeps its probability, unless it is the session's own. So does the component of earlier visits, of which similar
sessions know nothing.
Dimension letters: B sessions, M lifted pairs, N neighbours, V catalogue + 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.models.neighbours.index import Neighbours, SessionIndex
from mkmsr.models.neighbours.voting import Decay, Votes

__all__ = ["lifted", "log_lifts"]

_SMALLEST_SHARE = 1e-3
"""Shares much below this are like none: a tenth of one neighbour in a hundred."""


def log_lifts(
    index: SessionIndex,
    neighbours: Neighbours,
    batch: SessionBatch,
    decay: Decay,
    *,
    share_power: float,
    near_power: float,
) -> Votes:
    """log lift(j) of the session's own items and of those that its neighbours hold; 0 for all others. [M] each.

    A neighbour n counts decay(steps back to the newest shared item) times the items that it shares, so that one that
    shares nothing but kinds says nothing; and for near_j decay(...) / (events between j and that item)^2.

    Args:
        index: Where the neighbours stand.
        neighbours: Of the sessions.
        batch: The sessions.
        decay: Of a neighbour, with the steps.
        share_power: a.
        near_power: b.
    """
    by_place_N = decay(neighbours.steps, batch.lengths[neighbours.rows])
    weight_N = by_place_N * neighbours.shared
    total_B = weight_N.new_zeros(len(batch)).index_add(0, neighbours.rows, weight_N)
    source, pair = index.items_of(neighbours)
    gap = (index.item_events[pair] - neighbours.anchors[source]).abs().clamp(min=1)
    near = (by_place_N * (neighbours.shared > 0))[source] / gap**2
    company = Votes(neighbours.rows[source], index.items[pair], torch.stack([weight_N[source], near], dim=1))
    company = company.summed(index.num_columns).outside(batch.rows, batch.items, index.num_columns)
    held, near = company.weights.unbind(1)
    share = held / total_B[company.rows].clamp_min(torch.finfo(held.dtype).tiny)
    others = Votes(
        company.rows,
        company.items,
        share_power * (share / _SMALLEST_SHARE).log1p() + near_power * near.log1p(),
    )
    own = torch.unique(batch.rows * index.num_columns + batch.items)
    of_own = share_power * math.log1p(1 / _SMALLEST_SHARE)
    return others.and_also(
        Votes(own // index.num_columns, own % index.num_columns, torch.full_like(own, of_own, dtype=held.dtype))
    )


def lifted(scores_BV: Tensor, log_lift: Votes, seen_V: Tensor, total_B: Tensor) -> Tensor:
    """Log probabilities that sum to `total_B` times their lifts, in place, with the same sum. Shape [B, V].

    `seen_V` is 1 for items that training saw, else 0.
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

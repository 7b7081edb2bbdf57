"""Reminders: what an item that was seen already gets beyond its votes, read off the training log.

Votes say which items stand together, not how often visitors return to one of them. Both become comparable as
probabilities: of a return, counted over the training log, and of the item with the most votes, which the newest
training sessions show. Dimension letters: B sessions, V catalogue
+ 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch, session_batches
from mkmsr.data.examples import ExampleTable
from mkmsr.data.sessions import SessionTable
from mkmsr.models.base import TrainingData
from mkmsr.models.neighbours.voting import NO_DECAY, Votes, prefix_values

__all__ = ["Reminders", "newest_examples", "return_shares"]

_PLACES = 10
"""How many of the newest places have a share of their own."""
_TIMES = 3
"""An item may have been seen so many times, or more."""
_HELD_OUT, _MOST_EXAMPLES = 10, 2000
"""One training session in so many is held out, the newest ones, and of these at most so many examples are looked at."""
_USUAL_SHARE, _PRIOR = 0.05, 20
"""A log of few examples is taken to have this share of best votes that come true, worth so many examples."""


class Reminders(nn.Module):
    """The weight of items seen before, in units of the prefix's highest vote: P(return) / P(best vote comes true).

    Buffers:
        own: By place of the newest occurrence (1 is the last event) and by how often the prefix has the item. Shape
            [places + 1, times + 1].
        earlier: By place among the items of the visitor's earlier sessions (1 is the newest). Shape [places + 1].
    """

    own: Tensor
    earlier: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("own", torch.zeros(_PLACES + 1, _TIMES + 1))
        self.register_buffer("earlier", torch.zeros(_PLACES + 1))

    def read(
        self, sessions: SessionTable, newest: ExampleTable, votes: Callable[[SessionBatch], Votes], num_columns: int
    ) -> None:
        """Count returns in the training sessions, and how often votes that do not know the newest ones come true there.

        Args:
            sessions: All training sessions.
            newest: Examples of the newest ones.
            votes: Made from the others alone.
            num_columns: V.
        """
        came_true, chances, returns = self.own.new_zeros(()), *self.own.new_zeros(2, _PLACES + 1)
        for held_out in session_batches(newest, 256):
            batch = held_out.to(self.own.device)
            best = votes(batch).summed(num_columns).outside(batch.rows, batch.items, num_columns).best(1)
            came_true += (best.items == batch.targets[best.rows]).sum()
            if batch.earlier is not None:
                earlier = Votes(batch.earlier.rows, batch.earlier.items, batch.earlier.positions).summed(num_columns)
                earlier = earlier.outside(batch.rows, batch.items, num_columns)
                places = (earlier.weights + 1).clamp(max=_PLACES)
                chances += torch.bincount(places, minlength=_PLACES + 1)
                returned = earlier.items == batch.targets[earlier.rows]
                returns += torch.bincount(places[returned], minlength=_PLACES + 1)
        best_share = (came_true + _USUAL_SHARE * _PRIOR) / (len(newest) + _PRIOR)
        self.own = return_shares(sessions, _PLACES, _TIMES).to(self.own) / best_share
        self.earlier = returns / chances.clamp(min=1) / best_share

    def add_to(self, scores_BV: Tensor, batch: SessionBatch) -> None:
        """Add the weights of each prefix's own items and of the visitor's earlier ones, in place."""
        num_columns = scores_BV.shape[1]
        prefix = prefix_values(batch, batch.items, num_columns, NO_DECAY)
        keys, counts = torch.unique(batch.rows * num_columns + batch.items, return_counts=True)
        times = counts[torch.searchsorted(keys, prefix.rows * num_columns + prefix.items)].clamp(max=_TIMES)
        places = (prefix.steps + 1).clamp(max=_PLACES)
        scores_BV[prefix.rows, prefix.items] += self.own[places, times]
        if batch.earlier is not None:
            weights = self.earlier[(batch.earlier.positions + 1).clamp(max=_PLACES)]
            scores_BV.index_put_((batch.earlier.rows, batch.earlier.items), weights, accumulate=True)


def newest_examples(training: TrainingData) -> tuple[SessionTable, ExampleTable]:
    """Return the training sessions without the newest ones, and examples of these, at most 2,000."""
    examples = training.examples
    begin = len(training.sessions) - len(training.sessions) // _HELD_OUT
    first = int((examples.session < begin).sum())
    newest = examples.rows(slice(max(first, len(examples) - _MOST_EXAMPLES), None))
    end = int(newest.session[0]) if len(newest) else len(training.sessions)
    return training.sessions.rows(0, end), newest


def return_shares(sessions: SessionTable, places: int, times: int) -> Tensor:
    """How often the next event returns to an item whose newest occurrence is the m-th event from the end.

    Args:
        sessions: The training log.
        places: m = 1..places; the last one serves older events too.
        times: Counted apart by how often the prefix has the item, 1..times; the last one serves more.

    Returns:
        Shape [places + 1, times + 1]; 0 at m = 0.
    """
    items, owner = torch.from_numpy(sessions.items).long(), torch.from_numpy(sessions.session_of_event).long()
    events = torch.arange(len(items))
    order = (owner * (int(items.max()) + 1 if len(items) else 1) + items).argsort(stable=True)
    again = torch.zeros(len(items), dtype=torch.bool)  # In that order: whether an event's item was seen before.
    again[1:] = (owner[order][1:] == owner[order][:-1]) & (items[order][1:] == items[order][:-1])
    begin = torch.where(again, 0, events).cummax(0).values
    seen = torch.empty_like(events)
    seen[order] = (events - begin + 1).clamp(max=times)
    left = torch.from_numpy(sessions.offsets)[owner + 1] - 1 - events
    gap = torch.full_like(events, len(items) + 1)  # Events until the item comes again.
    gap[order[:-1][again[1:]]] = (order[1:] - order[:-1])[again[1:]]
    chances, returns = torch.zeros(2, places + 1, times + 1, dtype=torch.float64)
    for place in range(1, places + 1):
        there, back = gap.minimum(left) >= place, gap == place
        if place == places:
            there, back = (gap.minimum(left) - place + 1).clamp(min=0), (gap >= place) & (gap <= left)
        chances[place] = torch.bincount(seen, there.double(), times + 1)
        returns[place] = torch.bincount(seen, back.double(), times + 1)
    shares: Tensor = returns / chances.clamp(min=1)
    return shares.float()

"""Reminders: what an item that was seen already gets beyond its votes, read off the training log.

Votes say which items stand together, not how often visitors return to one of them. Both become comparable as
probabilities: of a return, counted over the training log, and of the item with the most votes, which the newest
training sessions show. Dimension letters: B sessions, P events of all prefixes, V catalogue + 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch, session_batches
from mkmsr.data.sessions import ExampleTable, SessionTable
from mkmsr.models.base import TrainingData
from mkmsr.models.neighbours.voting import Votes

_PLACES = 10
"""How many of the newest places have a weight of their own; the last one serves older events too."""
_HELD_OUT, _MOST_EXAMPLES = 10, 2000
"""One training session in so many is held out, the newest ones, and of these at most so many examples are looked at."""
_USUAL_SHARE, _PRIOR = 0.05, 20
"""A log of few examples is taken to have this share of best votes that come true, worth so many examples; as many draw
the share of a cell towards that of its row."""


class Reminders(nn.Module):
    """The weight of items seen before, in units of the prefix's highest vote: P(return) / P(best vote comes true).

    Both are higher where the prefix holds one item alone, so they are counted apart there.

    Buffers:
        own: By the places of the item's two newest events, see `return_shares`. Shape [places + 1, places + 2].
        earlier: By place among the items of the visitor's earlier sessions; 1 is the newest. Shape [places + 1].
    """

    own: Tensor
    earlier: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("own", torch.zeros(_PLACES + 1, _PLACES + 2))
        self.register_buffer("earlier", torch.zeros(_PLACES + 1))

    def read(
        self, sessions: SessionTable, newest: ExampleTable, votes: Callable[[SessionBatch], Votes], num_columns: int
    ) -> None:
        """Count returns in the training sessions, and how often votes that do not know the newest ones come true there.

        Examples are of the newest sessions, votes made from the others alone; V is `num_columns`.
        """
        hits, cases = self.own.new_zeros(2, 2)  # Of the best votes: for prefixes of several items, and of one.
        chances, returns = self.own.new_zeros(2, _PLACES + 1)
        for held_out in session_batches(newest, 256):
            batch = held_out.to(self.own.device)
            best = votes(batch).summed(num_columns).outside(batch.rows, batch.items, num_columns).best(1)
            *_, alone_P = recurrence(batch.rows, batch.items, batch.offsets)
            alone = alone_P[batch.last][best.rows].long()
            cases += torch.bincount(alone, minlength=2)
            hits += torch.bincount(alone[best.items == batch.targets[best.rows]], minlength=2)
            if batch.earlier is not None:
                earlier = Votes(batch.earlier.rows, batch.earlier.items, batch.earlier.positions).summed(num_columns)
                earlier = earlier.outside(batch.rows, batch.items, num_columns)
                places = (earlier.weights + 1).clamp(max=_PLACES)
                chances += torch.bincount(places, minlength=_PLACES + 1)
                returned = earlier.items == batch.targets[earlier.rows]
                returns += torch.bincount(places[returned], minlength=_PLACES + 1)
        of_several, of_one = (hits + _USUAL_SHARE * _PRIOR) / (cases + _PRIOR)
        self.own = return_shares(sessions, _PLACES).to(self.own) / of_several
        self.own[:, -1] *= of_several / of_one
        self.earlier = returns / chances.clamp(min=1) / of_several

    def add_to(self, scores_BV: Tensor, batch: SessionBatch) -> None:
        """Add the weights of each prefix's own items and of the visitor's earlier ones, in place."""
        before, after, alone = recurrence(batch.rows, batch.items, batch.offsets)
        newest = after == 0
        column = torch.where(alone & (batch.ages == 0), _PLACES + 1, before.clamp(max=_PLACES))[newest]
        places = (batch.ages[newest] + 1).clamp(max=_PLACES)
        scores_BV[batch.rows[newest], batch.items[newest]] += self.own[places, column]
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


def return_shares(sessions: SessionTable, places: int) -> Tensor:
    """How often the next event returns to an item, by where its two newest events are.

    Args:
        sessions: The training log.
        places: The item's newest event is the m-th from the end, m = 1..places; the last one serves older events too.

    Returns:
        Row m, column d: the event before that one was d events earlier, at most `places`; 0: there is none. The last
        column is for items that are alone in the prefix. A cell of few cases is drawn towards its row's share. Shape
        [places + 1, places + 2]; 0 at m = 0.
    """
    items, owner = torch.from_numpy(sessions.items).long(), torch.from_numpy(sessions.session_of_event).long()
    offsets = torch.from_numpy(sessions.offsets)
    left = offsets[owner + 1] - 1 - torch.arange(len(items))
    before, after, alone = recurrence(owner, items, offsets)
    newest_for = torch.where(after > 0, after, left)  # So many later events find it the newest on its item.
    chances, returns = torch.zeros(2, places + 1, places + 2, dtype=torch.float64)
    for place in range(1, places + 1):
        column = before.clamp(max=places)
        if place == 1:
            column = torch.where(alone, places + 1, column)
        there, back = (newest_for >= place).long(), after == place
        if place == places:
            there, back = (newest_for - place + 1).clamp(min=0), after >= place
        chances[place] = torch.bincount(column, there.double(), places + 2)
        returns[place] = torch.bincount(column, back.double(), places + 2)
    of_row = returns.sum(1, keepdim=True) / chances.sum(1, keepdim=True).clamp(min=1)
    shares: Tensor = (returns + _PRIOR * of_row) / (chances + _PRIOR)
    return shares.float()


def recurrence(owner: Tensor, items: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How each event's item recurs in its session.

    Returns:
        How many events ago it was there before, 0: never; after how many it is there again, 0: never; whether the
        session has had no other item up to then. Each of shape [P].
    """
    order = (owner * (int(items.max()) + 1 if len(items) else 1) + items).argsort(stable=True)
    same = (owner[order][1:] == owner[order][:-1]) & (items[order][1:] == items[order][:-1])
    distance = torch.where(same, order[1:] - order[:-1], 0)
    before, after = torch.zeros_like(items), torch.zeros_like(items)
    before[order[1:]], after[order[:-1]] = distance, distance
    begin = offsets[owner]
    others = (items != items[begin]).cumsum(0)
    return before, after, others == others[begin]

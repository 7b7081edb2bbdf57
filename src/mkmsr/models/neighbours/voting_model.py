"""What neighbours and rules share around their votes: the catalogue's scores, reminders and the order of ties.

A model that votes names a few items for a prefix, each with a weight; the rest of the catalogue gets nothing. What that
leaves open is settled here for all of them in the same way, as documented settings. Dimension letters: B sessions,
V catalogue + 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mkmsr.config import StrictModel
from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.models.base import ModelSizes, SessionModel, TrainingData
from mkmsr.models.entry import Choice, SearchSpace
from mkmsr.models.neighbours.reminders import Reminders, newest_examples
from mkmsr.models.neighbours.voting import Votes

TieBreak = Literal["none", "popularity", "recency"]


class VotingConfig(StrictModel):
    """What happens around the votes; `reminders = false`, `own_votes = 1` and `tie_break = "none"` leave them alone.

    The defaults of all voting models are one setting for every log, chosen on sessions before the test: the validation
    sessions of the Demo logs and the RetailRocket slice, and the three spans of equal size before them.
    """

    reminders: bool = True
    """Whether items of the prefix and of the visitor's earlier sessions get a weight of their own: the probability of a
    return, over the probability that the item with the most votes comes next. Both are read off the training log, see
    `mkmsr.models.neighbours.reminders`: where nobody returns, nothing is reminded of."""
    own_votes: float = Field(default=0.1, ge=0, le=1)
    """What counts of the votes for the prefix's own items, for whose return the reminders stand: neighbours are found
    by these items, so that all of them would vote for one or another."""
    tie_break: TieBreak = "recency"
    """Order of items with equal votes (also of those with none): by training events, by how lately training saw them,
    or left tied. Ranks count a tie against the model."""
    tie_weight: float = Field(default=1e-3, ge=0, le=1)
    """The most that `tie_break` adds, in units of the prefix's highest vote."""


class VotingModel(SessionModel):
    """Base of the models that vote; a subclass gives `build` and `votes`.

    score = votes / highest vote of the prefix + reminders + order of ties.

    Buffers:
        order: Of ties, see `tie_order`. Shape [V].
    """

    order: Tensor

    def __init__(self, config: VotingConfig, sizes: ModelSizes):
        super().__init__(sizes)
        self.voting = config
        self.register_buffer("order", torch.zeros(sizes.num_items + 1))
        self.reminders = Reminders()

    def build(self, sessions: SessionTable) -> None:
        """Take in the sessions whose items vote."""
        raise NotImplementedError

    def votes(self, batch: SessionBatch) -> Votes:
        """Who gets which weight; pairs may recur."""
        raise NotImplementedError

    def observe(self, training: TrainingData) -> None:
        sessions = training.sessions
        self.order = tie_order(sessions, self.voting.tie_break, len(self.order)).to(self.order)
        if self.voting.reminders:
            older, newest = newest_examples(training)
            self.build(older)
            self.reminders.read(sessions, newest, self.votes, len(self.order))
        self.build(sessions)

    def score(self, batch: SessionBatch) -> Tensor:
        scores_BV = self.votes(batch).dense(len(batch), len(self.order))
        scores_BV[batch.rows, batch.items] *= self.voting.own_votes
        highest_B1 = scores_BV.amax(dim=1, keepdim=True)
        scores_BV /= torch.where(highest_B1 > 0, highest_B1, 1)
        if self.voting.reminders:
            self.reminders.add_to(scores_BV, batch)
        scores_BV += self.voting.tie_weight * self.order
        scores_BV[:, 0] = -torch.inf
        return scores_BV


def tie_order(sessions: SessionTable, kind: TieBreak, num_columns: int) -> Tensor:
    """A number in [0, 1) for each item, higher first among equals; 0 where training lacks the item. Shape [V]."""
    order = torch.zeros(num_columns)
    items = torch.from_numpy(sessions.items).long()
    if kind == "none" or len(items) == 0:
        return order
    if kind == "popularity":
        counts = torch.bincount(items, minlength=num_columns)
        return counts / (counts.max() + 1)
    times = torch.from_numpy(sessions.times)
    newest = torch.full((num_columns,), int(times.min()) - 1).scatter_reduce(0, items, times, "amax")
    ages: Tensor = torch.unique(newest, return_inverse=True)[1]
    return ages / (ages.max() + 1)


VOTING_SPACE: SearchSpace = {
    "model.own_votes": Choice((0.0, 0.1, 0.25, 0.5, 1.0)),
    "model.tie_break": Choice(("popularity", "recency")),
}
"""What `mkmsr tune` tries for every voting model."""

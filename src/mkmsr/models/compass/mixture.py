"""Mixture: the parts of COMPASS's p(j | s) for a batch.

Dimension letters: B sessions, P events, M votes, C components, A attributes, D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mkmsr.layers.softmax import SparseScores
from mkmsr.models.neighbours.voting import Votes

__all__ = ["COMPONENTS", "Mixture", "add_lists"]

COMPONENTS = ("explore", "copy", "neighbours", "earlier")


@dataclass(frozen=True)
class Mixture:
    """The parts of p(j | s) for a batch, all but the catalogue's softmax.

    Args:
        queries: Scaled unit vectors, and a 1 that meets the items' popularity: one of shape [B, D + 1] for each mask.
        evidence: What similar sessions add to explore scores.
        match_weights: What an attribute adds to the explore scores of its items. Shape [A + 1, B].
        log_gates: Weights of the `COMPONENTS`; the last one only where it counts. Shape [B, C].
        copies: The session's own items, an entry an event; the weights are probabilities. Each of shape [P].
        votes: Neighbours' items, likewise. Each of shape [M].
        earlier: Items of the visitors' earlier sessions, likewise; None where they do not count.
        log_lift: What is added to the final scores, see `log_lifts`; None where nothing is.
    """

    queries: tuple[Tensor, ...]
    evidence: SparseScores
    match_weights: Tensor | None
    log_gates: Tensor
    copies: Votes
    votes: Votes
    earlier: Votes | None = None
    log_lift: Votes | None = None

    @property
    def lists(self) -> list[Votes]:
        """The components that name items, in the order of `COMPONENTS`: all but explore."""
        return [self.copies, self.votes] if self.earlier is None else [self.copies, self.votes, self.earlier]


def add_lists(scores_BV: Tensor, lists: Sequence[Votes], gates_BC: Tensor) -> Tensor:
    """Log probabilities [B, V], in place, plus those of components that name items, each weighed by its column.

    They touch a few hundred items of a row: only these leave the logarithm.
    """
    touched = Votes(
        torch.cat([each.rows for each in lists]),
        torch.cat([each.items for each in lists]),
        torch.cat([each.weights * gates_BC[each.rows, column] for column, each in enumerate(lists)]),
    ).summed(scores_BV.shape[1])
    place = (touched.rows, touched.items)
    return scores_BV.index_put_(place, torch.logaddexp(scores_BV[place], touched.weights.log()))

"""COMPASS's mixture: the parts of p(j | s), their weights, and what becomes of them in training and in scoring.

Dimension letters: B sessions, P events, M votes, C components, F features, D size of a micro-behaviour, V catalogue
+ 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.models.compass.config import CompassConfig
from mkmsr.models.compass.explore import ExploreQuery
from mkmsr.models.compass.similar_sessions import SMALLEST, lifted
from mkmsr.models.neighbours.voting import Votes

__all__ = ["COMPONENTS", "Mixture", "MixtureGates"]

COMPONENTS = ("explore", "copy", "neighbours", "earlier")
_FEATURES = 6
_HIDDEN = 32
_EVEN_SHARE = 0.03
"""Share of the mixture that is spread evenly: no component ever falls silent, so each goes on learning."""
_SMALLEST_FLOAT = 1e-6


@dataclass(frozen=True)
class Mixture:
    """The parts of p(j | s) for a batch, all but the catalogue's softmax.

    Args:
        explore: What the sessions look for in the catalogue.
        log_gates: Weights of the `COMPONENTS`; the last one only where it counts. Shape [B, C].
        copies: The session's own items, an entry an event; the weights are probabilities. Each of shape [P].
        votes: Items of similar sessions, likewise. Each of shape [M].
        earlier: Items of the visitors' earlier sessions, likewise; None where they do not count.
        log_lift: What is added to the final scores, see `log_lifts`; None where nothing is.
    """

    explore: ExploreQuery
    log_gates: Tensor
    copies: Votes
    votes: Votes
    earlier: Votes | None = None
    log_lift: Votes | None = None

    def log_likelihood(self, explore_B: Tensor, targets_B: Tensor, tasks: CompassConfig | None = None) -> Tensor:
        """Return log p(target | s) without lifts, given the explore component's own. Shape [B].

        With `tasks`, as in training: mixed with the explore component's own likelihood, and plus how well it is told
        whether an item comes back, and which.
        """
        lists = [self.copies, self.votes] if self.earlier is None else [self.copies, self.votes, self.earlier]
        listed = [each.of(targets_B) for each in lists]
        logs_BC = torch.stack([explore_B, *(each.clamp_min(SMALLEST).log() for each in listed)], dim=1)
        likelihood_B = (logs_BC + self.log_gates).logsumexp(1)
        if tasks is None:
            return likelihood_B
        share = tasks.explore.own_task
        likelihood_B = (1 - share) * likelihood_B + share * explore_B
        for name, is_on in (("copy", tasks.copy_past), ("earlier", tasks.earlier_visits)):
            if is_on and tasks.copy_task:
                column = COMPONENTS.index(name)
                right_B = _repeat_likelihood(self.log_gates[:, column], listed[column - 1])
                likelihood_B = likelihood_B + tasks.copy_task * right_B
        return likelihood_B

    def log_scores(self, explore_BV: Tensor, seen_V: Tensor) -> Tensor:
        """Return log p(j | s) of every item, with lifts, given the explore component's own. Shape [B, V].

        `seen_V` is 1 for items that training saw, else 0.
        """
        scores_BV = explore_BV + self.log_gates[:, :1]
        gates_BC = self.log_gates.exp()
        scores_BV = _add_lists(scores_BV, [self.copies, self.votes], gates_BC[:, 1:])
        if self.log_lift is not None:
            scores_BV = lifted(scores_BV, self.log_lift, seen_V, gates_BC[:, :3].sum(1))
        return scores_BV if self.earlier is None else _add_lists(scores_BV, [self.earlier], gates_BC[:, 3:])


class MixtureGates(nn.Module):
    """Log weights of the components, from the last micro-behaviour and from how much each component has to say.

    Args:
        width: D.
        copies: Whether the session's own events are a component.
        earlier_features: Numbers a session about its visitor's earlier sessions; 0: they are no component.
    """

    def __init__(self, width: int, *, copies: bool, earlier_features: int = 0):
        super().__init__()
        self.copies = copies
        features, components = _FEATURES + earlier_features, len(COMPONENTS) - (not earlier_features)
        self.network = nn.Sequential(nn.Linear(width + features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, components))

    def forward(
        self,
        batch: SessionBatch,
        last_BD: Tensor,
        votes: Votes,
        seen_V: Tensor,
        earlier_BF: Tensor | None = None,
        extra_BC: Tensor | None = None,
    ) -> Tensor:
        """Return the log weights; a component that is off, or has nothing to say, has weight zero. Shape [B, C].

        Args:
            batch: The sessions.
            last_BD: Their newest micro-behaviours.
            votes: The neighbours' items, as probabilities.
            seen_V: 1 for items that training saw, else 0.
            earlier_BF: See `EarlierVisits.of_sessions`.
            extra_BC: What is added to the network's result.
        """
        rows = len(batch)
        candidates_B = torch.bincount(votes.rows, minlength=rows).to(last_BD)
        lengths_B = batch.lengths.to(last_BD)
        features = [
            (candidates_B > 0).to(last_BD),
            candidates_B.log1p(),
            last_BD.new_zeros(rows).scatter_reduce(0, votes.rows, votes.weights.detach(), "amax"),
            lengths_B.log(),
            torch.bincount(batch.graph.node_row, minlength=rows) / lengths_B,
            seen_V[batch.items[batch.last]],
        ]
        never_B = torch.zeros_like(candidates_B, dtype=torch.bool)
        silent = [never_B, never_B if self.copies else ~never_B, candidates_B == 0]
        if earlier_BF is not None:
            features += earlier_BF.to(last_BD).unbind(1)
            silent.append(features[_FEATURES] == 0)
        silent_BC = torch.stack(silent, dim=1)
        logits_BC: Tensor = self.network(torch.cat([last_BD, torch.stack(features, dim=1)], dim=1))
        if extra_BC is not None:
            logits_BC = logits_BC + extra_BC
        gates_BC = logits_BC.masked_fill(silent_BC, -torch.inf).softmax(1)
        even_BC = ~silent_BC / (~silent_BC).sum(1, keepdim=True)
        return ((1 - _EVEN_SHARE) * gates_BC + _EVEN_SHARE * even_BC).clamp_min(SMALLEST).log()


def _repeat_likelihood(log_gate_B: Tensor, listed_B: Tensor) -> Tensor:
    """The log probability of what happened: the right one of the listed items, or none of them. Shape [B]."""
    no_repeat_B = torch.log1p(-log_gate_B.exp().clamp(max=1 - _SMALLEST_FLOAT))
    return torch.where(listed_B > 0, log_gate_B + listed_B.clamp_min(SMALLEST).log(), no_repeat_B)


def _add_lists(scores_BV: Tensor, lists: Sequence[Votes], gates_BC: Tensor) -> Tensor:
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

"""COMPASS's mixture: what components say, and the gates, which are fitted forward in time.

    p(j | s) = sum over components c of  g_c(s) p_c(j | s),    p_c proportional to e^(sharpness_c * logit_c(j))

Components learn from the training sessions, each by its own likelihood. How far each is to be trusted cannot be learnt
there: it has overfitted these sessions, and neighbours would find the session itself. So gates, sharpness and the
weights of explore's terms stay as they are in training, and are then fitted on newer sessions (`Compass.calibrate`).
Dimension letters: B sessions, M pairs of a session and an item, P events, C components, F features, V catalogue + 1,
O operations + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.segments import segment_log_softmax
from mkmsr.models.compass.explore import Encoded
from mkmsr.models.neighbours.voting import Votes

_SMALLEST = 1e-12
"""Probabilities below this are not told apart from it."""
_EXPLORE_AHEAD = 1.5
"""Gate logit of the explore component at first; the others have 0."""
_OF_SESSION = 5
"""Features of a session itself, see `_session_features`."""


class Said(NamedTuple):
    """The items that a component names, with their logits, [M], where pairs may recur; features of its gate, [B, F]."""

    items: Votes
    features: Tensor


class Component(Protocol):
    """A part of the mixture that names some items of the catalogue."""

    features: int
    """F."""
    learns: bool
    """Whether it has weights that training moves."""

    def __call__(self, session: Encoded) -> Said:
        """Return which items come next, as far as it can tell."""


class Mixture(nn.Module):
    """Gates of the components, the explore component first; all weights are fitted forward in time.

        g = softmax over c of  bias_c + sum over features f of w_cf f + by_operation_c[o_L] + by_wanted_c[o wanted]

    A component that names no item has no weight. Each but explore has so many features.
    """

    def __init__(self, features: Sequence[int], num_operations: int):
        super().__init__()
        components = 1 + len(features)

        def fitted(*size: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(size), requires_grad=False)

        self.bias, self.sharpness = fitted(components), fitted(components - 1)
        self.of_features = fitted(_OF_SESSION + sum(features), components)
        self.by_operation = fitted(num_operations + 1, components)
        self.by_wanted = fitted(num_operations + 1, components)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin with the same gates for all sessions."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.bias[0] = _EXPLORE_AHEAD
        self.sharpness.fill_(1.0)

    def log_gates(self, session: Encoded, said: Sequence[Said]) -> Tensor:
        """Return the log weights of the components. Shape [B, C]."""
        batch, wanted = session.batch, session.wanted
        features_BF = torch.cat([_session_features(batch, session.popularity), *(each.features for each in said)], 1)
        logits_BC = self.bias + features_BF @ self.of_features + self.by_operation[batch.operations[batch.last]]
        if wanted is not None:
            logits_BC = logits_BC + self.by_wanted[wanted] * (wanted > 0)[:, None]
        counts = [torch.bincount(each.items.rows, minlength=len(batch)) for each in said]
        speaks_BC = torch.stack([torch.ones_like(batch.last), *counts], dim=1) > 0
        return logits_BC.masked_fill(~speaks_BC, -torch.inf).log_softmax(1)

    def lists(self, said: Sequence[Said], num_rows: int) -> list[Votes]:
        """Return what each component but explore names, as probabilities."""
        return [probabilities(each.items, num_rows, sharp) for each, sharp in zip(said, self.sharpness, strict=True)]

    def log_likelihood(self, session: Encoded, said: Sequence[Said], explore_B: Tensor) -> Tensor:
        """Return log p(target | s), given that of the explore component. Shape [B]."""
        batch = session.batch
        listed = [each.of(batch.targets).clamp_min(_SMALLEST).log() for each in self.lists(said, len(batch))]
        return (torch.stack([explore_B, *listed], dim=1) + self.log_gates(session, said)).logsumexp(1)

    def add_lists(self, scores_BV: Tensor, log_gates_BC: Tensor, said: Sequence[Said]) -> Tensor:
        """Return log p(j | s) of every item, given what explore adds to it; in the same memory. Shape [B, V].

        Lists touch a few hundred items of a session: only these leave the logarithm.
        """
        gates_BC, lists = log_gates_BC.exp(), self.lists(said, len(scores_BV))
        if not lists:
            return scores_BV
        weights = [each.weights * gates_BC[each.rows, column] for column, each in enumerate(lists, start=1)]
        rows, items = (torch.cat([getattr(each, name) for each in lists]) for name in ("rows", "items"))
        touched = Votes(rows, items, torch.cat(weights)).summed(scores_BV.shape[1])
        place = (touched.rows, touched.items)
        return scores_BV.index_put_(place, torch.logaddexp(scores_BV[place], touched.weights.log()))


def probabilities(said: Votes, num_rows: int, sharpness: Tensor | float = 1.0) -> Votes:
    """Return what a component names with probabilities in place of logits."""
    return replace(said, weights=segment_log_softmax(sharpness * said.weights, said.rows, num_rows).exp())


def largest_shares(said: Votes, num_rows: int) -> Tensor:
    """Return the largest probability of an entry of each session, 0 where there is none. Shape [B]."""
    shares = probabilities(said, num_rows).weights.detach()
    return shares.new_zeros(num_rows).scatter_reduce(0, said.rows, shares, "amax")


def _session_features(batch: SessionBatch, popularity_V: Tensor) -> Tensor:
    """Return log length, whether there is one event, the share of distinct items, how often the newest item stands in
    the session (logarithm), and log(1 + training events) of it. Shape [B, 5]."""
    lengths_B, last_B = batch.lengths.to(popularity_V), batch.items[batch.last]
    distinct_B = torch.bincount(batch.graph.node_row, minlength=len(batch)) / lengths_B
    again_B = torch.bincount(batch.rows[batch.items == last_B[batch.rows]], minlength=len(batch)).to(popularity_V)
    return torch.stack([lengths_B.log(), (lengths_B == 1).float(), distinct_B, again_B.log(), popularity_V[last_B]], 1)

"""COMPASS's mixture: what components say, and the gates, which are fitted forward in time.

    p(j | s) = sum over components c of  g_c(s) p_c(j | s),    p_c proportional to e^(sharpness_c * logit_c(j))

Components learn from the training sessions, each by its own likelihood. How far each is to be trusted cannot be learnt
there: it has overfitted these sessions, and neighbours would find the session itself. So gates, sharpness and the
weights of explore's terms stay as they are in training, and are then fitted on newer sessions (`Compass.calibrate`).
Dimension letters: B sessions, M pairs of a session and an item, C components, F features, V catalogue + 1, O operations
+ 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.segments import segment_log_softmax
from mkmsr.models.compass.explore import AllItems, Catalogue
from mkmsr.models.compass.item_vectors import ItemVectors
from mkmsr.models.neighbours.voting import Votes

__all__ = ["Component", "Encoded", "Mixture", "Parts", "Said", "probabilities"]

_SMALLEST = 1e-12
"""Probabilities below this are not told apart from it."""
_EVEN_SHARE = 0.03
"""Share of the mixture that is spread evenly over the components: what happens seldom stays possible."""
_EXPLORE_AHEAD = 1.5
"""Gate logit of the explore component at first; the others have 0."""


@dataclass(frozen=True)
class Encoded:
    """What components look at.

    Args:
        batch: The sessions.
        vectors: Item vectors, read by item index.
        events: Micro-behaviours. Shape [P, D].
        catalogue: The explore component's distribution.
        votes: What similar sessions hold, and the logarithms of their votes. Each of shape [M].
        wanted: The operation asked for, 0 for any; None where it is never asked for. Shape [B].
    """

    batch: SessionBatch
    vectors: ItemVectors
    events: Tensor
    catalogue: Catalogue
    votes: Votes
    wanted: Tensor | None


@dataclass(frozen=True)
class Said:
    """What a component says.

    Args:
        items: The items that it names, with their logits; a pair may recur. Each of shape [M].
        features: What its gate looks at. Shape [B, F].
    """

    items: Votes
    features: Tensor


class Component(Protocol):
    """A part of the mixture that names some items of the catalogue."""

    features: int
    """F."""

    def __call__(self, session: Encoded) -> Said:
        """Return which items come next, as far as it can tell."""


@dataclass(frozen=True)
class Parts:
    """All parts of p(j | s) for a batch; weights that are fitted forward are not in it yet.

    Args:
        catalogue: What the explore component says.
        lists: What the other components name.
        features: What the gates look at. Shape [B, F].
        operations: The sessions' newest operations. Shape [B].
        wanted: The operation asked for. Shape [B].
    """

    catalogue: Catalogue
    lists: tuple[Votes, ...]
    features: Tensor
    operations: Tensor
    wanted: Tensor


class Mixture(nn.Module):
    """Gates of the components, the explore component first; all weights are fitted forward in time.

        g = softmax over c of  bias_c + sum over features f of w_cf f + by_operation_c[o_L] + by_wanted_c[o wanted]

    A component that names no item has no weight.

    Args:
        features: F of each component but explore.
        num_operations: O - 1.
    """

    OF_SESSION = 5
    """Features of a session itself, see `session_features`."""

    def __init__(self, features: Sequence[int], num_operations: int):
        super().__init__()
        components = 1 + len(features)

        def fitted(*size: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(size), requires_grad=False)

        self.bias, self.sharpness = fitted(components), fitted(components - 1)
        self.of_features = fitted(self.OF_SESSION + sum(features), components)
        self.by_operation, self.by_wanted = (
            fitted(num_operations + 1, components),
            fitted(num_operations + 1, components),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin with the same gates for all sessions."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.bias[0] = _EXPLORE_AHEAD
            self.sharpness.fill_(1.0)

    def parts(self, session: Encoded, said: Sequence[Said], popularity_V: Tensor) -> Parts:
        """Return what has been said, in one."""
        batch = session.batch
        features = [session_features(batch, popularity_V), *(each.features for each in said)]
        wanted = torch.zeros_like(batch.last) if session.wanted is None else session.wanted
        lists, operations = tuple(each.items for each in said), batch.operations[batch.last]
        return Parts(session.catalogue, lists, torch.cat(features, dim=1), operations, wanted)

    def log_gates(self, parts: Parts) -> Tensor:
        """Return the log weights of the components. Shape [B, C]."""
        num_rows = len(parts.features)
        speaks_BC = parts.features.new_ones(num_rows, len(self.bias), dtype=torch.bool)
        for column, each in enumerate(parts.lists, start=1):
            speaks_BC[:, column] = torch.bincount(each.rows, minlength=num_rows) > 0
        logits_BC = self.bias + parts.features @ self.of_features + self.by_operation[parts.operations]
        logits_BC = logits_BC + self.by_wanted[parts.wanted] * (parts.wanted > 0)[:, None]
        gates_BC = logits_BC.masked_fill(~speaks_BC, -torch.inf).softmax(1)
        even_BC = speaks_BC / speaks_BC.sum(1, keepdim=True)
        return ((1 - _EVEN_SHARE) * gates_BC + _EVEN_SHARE * even_BC).clamp_min(_SMALLEST).log()

    def lists(self, parts: Parts) -> list[Votes]:
        """Return what each component but explore names, as probabilities."""
        num_rows = len(parts.features)
        return [probabilities(each, num_rows, sharp) for each, sharp in zip(parts.lists, self.sharpness, strict=True)]

    def log_likelihood(self, parts: Parts, explore_B: Tensor, targets: Tensor) -> Tensor:
        """Return log p(target | s), given that of the explore component. Shape [B]."""
        listed = [each.of(targets).clamp_min(_SMALLEST).log() for each in self.lists(parts)]
        return (torch.stack([explore_B, *listed], dim=1) + self.log_gates(parts)).logsumexp(1)

    def log_scores(self, parts: Parts, all_items: AllItems) -> Tensor:
        """Return log p(j | s) of every item, given what is kept of all items. Shape [B, V].

        Lists touch a few hundred items of a session: only these leave the logarithm.
        """
        log_gates_BC = self.log_gates(parts)
        gates_BC = log_gates_BC.exp()
        scores_BV = parts.catalogue.log_scores(all_items, log_gates_BC[:, 0])
        lists = [
            replace(each, weights=each.weights * gates_BC[each.rows, column])
            for column, each in enumerate(self.lists(parts), start=1)
        ]
        if not lists:
            return scores_BV
        touched = Votes(*(torch.cat([getattr(each, name) for each in lists]) for name in ("rows", "items", "weights")))
        touched = touched.summed(scores_BV.shape[1])
        place = (touched.rows, touched.items)
        return scores_BV.index_put_(place, torch.logaddexp(scores_BV[place], touched.weights.log()))


def probabilities(said: Votes, num_rows: int, sharpness: Tensor | float = 1.0) -> Votes:
    """Return what a component names with probabilities in place of logits."""
    return replace(said, weights=segment_log_softmax(sharpness * said.weights, said.rows, num_rows).exp())


def session_features(batch: SessionBatch, popularity_V: Tensor) -> Tensor:
    """Return log length, whether there is one event, the share of distinct items, how often the newest item stands in
    the session (logarithm), and log(1 + training events) of it. Shape [B, `Mixture.OF_SESSION`]."""
    lengths_B, last_B = batch.lengths.to(popularity_V), batch.items[batch.last]
    distinct_B = torch.bincount(batch.graph.node_row, minlength=len(batch)) / lengths_B
    again_B = torch.bincount(batch.rows[batch.items == last_B[batch.rows]], minlength=len(batch)).to(popularity_V)
    return torch.stack([lengths_B.log(), (lengths_B == 1).float(), distinct_B, again_B.log(), popularity_V[last_B]], 1)

"""How much each attribute speaks for a candidate because items of the session have it too.

Dimension letters: B sessions, P events, M (event, attribute) pairs, A attributes, R relations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["AttributeMatch"]


class AttributeMatch(nn.Module):
    """Weights [A + 1, B]: an attribute of an event adds theta[relation, age] (1 + u[attribute]) to it.

    Spread over the items that have the attribute, the weights are scores: "the same shop as a moment ago" counts as
    such, for new items too, without going through any vector. Age is the number of events since, the last one has 0.

    Args:
        num_attributes: A.
        num_relations: R.
        ages: Ages told apart; older events share the last one.
    """

    def __init__(self, num_attributes: int, num_relations: int, *, ages: int = 28):
        super().__init__()
        self.by_age = nn.Parameter(torch.empty(num_relations + 1, ages))
        self.by_attribute = nn.Embedding(num_attributes + 1, 1, padding_idx=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """theta starts at half a point for the newest event and falls to 1/e of it in 1.5 events; u at zero."""
        ages = torch.arange(self.by_age.shape[1])
        with torch.no_grad():
            self.by_age.copy_((0.5 * torch.exp(-ages / 1.5)).expand_as(self.by_age))
            self.by_attribute.weight.zero_()

    def forward(
        self, attributes: Tensor, relations: Tensor, shares: Tensor, ages: Tensor, rows: Tensor, num_rows: int
    ) -> Tensor:
        """attributes, relations, shares (1 / values of that relation), ages, rows: each [M] -> [A + 1, B]."""
        theta_M = self.by_age[relations, ages.clamp(max=self.by_age.shape[1] - 1)]
        weights_M: Tensor = theta_M * (1 + self.by_attribute(attributes).squeeze(1)) * shares
        size = (self.by_attribute.num_embeddings, num_rows)
        flat = weights_M.new_zeros(math.prod(size)).index_add(0, attributes * num_rows + rows, weights_M)
        return flat.view(size)

"""TransH: how badly a triple <item, relation, attribute> fits, with a hyperplane for each relation.

Dimension letters: T triples, D embedding size, R relations, A attributes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def transh_distance(head: Tensor, normal: Tensor, translation: Tensor, tail: Tensor) -> Tensor:
    """Squared TransH distances, || (h - w'h w) + d - (t - w't w) ||^2.

    Args:
        head: h, items. Shape [T, D].
        normal: w, the hyperplanes' normals; normalised here. Shape [T, D].
        translation: d. Shape [T, D].
        tail: t, attributes. Shape [T, D].

    Returns:
        Shape [T]; 0 is a perfect fit.

    Source: Wang et al., AAAI 2014; squared norm as in the MKM-SR talk, "Learning Knowledge Embeddings".
    """
    normal = F.normalize(normal, dim=-1)
    difference = head - tail
    projected = difference - (difference * normal).sum(-1, keepdim=True) * normal
    return (projected + translation).square().sum(-1)


class TransH(nn.Module):
    """Attribute vectors, hyperplanes and translations of the knowledge task; item vectors come from the main task.

    Args:
        num_relations: R.
        num_attributes: A.
        dim: D.

    Shapes:
        items [T, D], relations [T] (1..R), attributes [T] (1..A) -> [T].
    """

    def __init__(self, num_relations: int, num_attributes: int, dim: int):
        super().__init__()
        self.dim = dim
        self.attributes = nn.Embedding(num_attributes + 1, dim, padding_idx=0)
        self.normals = nn.Embedding(num_relations + 1, dim, padding_idx=0)
        self.translations = nn.Embedding(num_relations + 1, dim, padding_idx=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every vector from U(-1/sqrt(D), 1/sqrt(D)), padding rows zero."""
        bound = 1 / math.sqrt(self.dim)
        for table in (self.attributes, self.normals, self.translations):
            nn.init.uniform_(table.weight, -bound, bound)
            with torch.no_grad():
                table.weight[0].zero_()

    def forward(self, items: Tensor, relations: Tensor, attributes: Tensor) -> Tensor:
        """Squared distance of each triple. Shape [T]."""
        return transh_distance(
            items, self.normals(relations), self.translations(relations), self.attributes(attributes)
        )

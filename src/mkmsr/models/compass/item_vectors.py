"""Item vectors composed from an id and from attributes, so that an item never seen in training has a vector too.

Dimension letters: V items + 1 (0 is padding), A attributes, R relations, D embedding size, T triples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.errors import DataError
from mkmsr.layers.compressed_rows import check_compressed_rows, check_indexes
from mkmsr.layers.rows import table_rows
from mkmsr.models.neighbours.voting import expand

__all__ = ["ComposedVectors", "ItemVectors", "SomeVectors"]

_ID_SHARE = 0.2
"""Length of id vectors at the start, in those of attributes: knowledge leads at first."""


@dataclass(frozen=True)
class SomeVectors:
    """Vectors of some items, read by item index like those of all.

    Args:
        items: Rising. Shape [m].
        vectors: Shape [m, D].
    """

    items: Tensor
    vectors: Tensor

    def __getitem__(self, items: Tensor) -> Tensor:
        return self.vectors[torch.searchsorted(self.items, items)]


ItemVectors = Tensor | SomeVectors
"""Vectors that are read by item index: those of all items, or of some."""


class ComposedVectors(nn.Module):
    r"""x_i = k_i e_i + sum over relations r of w_r mean over attributes a of i under r of e_a.

    e_i is the id's own vector; k_i is 0 where training did not see the item, and in training also for a random share p
    of the others at each step (id dropout), so that a vector made of attributes alone is nothing new to the network.
    It is 1 for the rest in training, and afterwards 1 - p for all that training saw: what it was on average. w_r are
    learnt weights of relations. The sum over all items is one product of a sparse [V, A] matrix.

    Args:
        num_items: V - 1.
        num_attributes: A; 0: items are ids alone.
        num_relations: R.
        dim: D.
        id_dropout: p.
        use_ids: Whether there are id vectors at all.

    Buffers:
        seen: 1 for items that training saw. Shape [V].
        relation_of: Relation of each attribute. Shape [A + 1].
        rows, columns, values: Items by attributes, compressed by item; likewise `by_attribute_...`, its transpose.
    """

    seen: Tensor
    relation_of: Tensor
    rows: Tensor
    columns: Tensor
    values: Tensor
    by_attribute_rows: Tensor
    by_attribute_columns: Tensor
    by_attribute_values: Tensor

    def __init__(
        self, num_items: int, num_attributes: int, num_relations: int, dim: int, *, id_dropout: float, use_ids: bool
    ):
        super().__init__()
        self.num_items, self.dim, self.id_dropout = num_items, dim, id_dropout
        self.ids = nn.Embedding(num_items + 1, dim, padding_idx=0) if use_ids else None
        self.attributes = nn.Embedding(num_attributes + 1, dim, padding_idx=0) if num_attributes else None
        if num_attributes:
            self.relation_weight = nn.Parameter(torch.empty(num_relations + 1))
        self.register_buffer("seen", torch.ones(num_items + 1))
        self._remembered: Tensor | None = None
        self.register_buffer("relation_of", torch.zeros(num_attributes + 1, dtype=torch.int64))
        for prefix, length in (("", num_items + 2), ("by_attribute_", num_attributes + 2)):
            self.register_buffer(f"{prefix}rows", torch.zeros(length, dtype=torch.int64))
            self.register_buffer(f"{prefix}columns", torch.zeros(0, dtype=torch.int64))
            self.register_buffer(f"{prefix}values", torch.zeros(0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw vectors from U(-1/sqrt(D), 1/sqrt(D)), those of ids shorter; relations weigh 1."""
        bound = 1 / math.sqrt(self.dim)
        for table, size in ((self.ids, _ID_SHARE * bound), (self.attributes, bound)):
            if table is not None:
                nn.init.uniform_(table.weight, -size, size)
                nn.init.zeros_(table.weight[0])
        if self.attributes is not None:
            nn.init.ones_(self.relation_weight)

    def observe(self, seen: Tensor, items: Tensor, relations: Tensor, attributes: Tensor) -> None:
        """Take in which items training saw, [V] bool, and the triples: items, relations, attributes, each [T]."""
        self.seen = seen.to(self.seen)
        if self._remembered is not None:
            self.seen = torch.maximum(self.seen, self._remembered.to(self.seen))
        if self.attributes is None:
            return
        self.relation_of = torch.zeros_like(self.relation_of).index_put((attributes,), relations.to(self.relation_of))
        _, group, count = torch.unique(torch.stack([items, relations]), dim=1, return_inverse=True, return_counts=True)
        share, size = 1.0 / count[group], (self.num_items + 1, len(self.relation_of))
        self.rows, self.columns, self.values = _compressed(items, attributes, share, size)
        self.by_attribute_rows, self.by_attribute_columns, self.by_attribute_values = _compressed(
            attributes, items, share, size[::-1]
        )

    def check_buffers(self) -> None:
        """Make sure that buffers from a file fit each other.

        Raises:
            DataError: They do not.
        """
        num_rows, num_columns = self.num_items + 1, 1 if self.attributes is None else self.attributes.num_embeddings
        check_compressed_rows("attributes by item", self.rows, self.columns, self.values)
        transpose = (self.by_attribute_rows, self.by_attribute_columns, self.by_attribute_values)
        check_compressed_rows("items by attribute", *transpose)
        check_indexes("columns of attributes by item", self.columns, 0, num_columns)
        check_indexes("columns of items by attribute", self.by_attribute_columns, 0, num_rows)
        num_relations = 1 if self.attributes is None else len(self.relation_weight)
        check_indexes("relations of attributes", self.relation_of, 0, num_relations)
        found = (self.seen.numel(), len(self.rows) - 1, len(self.by_attribute_rows) - 1, len(self.relation_of))
        if found != (num_rows, num_rows, num_columns, num_columns) or self.seen.dim() != 1:
            raise DataError(f"buffers for other items and attributes than {num_rows} and {num_columns}: {found}")

    def remember(self, items: Tensor) -> None:
        """Say which items have id vectors from an earlier training, 1 or 0 each, [V]: they count as seen."""
        self._remembered = items.clone()

    def append(self, count: int, items: Tensor, relations: Tensor, attributes: Tensor) -> None:
        """Take in `count` items that training did not see, with their triples: items from V on, ..., each [T]."""
        if self.ids is not None:
            weight_VD = torch.cat([self.ids.weight.detach(), self.ids.weight.new_zeros(count, self.dim)])
            self.ids = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
                weight_VD, freeze=False, padding_idx=0
            )
        self.num_items += count
        self._remembered = None
        owners = torch.repeat_interleave(torch.arange(len(self.rows) - 1, device=self.rows.device), self.rows.diff())
        known = (owners, self.relation_of[self.columns], self.columns)
        added = (items, relations, attributes)
        triples = [torch.cat([old, new.to(old)]) for old, new in zip(known, added, strict=True)]
        self.observe(torch.cat([self.seen, self.seen.new_zeros(count)]), *triples)

    def attributes_of(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All attributes of some items: position in `items`, attribute, and 1 / values of its relation; each [M]."""
        owner, place = expand(self.rows[items], self.rows[items + 1])
        return owner, self.columns[place], self.values[place]

    def items_with(self, attributes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All items that have some attributes: position in `attributes`, item, and 1 / values of the relation; [M]."""
        owner, place = expand(self.by_attribute_rows[attributes], self.by_attribute_rows[attributes + 1])
        return owner, self.by_attribute_columns[place], self.by_attribute_values[place]

    def spread(self, weights: Tensor) -> Tensor:
        """Sums over each item's attributes of weights per attribute. Shape [A + 1, B] -> [V, B]."""
        matrix = (self.rows, self.columns, self.values)
        transpose = (self.by_attribute_rows, self.by_attribute_columns, self.by_attribute_values)
        result: Tensor = _IncidenceProduct.apply(weights, *matrix, *transpose)  # type: ignore[no-untyped-call]
        return result

    def spread_to(self, items: Tensor, weights: Tensor, strength: Tensor | None = None) -> Tensor:
        """`spread` for some items alone; `strength` [A + 1] scales each attribute's row. [A + 1, B] -> [m, B]."""
        owner, attributes, shares = self.attributes_of(items)
        if strength is not None:
            shares = shares * strength[attributes]
        counts = torch.bincount(owner, minlength=len(items))
        offsets = counts.cumsum(0) - counts
        return F.embedding_bag(attributes, weights, offsets, mode="sum", per_sample_weights=shares)

    def rows_of(self, items: Tensor) -> Tensor:
        """The vectors of some items, composed by themselves; id dropout as in `forward`. Shape [m, D]."""
        vectors_mD = self.seen.new_zeros(len(items), self.dim)
        if self.ids is not None:
            vectors_mD = vectors_mD + table_rows(self.ids, items) * self.known(self.seen[items])
        if self.attributes is not None:
            strength = self.relation_weight[self.relation_of]
            vectors_mD = vectors_mD + self.spread_to(items, self.attributes.weight, strength)
        return vectors_mD

    def forward(self) -> Tensor:
        """The vectors of all items; row 0 is zero. Shape [V, D]."""
        parts = []
        if self.ids is not None:
            parts.append(self.ids.weight * self.known(self.seen))
        if self.attributes is not None:
            weighted_AD = self.attributes.weight * self.relation_weight[self.relation_of][:, None]
            parts.append(self.spread(weighted_AD))
        return torch.stack(parts).sum(0) if parts else self.seen.new_zeros(len(self.seen), self.dim)

    def known(self, seen: Tensor) -> Tensor:
        """k_i of items that training saw (1) or not (0). [m] -> [m, 1]."""
        known = seen[:, None]
        if not self.id_dropout:
            return known
        return known * (torch.rand_like(known) >= self.id_dropout if self.training else 1 - self.id_dropout)


class _IncidenceProduct(torch.autograd.Function):
    """The product of a compressed sparse matrix and a dense one, with the transpose at hand for the backward pass."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, *matrix_and_transpose: Tensor) -> Tensor:
        ctx.transpose = matrix_and_transpose[3:]
        return _product(matrix_and_transpose[:3], dense)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (_product(ctx.transpose, gradients[0].contiguous()), *[None] * 6)


def _product(matrix: tuple[Tensor, ...], dense: Tensor) -> Tensor:
    offsets, columns, values = matrix
    return F.embedding_bag(columns, dense, offsets[:-1], mode="sum", per_sample_weights=values)


def _compressed(rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Row offsets [rows + 1], columns and values of a sparse matrix in compressed form, rows and columns ascending."""
    order = torch.argsort(rows * size[1] + columns)
    counts = torch.bincount(rows, minlength=size[0])
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return offsets, columns[order], values[order].float()

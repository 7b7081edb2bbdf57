"""Item vectors composed from an id and from attributes, so that an item never seen in training has a vector too.

Dimension letters: V items + 1 (0 is padding), A attributes, R relations, D embedding size, T triples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.errors import DataError
from mkmsr.layers.compressed_rows import CompressedRows, check_indexes
from mkmsr.layers.fast.shared_table import table_rows

_ID_SHARE = 0.2
"""Length of id vectors at the start, in those of attributes: knowledge leads at first."""


class ComposedVectors(nn.Module):
    """x_i = k_i e_i + sum over relations r of w_r mean over attributes a of i under r of e_a.

    e_i is the id's own vector, where ids have any; k_i is 0 where training did not see the item, and in training also
    for a random share p of the others at each step (id dropout), so that a vector made of attributes alone is nothing
    new to the network. It is 1 for the rest in training, and afterwards 1 - p for all that training saw: what it was on
    average. w_r are learnt weights of relations. Without attributes items are ids alone.

    Buffers:
        seen: 1 for items that training saw. Shape [V].
        relation_of: Relation of each attribute. Shape [A + 1].
        by_item: 1 / values of the relation for each attribute of each item; `by_attribute` is its transpose.
    """

    seen: Tensor
    relation_of: Tensor

    def __init__(
        self, num_items: int, num_attributes: int, num_relations: int, dim: int, *, id_dropout: float, use_ids: bool
    ):
        super().__init__()
        self.dim, self.id_dropout = dim, id_dropout
        self.ids = nn.Embedding(num_items + 1, dim, padding_idx=0) if use_ids else None
        self.attributes = nn.Embedding(num_attributes + 1, dim, padding_idx=0) if num_attributes else None
        if num_attributes:
            self.relation_weight = nn.Parameter(torch.empty(num_relations + 1))
        self.by_item, self.by_attribute = CompressedRows(num_items + 1), CompressedRows(num_attributes + 1)
        self.register_buffer("seen", torch.ones(num_items + 1))
        self.register_buffer("relation_of", torch.zeros(num_attributes + 1, dtype=torch.int64))
        self._remembered: Tensor | None = None
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
        """Take in which items training saw, [V], and the triples: items, relations, attributes, each [T]."""
        self.seen = seen.to(self.seen)
        if self._remembered is not None:
            self.seen = torch.maximum(self.seen, self._remembered.to(self.seen))
        if self.attributes is None:
            return
        self.relation_of = torch.zeros_like(self.relation_of).index_put((attributes,), relations.to(self.relation_of))
        _, group, count = torch.unique(torch.stack([items, relations]), dim=1, return_inverse=True, return_counts=True)
        share, size = 1.0 / count[group], (len(self.seen), len(self.relation_of))
        self.by_item.fill(items, attributes, share, size)
        self.by_attribute.fill(attributes, items, share, size[::-1])

    def check_buffers(self) -> None:
        num_rows = len(self.by_item.rows) - 1
        num_columns = 1 if self.attributes is None else self.attributes.num_embeddings
        num_relations = 1 if self.attributes is None else len(self.relation_weight)
        self.by_item.check("attributes by item", num_rows, num_columns)
        self.by_attribute.check("items by attribute", num_columns, num_rows)
        check_indexes("relations of attributes", self.relation_of, 0, num_relations)
        if self.seen.shape != (num_rows,) or len(self.relation_of) != num_columns:
            raise DataError(f"buffers for other items and attributes than {num_rows} and {num_columns}")

    def remember(self, items: Tensor) -> None:
        """Say which items have id vectors from an earlier training, 1 or 0 each, [V]: they count as seen."""
        self._remembered = items.clone()

    def append(self, count: int, items: Tensor, relations: Tensor, attributes: Tensor) -> None:
        """Take in `count` items that training did not see, with their triples: items from V on, ..., each [T]."""
        if self.ids is not None:
            self.ids.weight = nn.Parameter(F.pad(self.ids.weight.detach(), (0, 0, 0, count)))
            self.ids.num_embeddings += count
        self._remembered = None
        owners = torch.repeat_interleave(self.by_item.sizes)
        known = (owners, self.relation_of[self.by_item.columns], self.by_item.columns)
        added = (items, relations, attributes)
        triples = [torch.cat([old, new.to(old)]) for old, new in zip(known, added, strict=True)]
        self.observe(F.pad(self.seen, (0, count)), *triples)

    def spread(self, weights: Tensor) -> Tensor:
        """Return sums over each item's attributes of weights per attribute. Shape [A + 1, B] -> [V, B]."""
        return self.by_item.product(weights, self.by_attribute)

    def spread_to(
        self, items: Tensor, weights: Tensor, strength: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Return the same for some items; `strength` [A + 1] scales each attribute's row. [A + 1, B] -> [m, B].

        With `present`, rising, the rows of weights are those of these attributes alone, which are all of the items'.
        """
        owner, attributes, shares = self.by_item.of(items)
        if strength is not None:
            shares = shares * strength[attributes]
        if present is not None:
            attributes = torch.searchsorted(present, attributes)
        counts = torch.bincount(owner, minlength=len(items))
        return F.embedding_bag(attributes, weights, counts.cumsum(0) - counts, mode="sum", per_sample_weights=shares)

    def rows_of(self, items: Tensor) -> Tensor:
        """Return the vectors of some items, composed by themselves; id dropout as in `forward`. Shape [m, D]."""
        vectors_mD = self.seen.new_zeros(len(items), self.dim)
        if self.ids is not None:
            vectors_mD = vectors_mD + table_rows(self.ids, items) * self.known(self.seen[items])
        if self.attributes is not None:
            strength = self.relation_weight[self.relation_of]
            vectors_mD = vectors_mD + self.spread_to(items, self.attributes.weight, strength)
        return vectors_mD

    def forward(self) -> Tensor:
        """Return the vectors of all items; row 0 is zero. Shape [V, D]."""
        known_V1 = self.known(self.seen)
        vectors_VD = known_V1.new_zeros(len(known_V1), self.dim) if self.ids is None else self.ids.weight * known_V1
        if self.attributes is None:
            return vectors_VD
        weighted_AD = self.attributes.weight * self.relation_weight[self.relation_of][:, None]
        return vectors_VD + self.spread(weighted_AD)

    def known(self, seen: Tensor) -> Tensor:
        """Return k_i of items that training saw (1) or not (0). [m] -> [m, 1]."""
        known = seen[:, None]
        if not self.id_dropout:
            return known
        return known * (torch.rand_like(known) >= self.id_dropout if self.training else 1 - self.id_dropout)

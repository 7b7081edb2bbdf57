"""KnowledgeGraph: item knowledge as triples <item, relation, attribute> in one entity space, items first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mkmsr.data.sessions import ranges
from mkmsr.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class KnowledgeGraph:
    """Triples over entities 1..E-1: the catalogue's items are 1..V-1, attribute `a` (1-based) is `V - 1 + a`.

    A triple, a row of [T, 3] int64, is an item, a relation (1..R) and an attribute's entity; sorted by item, no
    doubles. Attributes' ids are written `relation=value`: the same value under two relations is two attributes.
    """

    triples: NDArray[np.int64]
    relations: Vocabulary
    attributes: Vocabulary
    num_items: int

    def __post_init__(self) -> None:
        assert self.triples.ndim == 2
        assert self.triples.shape[1] == 3

    def __len__(self) -> int:
        return len(self.triples)

    @cached_property
    def item_offsets(self) -> NDArray[np.int64]:
        """Triples of item i are rows `item_offsets[i]:item_offsets[i + 1]`. Shape [V + 1]."""
        return np.searchsorted(self.triples[:, 0], np.arange(self.num_items + 2)).astype(np.int64)

    def of_items(self, items: NDArray[np.integer]) -> NDArray[np.int64]:
        """The triples of the given distinct items, as row numbers. Shape [m]."""
        return ranges(self.item_offsets[items], self.item_offsets[items + 1])[0]

    def describe_item(self, item: int) -> dict[str, list[str]]:
        """An item's attribute values by relation name, for people to read."""
        found: dict[str, list[str]] = {}
        for row in range(self.item_offsets[item], self.item_offsets[item + 1]):
            _, relation, entity = self.triples[row]
            name = self.relations.id(int(relation))
            value = self.attributes.id(int(entity) - self.num_items)
            found.setdefault(name, []).append(value.removeprefix(f"{name}="))
        return found

    @classmethod
    def empty(cls, num_items: int) -> KnowledgeGraph:
        """No knowledge about a catalogue of the given size."""
        return cls(
            np.zeros((0, 3), np.int64), Vocabulary([], kind="relation"), Vocabulary([], kind="attribute"), num_items
        )

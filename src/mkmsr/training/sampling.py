"""What a step draws at random: items to set against the targets (sampled losses), false triples (margin loss).

Dimension letters: B sessions, M negatives, T triples, V catalogue + 1, n examples.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.data.batching import TripleBatch
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable
from mkmsr.models.base import Negatives
from mkmsr.training.config import NegativesConfig

_ATTEMPTS = 8


class NegativeSampler:
    """Draws negatives with a probability that grows with (how often an item is a target) ** power.

    With power 0 that is every item of the catalogue alike; otherwise items that are never a target are not drawn.
    """

    def __init__(self, examples: ExampleTable, num_items: int, config: NegativesConfig):
        self._config = config
        counts = np.bincount(examples.targets, minlength=num_items + 1).astype(np.float64)
        counts[0] = 0.0
        weights = counts**config.power if config.power > 0 else np.ones(num_items + 1)
        weights[0] = 0.0
        self._target_share = counts / counts.sum()
        self._drawn_share = weights / weights.sum()
        self._cumulative = np.cumsum(self._drawn_share)
        self._cumulative /= self._cumulative[-1]

    def draw(self, targets: Tensor, generator: np.random.Generator) -> Negatives:
        """Return negatives for a batch with these targets [B]."""
        drawn = np.searchsorted(self._cumulative, generator.random(self._config.number), side="right")
        own, expected = targets.numpy(), self._config.number * self._drawn_share
        items = drawn
        if self._config.in_batch:
            items, expected = np.concatenate([own, drawn]), expected + len(own) * self._target_share
        log_counts = np.log(expected[items]).astype(np.float32)
        return Negatives(torch.from_numpy(items.astype(np.int64)), torch.from_numpy(log_counts))


class TripleCorruptor:
    """Draws false triples.

    Half of the time the attribute is replaced by another one of the same relation, so that a brand is told from brands
    and not from years; otherwise, and where the relation has one attribute only, the item is replaced by any item.
    A draw that hits a true triple is drawn again, up to eight times; where that does not help (an item that has every
    attribute of the relation) the triple stands unchanged, which teaches nothing, since both distances are the same.
    """

    def __init__(self, knowledge: KnowledgeGraph):
        self._num_items = knowledge.num_items
        self._attributes = len(knowledge.attributes) + 1
        relation = knowledge.triples[:, 1]
        attribute = knowledge.triples[:, 2] - knowledge.num_items
        self._true = np.unique(self._keys(knowledge.triples[:, 0], relation, attribute))
        pairs = np.unique(relation * self._attributes + attribute)
        self._pool = pairs % self._attributes
        begins = np.searchsorted(pairs // self._attributes, np.arange(len(knowledge.relations) + 2))
        self._begin, self._count = begins[:-1], np.diff(begins)

    def corrupt(self, triples: TripleBatch, generator: np.random.Generator) -> TripleBatch:
        """Return one false triple for each of the given ones, in the same order."""
        parts = (triples.items, triples.relations, triples.attributes)
        items, relations, attributes = (each.cpu().numpy() for each in parts)
        by_attribute = (generator.random(len(items)) < 0.5) & (self._count[relations] > 1)
        wrong_items, wrong_attributes = items.copy(), attributes.copy()
        todo = np.arange(len(items))
        for _ in range(_ATTEMPTS):
            attribute_rows, item_rows = todo[by_attribute[todo]], todo[~by_attribute[todo]]
            relation = relations[attribute_rows]
            drawn = (generator.random(len(relation)) * self._count[relation]).astype(np.int64)
            wrong_attributes[attribute_rows] = self._pool[self._begin[relation] + drawn]
            wrong_items[item_rows] = generator.integers(1, self._num_items + 1, len(item_rows))
            todo = todo[self.are_true(wrong_items[todo], relations[todo], wrong_attributes[todo])]
            if len(todo) == 0:
                break
        wrong_items[todo], wrong_attributes[todo] = items[todo], attributes[todo]
        return TripleBatch(torch.from_numpy(wrong_items), triples.relations, torch.from_numpy(wrong_attributes))

    def are_true(
        self, items: NDArray[np.int64], relations: NDArray[np.int64], attributes: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return whether each triple is in the knowledge graph. Shape [T]."""
        keys = self._keys(items, relations, attributes)
        place = np.minimum(np.searchsorted(self._true, keys), len(self._true) - 1)
        return np.asarray(self._true[place] == keys)

    def _keys(
        self, items: NDArray[np.int64], relations: NDArray[np.int64], attributes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        # The attribute says its relation already ("relation=value"), but two relations may share none or all of them.
        return (relations * (self._num_items + 1) + items) * self._attributes + attributes

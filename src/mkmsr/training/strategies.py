"""Training strategies: in which order an epoch visits sessions and triples, and nothing else.

    alternating   every batch of sessions, then every triple once       (the paper's choice)
    triples-first the same the other way round                          (the older version of the authors' code)
    joint         every batch of sessions together with the triples of its own items, targets included
    pretrain      epochs over the triples alone, then epochs over the sessions alone
    sessions      every batch of sessions; what the others come to where there is no knowledge task

Source: MKM-SR, "Training strategies" and Figure 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.data.batching import SessionBatch, TripleBatch, collate, collate_triples, epoch_order
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable
from mkmsr.models.base import Negatives, SessionModel, TrainingData
from mkmsr.models.capabilities import has_knowledge_task
from mkmsr.runtime.process_group import Processes
from mkmsr.training.config import NegativesConfig, StrategyName, TrainingConfig
from mkmsr.training.losses import is_sampled

_TURNS = ("alternating", "triples-first")
"""The strategies whose epochs visit sessions and triples by turns."""

_ATTEMPTS = 8


@dataclass(frozen=True)
class Step:
    """What one step of the optimiser learns from: sessions, triples, or both.

    Args:
        corrupted: A false triple for each triple, for the margin loss.
        negatives: Items to set against the sessions' targets, for the sampled losses.
    """

    sessions: SessionBatch | None = None
    triples: TripleBatch | None = None
    corrupted: TripleBatch | None = None
    negatives: Negatives | None = None

    def part(self, processes: Processes) -> Step:
        """Return this process's part of sessions and triples, None where it is empty, and all negatives."""
        if processes.size == 1:
            return self
        parts: dict[str, Any] = {}
        for name, whole in (("sessions", self.sessions), ("triples", self.triples), ("corrupted", self.corrupted)):
            own = None if whole is None else whole.part(processes.part(len(whole)))
            parts[name] = own if own is not None and len(own) else None
        return Step(**parts, negatives=self.negatives)


def effective_strategy(config: TrainingConfig, model: SessionModel, training: TrainingData) -> StrategyName:
    """Return the configured strategy, or "sessions" where there is no knowledge task, no triple or no weight on it."""
    has_task = has_knowledge_task(model) and len(training.knowledge) > 0 and config.loss.knowledge_weight > 0
    return config.strategy if has_task else "sessions"


class Plan:
    """The steps of every epoch, a function of (seed, epoch) alone, so that a resumed run finds them again."""

    def __init__(self, strategy: StrategyName, training: TrainingData, config: TrainingConfig, seed: int):
        self.strategy = strategy
        self._examples, self._knowledge = training.examples, training.knowledge
        self._config, self._seed = config, seed
        wants_false = strategy != "sessions" and config.loss.knowledge == "margin"
        self._corruptor = TripleCorruptor(training.knowledge) if wants_false else None
        self._sampler = None
        if is_sampled(config.loss.session):
            self._sampler = NegativeSampler(training.examples, training.knowledge.num_items, config.loss.negatives)

    @property
    def knowledge_epochs(self) -> int:
        """Epochs at the beginning that see triples alone."""
        return self._config.pretrain_epochs if self.strategy == "pretrain" else 0

    @property
    def has_triple_steps(self) -> bool:
        """Whether some steps have triples alone."""
        return self.strategy in (*_TURNS, "pretrain")

    def phase(self, epoch: int) -> Literal["sessions", "knowledge"]:
        """Return what an epoch (from 1) is about."""
        return "knowledge" if epoch <= self.knowledge_epochs else "sessions"

    def num_steps(self, epoch: int) -> int:
        """Return the number of steps of an epoch (from 1)."""
        of_sessions = -(-len(self._examples) // self._config.batch_size)
        of_triples = -(-len(self._knowledge) // self._config.triple_batch_size)
        if self.phase(epoch) == "knowledge":
            return of_triples
        return of_sessions + (of_triples if self.strategy in _TURNS else 0)

    def steps(self, epoch: int) -> Iterator[Step]:
        """Return the steps of an epoch (from 1)."""
        generator = np.random.default_rng([self._seed, epoch])
        if self.phase(epoch) == "knowledge":
            yield from self.triple_steps(generator)
            return
        if self.strategy == "triples-first":
            yield from self.triple_steps(generator)
        order = epoch_order(self._examples, self._config.shuffle, generator)
        for begin in range(0, len(order), self._config.batch_size):
            batch = collate(self._examples, order[begin : begin + self._config.batch_size])
            step = Step(sessions=batch)
            if self.strategy == "joint":
                items = np.unique(np.concatenate([batch.items.numpy(), batch.targets.numpy()]))
                step = self._with_triples(batch, self._knowledge.of_items(items), generator)
            if self._sampler is not None:
                step = replace(step, negatives=self._sampler.draw(batch.targets, generator))
            yield step
        if self.strategy == "alternating":
            yield from self.triple_steps(generator)

    def triple_steps(self, generator: np.random.Generator) -> Iterator[Step]:
        """Return every triple once, in random order."""
        order = generator.permutation(len(self._knowledge))
        for begin in range(0, len(order), self._config.triple_batch_size):
            yield self._with_triples(None, order[begin : begin + self._config.triple_batch_size], generator)

    def _with_triples(
        self, batch: SessionBatch | None, rows: NDArray[np.int64], generator: np.random.Generator
    ) -> Step:
        if len(rows) == 0:
            return Step(sessions=batch)
        triples = collate_triples(self._knowledge, rows)
        corrupted = self._corruptor.corrupt(triples, generator) if self._corruptor is not None else None
        return Step(sessions=batch, triples=triples, corrupted=corrupted)


class NegativeSampler:
    """Draws negatives with a probability that grows with (how often an item is a target) ** power.

    With power 0 that is every item of the catalogue alike; otherwise items that are never a target are not drawn.
    """

    def __init__(self, examples: ExampleTable, num_items: int, config: NegativesConfig):
        self._config = config
        counts = np.bincount(examples.targets, minlength=num_items + 1).astype(np.float64)
        weights = counts**config.power  # 0 ** 0 is 1
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

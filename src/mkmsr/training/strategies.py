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
from numpy.typing import NDArray

from mkmsr.data.batching import SessionBatch, TripleBatch, collate, collate_triples, epoch_order
from mkmsr.models.base import Negatives, SessionModel, TrainingData
from mkmsr.models.capabilities import has_knowledge_task
from mkmsr.runtime.process_group import Processes
from mkmsr.training.config import StrategyName, TrainingConfig
from mkmsr.training.sampled_losses import is_sampled
from mkmsr.training.sampling import NegativeSampler, TripleCorruptor

_TURNS = ("alternating", "triples-first")
"""The strategies whose epochs visit sessions and triples by turns."""


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
            step = self._joint_step(batch, generator) if self.strategy == "joint" else Step(sessions=batch)
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

    def _joint_step(self, batch: SessionBatch, generator: np.random.Generator) -> Step:
        items = np.unique(np.concatenate([batch.items.numpy(), batch.targets.numpy()]))
        return self._with_triples(batch, self._knowledge.of_items(items), generator)

    def _with_triples(
        self, batch: SessionBatch | None, rows: NDArray[np.int64], generator: np.random.Generator
    ) -> Step:
        if len(rows) == 0:
            return Step(sessions=batch)
        triples = collate_triples(self._knowledge, rows)
        corrupted = self._corruptor.corrupt(triples, generator) if self._corruptor is not None else None
        return Step(sessions=batch, triples=triples, corrupted=corrupted)

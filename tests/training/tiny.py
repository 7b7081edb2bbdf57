"""A small log with a pattern and a small model with dropout and a knowledge task, for the tests of this folder."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch, TripleBatch
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable, SessionTable
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.models.base import FactorisedModel, ModelSizes, TrainingData

NUM_ITEMS = 20


def tiny_sessions(count: int = 30, seed: int = 0) -> SessionTable:
    """Sessions in which item i is followed by i + 1, from a random beginning."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 7, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    begins = np.repeat(generator.integers(0, NUM_ITEMS, count), lengths)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    items = (begins + place) % NUM_ITEMS + 1
    return SessionTable(
        items.astype(np.int32), generator.integers(1, 3, offsets[-1]).astype(np.int16), offsets, np.arange(offsets[-1])
    )


def tiny_knowledge() -> KnowledgeGraph:
    """Every item has one of five colours and one of four sizes."""
    items = np.arange(1, NUM_ITEMS + 1)
    colours = np.stack([items, np.ones_like(items), NUM_ITEMS + 1 + items % 5], axis=1)
    sizes = np.stack([items, np.full_like(items, 2), NUM_ITEMS + 6 + items // 6], axis=1)
    triples = np.concatenate([colours, sizes])
    attributes = [f"colour={i}" for i in range(5)] + [f"size={i}" for i in range(4)]
    return KnowledgeGraph(
        triples[np.lexsort((triples[:, 1], triples[:, 0]))],
        Vocabulary(["colour", "size"], kind="relation"),
        Vocabulary(attributes, kind="attribute"),
        NUM_ITEMS,
    )


def tiny_training(seed: int = 0) -> TrainingData:
    """The log as training data."""
    sessions = tiny_sessions(seed=seed)
    return TrainingData(sessions, ExampleTable.from_sessions(sessions), tiny_knowledge())


class TinyModel(FactorisedModel):
    """The next item from the last one, with dropout, an observed buffer, and a squared distance to attributes."""

    counts: Tensor

    def __init__(self, seed: int = 0, dropout: float = 0.2) -> None:
        super().__init__(ModelSizes(NUM_ITEMS, 2, 9, 2))
        self.dropout = dropout
        self.items, self.next_items = nn.Embedding(NUM_ITEMS + 1, 8), nn.Embedding(NUM_ITEMS + 1, 8)
        self.attributes = nn.Embedding(10, 8)
        self.register_buffer("counts", torch.zeros(NUM_ITEMS + 1))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
            for table in (self.items, self.next_items, self.attributes):
                table.weight[0] = 0

    @property
    def has_knowledge_task(self) -> bool:
        return True

    def observe(self, training: TrainingData) -> None:
        self.counts = torch.bincount(torch.from_numpy(training.sessions.items).long(), minlength=NUM_ITEMS + 1).float()

    def queries(self, batch: SessionBatch) -> Tensor:
        return F.dropout(self.items(batch.items[batch.last]), self.dropout, self.training)

    def catalogue(self) -> Tensor:
        return self.next_items.weight

    def triple_distances(self, triples: TripleBatch) -> Tensor:
        return (self.items(triples.items) - self.attributes(triples.attributes)).square().sum(1)

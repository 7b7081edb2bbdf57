"""What is measured: a model with first weights and the data that it learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mkmsr.config import StrictModel
from mkmsr.data.dataset import PreparedDataset
from mkmsr.models.base import ModelSizes, SessionModel, TrainingData
from mkmsr.models.registry import model_entry
from mkmsr.training import fitting_data

__all__ = ["build_model", "training_data"]


def build_model(model: str, settings: StrictModel, dataset: PreparedDataset, seed: int) -> SessionModel:
    """A model with first weights."""
    knowledge = dataset.knowledge
    sizes = ModelSizes(
        num_items=len(dataset.items),
        num_operations=len(dataset.operations),
        num_attributes=len(knowledge.attributes),
        num_relations=len(knowledge.relations),
    )
    torch.manual_seed(seed)
    return model_entry(model).build(settings, sizes)


def training_data(dataset: PreparedDataset, share: float, seed: int) -> TrainingData:
    """Train and validation together; of their examples and of the triples a random share."""
    whole = fitting_data(dataset, refit=True)
    if share >= 1:
        return whole
    examples, knowledge, rng = whole.examples, whole.knowledge, np.random.default_rng(seed)
    examples = examples.rows(np.sort(rng.permutation(len(examples))[: max(1, round(share * len(examples)))]))
    kept = np.sort(rng.permutation(len(knowledge))[: round(share * len(knowledge))])
    return replace(whole, examples=examples, knowledge=replace(knowledge, triples=knowledge.triples[kept]))

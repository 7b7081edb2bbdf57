"""A recommender over a planted log in which sessions stay inside a series of items, for tests of this folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import planted
import torch

from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.data.dataset import PreparedDataset
from mkmsr.models.base import ModelSizes, TrainingData
from mkmsr.models.capabilities import FittedForward
from mkmsr.models.registry import model_entry
from mkmsr.recommend import Recommender
from mkmsr.training.config import TrainingConfig
from mkmsr.training.trainer import fit

TRAINING = {"epochs": 3, "batch_size": 64, "optimiser": {"learning_rate": 1e-2, "schedule": "one-cycle"}}


@cache
def series_shop() -> PreparedDataset:
    """Six series; items `item-s-p`, of which p = 8, 9 come up in the test alone."""
    return planted.attributes_link(sessions=300, series=6, warm=8, cold=2, length=4)


def trained(
    dataset: PreparedDataset, folder: Path, name: str = "compass", training: dict[str, Any] | None = None, **config: Any
) -> Recommender:
    """A recommender of a model fitted on the training sessions."""
    knowledge = dataset.knowledge
    sizes = ModelSizes(len(dataset.items), len(dataset.operations), len(knowledge.attributes), len(knowledge.relations))
    torch.manual_seed(0)
    entry = model_entry(name)
    settings = entry.configure({"dim": 16, **config})
    model = entry.build(settings, sizes)
    data = TrainingData(dataset.train, dataset.examples(dataset.train), knowledge)
    fit(model, data, TrainingConfig.model_validate(TRAINING | (training or {})), seed=0)
    if isinstance(model, FittedForward):
        model.calibrate(dataset.evaluation_split("validation").examples)
    save_bundle(folder / name, new_bundle(model, name=name, config=settings, dataset=dataset, metrics={}))
    return Recommender.load(folder / name)

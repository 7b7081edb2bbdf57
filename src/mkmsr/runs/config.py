"""What one experiment is set by, and the model that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import model_validator

from mkmsr.config import StrictModel, laid_over, nested
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError
from mkmsr.models.base import ModelSizes, SessionModel
from mkmsr.models.entry import ModelEntry
from mkmsr.models.registry import model_entry
from mkmsr.training.config import TrainingConfig


class ExperimentConfig(StrictModel):
    """Everything that one run is set by, apart from data, seed and device."""

    model: dict[str, Any]
    """The model's registered `name` and its own settings; those left out are filled in."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained. What is left out starts from the model's own recommendation, then from the defaults."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("model"), Mapping):
            return values
        settings = dict(values["model"])
        if "name" not in settings:
            raise ConfigError("a run needs a model; give its name, for example name = 'mkm-sr'", key="model.name")
        name = str(settings.pop("name"))
        entry = model_entry(name)
        training = values.get("training", {})
        if isinstance(training, TrainingConfig):
            training = training.model_dump(exclude_unset=True)
        if isinstance(training, Mapping):
            training = laid_over(nested(dict(entry.training)), training)
        return {
            **values,
            "model": {"name": name, **entry.configure(settings).model_dump(mode="json")},
            "training": training,
        }

    @property
    def name(self) -> str:
        """The model's registered name."""
        return str(self.model["name"])

    @property
    def entry(self) -> ModelEntry:
        """The registered model."""
        return model_entry(self.name)

    def settings(self) -> StrictModel:
        """Return the model's own settings."""
        return self.entry.configure({key: value for key, value in self.model.items() if key != "name"})


def new_model(dataset: PreparedDataset, config: ExperimentConfig, seed: int) -> SessionModel:
    """Return the configured model with first weights, which the seed alone draws; the caller's random state stays."""
    return build_model(config.name, config.settings(), dataset, seed)


def build_model(name: str, settings: StrictModel, dataset: PreparedDataset, seed: int) -> SessionModel:
    """Return the same from a model's registered name and its own settings."""
    knowledge = dataset.knowledge
    sizes = ModelSizes(
        num_items=len(dataset.items),
        num_operations=len(dataset.operations),
        num_attributes=len(knowledge.attributes),
        num_relations=len(knowledge.relations),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_entry(name).build(settings, sizes)

"""What the command line knows of a model: its name's settings, how it is trained, and what `mkmsr tune` tries.

Each model's file ends with its entry; `registry.py` lists them. What several entries share stands here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mkmsr.config import StrictModel, validate
from mkmsr.errors import ConfigError, shown
from mkmsr.models.base import ModelSizes, SessionModel

Value: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """A number between two bounds, drawn on a logarithmic scale."""

    low: float
    high: float


SearchSpace: TypeAlias = Mapping[str, Choice | Range]
"""What is tried for each dotted key of a settings file.

The defaults are always the first trial. Vectors have 100 components in all of them, as in the paper, so that no model
wins by size.
"""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One registered model.

    Args:
        config: Its settings class; the defaults are what the name stands for.
        model: Builds it: `model(config, sizes)`.
        summary: One line.
        source: Paper, or "this project".
        flagship: Whether this is the model that we recommend.
        preset: Settings that the name fixes, for names that share one settings class.
        training: Training settings that the name starts from, by dotted key; given ones go before them.
        space: What `mkmsr tune` tries; what it leaves out keeps its default.
        renamed: Parts of tensor names in bundles of earlier releases, and what they are called now; "" is not kept.
    """

    config: type[StrictModel]
    model: type[SessionModel]
    summary: str
    source: str
    flagship: bool = False
    preset: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    space: SearchSpace = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)

    def configure(self, values: Mapping[str, Any] | None = None) -> StrictModel:
        """Return the model's settings: its preset, then the given values, then defaults.

        Raises:
            ConfigError: An unknown or wrong setting, or one that contradicts the preset of this name.
        """
        values = dict(values or {})
        for key, fixed in self.preset.items():
            if values.setdefault(key, fixed) != fixed:
                raise ConfigError(
                    f"this model is defined by {key} = {fixed!r}; found {shown(values[key])}", key=f"model.{key}"
                )
        return validate(self.config, values, prefix="model")

    def build(self, config: StrictModel, sizes: ModelSizes) -> SessionModel:
        """Return a new model with freshly drawn weights."""
        return self.model(config, sizes)  # type: ignore[arg-type, call-arg]

    def present_name(self, tensor: str) -> str:
        """Return what a tensor of an earlier release's bundle is called now; "" if it is not kept."""
        for old, new in self.renamed.items():
            found = re.sub(rf"(^|\.){re.escape(old)}(?=\.|$)", rf"\g<1>{new}", tensor)
            if found != tensor:
                return found if new else ""
        return tensor


def one_cycle(epochs: int, learning_rate: float) -> dict[str, Any]:
    """Return training settings chosen on validation (docs/log): AdamW up to a high rate and down again, few epochs."""
    return {
        "epochs": epochs,
        "optimiser.name": "adamw",
        "optimiser.schedule": "one-cycle",
        "optimiser.learning_rate": learning_rate,
    }


SAMPLED_LOSSES: SearchSpace = {
    "training.loss.negatives.number": Choice((512, 2048)),
    "training.loss.negatives.power": Choice((0.0, 0.25, 0.5, 0.75)),
}
"""What models try that can be trained on a sample of the catalogue."""

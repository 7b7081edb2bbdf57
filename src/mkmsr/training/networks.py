"""`fit_networks`: trains a model whose networks are fitted one after the other, each by itself, such as an ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mkmsr.models.base import SessionModel, TrainingData
from mkmsr.models.capabilities import fitted_apart
from mkmsr.runtime.events import Listener, PhaseStarted, ignore
from mkmsr.runtime.process_group import ALONE, Processes
from mkmsr.training.config import TrainingConfig
from mkmsr.training.trainer import FitResult, Validate, fit

__all__ = ["fit_folders", "fit_networks"]

_BETWEEN_SEEDS = 1000
"""Between the seeds of networks that are fitted one after the other."""


def fit_networks(
    model: SessionModel,
    training: TrainingData,
    config: TrainingConfig,
    *,
    validate: Validate | None,
    seed: int,
    device: torch.device | str,
    folder: Path | None,
    resume: bool = False,
    listener: Listener = ignore,
    stop_after: int | None = None,
    depends_on: Mapping[str, Any] | None = None,
    processes: Processes = ALONE,
) -> FitResult:
    """`fit` for each network of the model; for most models that is the model, and this is `fit`.

    The first network's validation chooses the number of epochs for all. The first one's files go to `folder`, those of
    the k-th to `folder/network-k`. Where there are several, the listener is told which one's turn it is.

    Returns:
        What the fit of the first network came to.
    """
    first: FitResult | None = None
    parts = fitted_apart(model)
    for number, part in enumerate(parts, start=1):
        if len(parts) > 1:
            listener(PhaseStarted(f"network {number} of {len(parts)}"))
        result = fit(
            part,
            training,
            config,
            validate=validate if first is None else None,
            seed=seed + _BETWEEN_SEEDS * (number - 1),
            device=device,
            folder=folder if first is None or folder is None else folder / f"network-{number}",
            resume=resume,
            listener=listener,
            stop_after=stop_after if first is None else first.best_epoch,
            depends_on=depends_on,
            processes=processes,
        )
        first = first or result
    assert first is not None
    return first


def fit_folders(folder: Path) -> list[Path]:
    """Where the fits of a run keep history and checkpoint: the run's, its refit's, and those of further networks."""
    places = (folder, folder / "refit")
    return [each for place in places for each in (place, *sorted(place.glob("network-*")))]

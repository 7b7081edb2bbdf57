"""Training: losses, the order of their steps, and the one loop that moves weights. Knows no test split."""

from __future__ import annotations

from mkmsr.runtime.events import EpochRecord, TrainingEstimate
from mkmsr.training.config import LossConfig, OptimiserConfig, TrainingConfig
from mkmsr.training.estimate import estimate_training
from mkmsr.training.history import read_history
from mkmsr.training.trainer import FitResult, fit, fitting_data

__all__ = [
    "EpochRecord",
    "FitResult",
    "LossConfig",
    "OptimiserConfig",
    "TrainingConfig",
    "TrainingEstimate",
    "estimate_training",
    "fit",
    "fitting_data",
    "read_history",
]

"""Training: losses, the order of their steps, and the one loop that moves weights. Knows no test split."""

from __future__ import annotations

from mkmsr.training.config import LossConfig, OptimiserConfig, TrainingConfig
from mkmsr.training.estimate import TrainingEstimate
from mkmsr.training.history import EpochRecord, read_history
from mkmsr.training.listener import SilentListener, TrainingListener

__all__ = [
    "EpochRecord",
    "LossConfig",
    "OptimiserConfig",
    "SilentListener",
    "TrainingConfig",
    "TrainingEstimate",
    "TrainingListener",
    "read_history",
]

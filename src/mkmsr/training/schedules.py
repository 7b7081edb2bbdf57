"""How the learning rate moves over a run, as pure functions of progress, so that a resumed run needs no saved state."""

from __future__ import annotations

import math

from mkmsr.training.config import Schedule

__all__ = ["learning_rate_factor"]

_WARM_UP = 0.25
_START = 1 / 25
_END = 1e-4 / 25


def learning_rate_factor(schedule: Schedule, progress: float) -> float:
    """What to multiply the highest learning rate with.

    "constant": 1. "cosine": from 1 down to 0 along half a cosine. "one-cycle": up from 1/25 to 1 over the first
    quarter, then down to 4e-6, each along half a cosine.

    Args:
        schedule: Which.
        progress: Share of the plan that lies behind, 0..1. The plan is the `epochs` of the settings, whether or not
            early stopping cuts it short; a refit that is told to stop after fewer epochs follows the same plan.

    Source: Smith and Topin: Super-Convergence, 2017; constants of PyTorch's OneCycleLR but for the warm-up (0.3 there).
    """
    progress = min(max(progress, 0.0), 1.0)
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return _anneal(1.0, 0.0, progress)
    if progress < _WARM_UP:
        return _anneal(_START, 1.0, progress / _WARM_UP)
    return _anneal(1.0, _END, (progress - _WARM_UP) / (1 - _WARM_UP))


def _anneal(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2

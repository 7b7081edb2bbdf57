"""How times are taken and summed up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

__all__ = ["spread", "timed"]


def timed(action: Callable[[], object]) -> float:
    """Seconds of wall time that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def spread(**measured: Sequence[float]) -> dict[str, dict[str, float]]:
    """Smallest, median and largest of each kind of measurement."""
    return {
        name: {"min": min(values), "median": median(values), "max": max(values)} for name, values in measured.items()
    }

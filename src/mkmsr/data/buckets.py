"""Numbers as attributes: intervals with names that say their bounds, so that a later number finds its own.

A bucket is written `10..20` and holds 10 <= x < 20; `..10` and `20..` are open at one end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

__all__ = ["bucket_bounds", "bucket_names", "bucket_of", "number_in"]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_BUCKET = re.compile(rf"({_NUMBER})?\.\.({_NUMBER})?")


def bucket_names(edges: Sequence[float]) -> list[str]:
    """Names of the len(edges) + 1 buckets that rising inner edges cut the line into.; six digits of an edge count."""
    texts = ["", *(f"{edge:g}" for edge in edges), ""]
    return [f"{low}..{high}" for low, high in pairwise(texts)]


def bucket_bounds(name: str) -> tuple[float, float] | None:
    """The bounds of a bucket by its name, infinite at an open end; None for any other text."""
    match = _BUCKET.fullmatch(name.strip())
    if match is None or not (match[1] or match[2]):
        return None
    return float(match[1] or -math.inf), float(match[2] or math.inf)


def bucket_of(value: float, names: Iterable[str]) -> str | None:
    """The bucket that holds a number, of some attribute values; None if none does."""
    for name in names:
        bounds = bucket_bounds(name)
        if bounds is not None and bounds[0] <= value < bounds[1]:
            return name
    return None


def number_in(text: str) -> float | None:
    """A text as a finite number; None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

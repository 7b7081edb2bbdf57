"""Loops that Numba compiles. They run without the interpreter, which other threads of the process then have."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any


@cache
def has_numba() -> bool:
    """Whether loops can be compiled."""
    return find_spec("numba") is not None


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled at its first call, and kept in a file for the next process where one can be kept."""
    from numba import njit

    try:
        made: Callable[..., Any] = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # No folder for it can be written.
        made = njit(nogil=True)(function)
    return made

"""Loops that Numba compiles. They run without the interpreter, which other threads of the process then have."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any


@cache
def has_numba() -> bool:
    """Whether loops can be compiled: Numba refuses a NumPy that is newer than it knows."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def compiled(function: Callable[..., Any], *, fastmath: bool = False) -> Callable[..., Any]:
    """Return the function compiled at its first call, and kept in a file for the next process where one can be kept.

    With `fastmath` the compiler may change the order of sums.
    """
    from numba import njit  # takes half a second, which only such loops need

    try:
        made: Callable[..., Any] = njit(nogil=True, cache=True, fastmath=fastmath)(function)
    except RuntimeError:  # No folder for it can be written.
        return njit(nogil=True, fastmath=fastmath)(function)
    # A file that a power failure cut short, or that a full disk does not take, costs the compiler's time and no more.
    made._cache._guard_against_spurious_io_errors = partial(suppress, Exception)  # type: ignore[attr-defined]
    return made

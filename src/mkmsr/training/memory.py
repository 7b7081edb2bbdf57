"""Keeping the memory that each step of training frees, so that the next need not fetch it from the system again."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's `mallopt`, see its manual page."""
_LARGEST_KEPT = 32 * 2**20
"""glibc takes no higher threshold: larger arrays always come from the system and go back to it."""


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep arrays of up to 32 MiB when they are freed, in this process from now on; whether that was done.

    A step on Demo makes and frees 16 MiB: scores, the catalogue's gradient. As delivered, glibc returns them to the
    system, which hands them out again page by page, each cleared: 4,200 page faults a step. Only a setting of the
    whole process prevents it; at worst the process holds on to its peak of memory. Elsewhere than on Linux with glibc
    nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # Another C library.
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))

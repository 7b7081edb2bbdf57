"""Keeping the memory that each step of training frees, in large pages, so that the next need not fetch it again."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's `mallopt`, see its manual page."""
_LARGEST_KEPT = 32 * 2**20
"""glibc takes no higher threshold: larger arrays always come from the system and go back to it."""
_HUGE_PAGES = 14
"""Linux' advice MADV_HUGEPAGE, see the manual page of `madvise`."""
_HUGE_PAGE = 2 * 2**20
_ADVISED_BLOCKS = 8
"""Blocks of somewhat less than `_LARGEST_KEPT` for which large pages are asked for: 248 MiB of addresses."""


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep arrays of up to 32 MiB when they are freed, in this process from now on; whether that was done.

    A step on Demo makes and frees 16 MiB: scores, the catalogue's gradient. As delivered, glibc returns them to the
    system, which hands them out again page by page, each cleared: 4,200 page faults a step. Only a setting of the
    whole process prevents it; at worst the process holds on to its peak of memory. Elsewhere than on Linux with glibc
    nothing happens.

    What the heap grows by next is in pages of 2 MiB, where the system grants them on request: a step reads and writes
    some 60 MiB, and looking up the addresses of as many pages of 4 KiB costs it 2 %.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL(None)
        kept = bool(libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1))
        if kept:
            _ask_for_large_pages(libc)
    except (OSError, AttributeError):
        return False  # Another C library.
    return kept


def _ask_for_large_pages(libc: ctypes.CDLL) -> None:
    """Make the heap grow, ask for large pages there, and give it back to glibc, which keeps it; none of it is touched.

    A refusal changes nothing.
    """
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = _LARGEST_KEPT - 2**20
    blocks = [block for block in (libc.malloc(size) for _ in range(_ADVISED_BLOCKS)) if block]
    for block in blocks:
        begin, end = -(-block // _HUGE_PAGE) * _HUGE_PAGE, (block + size) // _HUGE_PAGE * _HUGE_PAGE
        libc.madvise(begin, end - begin, _HUGE_PAGES)
    for block in blocks:
        libc.free(block)

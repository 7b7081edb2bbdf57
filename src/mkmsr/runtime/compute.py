"""Where PyTorch computes, with how many threads, with which random numbers, and the memory that a step frees.

Left alone it takes one thread a core. The operations of a step of training, or of one recommendation, are small: more
threads gain little where nothing else runs, and wait for each other where something does (docs/benchmarks.md).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from torch import Tensor

from mkmsr.errors import ConfigError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's `mallopt`, see its manual page."""

_LARGEST_KEPT = 32 * 2**20
"""glibc takes no higher threshold: larger arrays always come from the system and go back to it."""

_HUGE_PAGES = 14
"""Linux' advice MADV_HUGEPAGE, see the manual page of `madvise`."""

_HUGE_PAGE = 2 * 2**20

_ADVISED_BLOCKS = 8
"""Blocks of somewhat less than `_LARGEST_KEPT` for which large pages are asked for: 248 MiB of addresses."""


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads inside, and as many as before afterwards; 0 changes nothing."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compute_device(device: torch.device | str) -> torch.device:
    """Return a device of PyTorch that is at hand; another name is a `ConfigError`."""
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"no device {device!r}; for example cpu, cuda, cuda:1") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is at hand, or PyTorch was installed without CUDA; use cpu")
    return place


@contextmanager
def own_random_state(seed: int, device: torch.device, rank: int = 0) -> Iterator[None]:
    """Let PyTorch's random numbers (dropout) follow from seed and rank; the caller's are as before afterwards."""
    # Drawn from the seed, not the seed itself: the caller may have drawn the first weights with that.
    entropy = [seed, 1, rank] if rank else [seed, 1]
    drawn = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(drawn)
        yield


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return where PyTorch's random numbers stand, on the CPU and on the device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Put such a state back."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


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

"""Where PyTorch computes, and with how many threads.

Left alone it takes one thread a core. The operations of a step of training, or of one recommendation, are small: more
threads gain little where nothing else runs, and wait for each other where something does (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mkmsr.errors import ConfigError


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

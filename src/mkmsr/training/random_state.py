"""The random numbers that a fit owns: from its own seed, saved and put back by checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


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

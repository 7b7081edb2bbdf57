"""What makes two runs the same run: settings, data, first weights, seed; and the random state that a run owns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.models.base import SessionModel, TrainingData
from mkmsr.training.config import TrainingConfig

__all__ = ["own_random_state", "random_state", "run_identity", "set_random_state"]

_NOT_IDENTITY = {"checkpoint_seconds"}


def run_identity(
    model: SessionModel,
    training: TrainingData,
    config: TrainingConfig,
    *,
    seed: int,
    stop_after: int | None,
    validated: bool,
) -> dict[str, Any]:
    """Everything that a run's result depends on, as JSON values; data and first weights by their SHA-256."""
    examples, sessions = training.examples, training.sessions
    arrays: list[NDArray[Any]] = [examples.session, examples.begin, examples.end]
    arrays += [sessions.items, sessions.operations, sessions.offsets, training.knowledge.triples]
    weights = {name: value.detach().cpu() for name, value in sorted(model.state_dict().items())}
    return {
        "model": type(model).__name__,
        "training": config.model_dump(mode="json", exclude=_NOT_IDENTITY),
        "seed": seed,
        "stop_after": stop_after,
        "validated": validated,
        "training_data": _digest(arrays),
        "shapes": {name: list(value.shape) for name, value in weights.items()},
        "first_weights": _digest([_as_bytes(value) for value in weights.values()]),
    }


@contextmanager
def own_random_state(seed: int, device: torch.device, rank: int = 0) -> Iterator[None]:
    """Inside, PyTorch's random numbers (dropout) follow from seed and rank; the caller's are as before afterwards."""
    # Drawn from the seed, not the seed itself: the caller may have drawn the first weights with that.
    entropy = [seed, 1, rank] if rank else [seed, 1]
    drawn = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(drawn)
        yield


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Where PyTorch's random numbers stand, on the CPU and on the device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Put such a state back."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _as_bytes(tensor: Tensor) -> NDArray[np.uint8]:
    return np.asarray(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def _digest(arrays: list[NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

"""A few sessions written out, and models over them in double precision, for the oracles of the networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mkmsr.data.batching import SessionBatch
from mkmsr.models.base import ModelSizes, SessionModel
from mkmsr.models.registry import model_entry

SIZES = ModelSizes(num_items=9, num_operations=3)
DIM = 6
SEQUENCES = [
    ([3, 5, 3], [1, 2, 1]),
    ([7], [2]),
    ([3, 5, 8, 8, 5], [1, 2, 2, 1, 3]),
    ([3, 5], [1, 3]),
    ([4, 4, 4, 2], [1, 1, 2, 1]),
]


def small_batch(sequences: Sequence[tuple[list[int], list[int]]] = SEQUENCES) -> SessionBatch:
    return SessionBatch.from_sequences(sequences)


def small_model(name: str, seed: int = 0, **settings: object) -> SessionModel:
    """A registered model with fresh weights, larger than usual so that no gate is near its middle."""
    torch.manual_seed(seed)
    entry = model_entry(name)
    model = entry.build(entry.configure({"dim": DIM, **settings}), SIZES).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def scores_of(model: SessionModel, sequences: Sequence[tuple[list[int], list[int]]] = SEQUENCES) -> np.ndarray:
    """Scores of all items but padding. Shape [B, V - 1]."""
    return array(model.score(small_batch(sequences)))[:, 1:]

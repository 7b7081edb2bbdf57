"""Session and item vectors with known scores, some of them extreme, for the tests of softmaxes."""

from __future__ import annotations

import torch
from torch import Tensor

from mkmsr.layers.softmax import SparseScores

SESSIONS, _ITEMS, _DIM = 6, 40, 5


def planted(spread: float) -> tuple[Tensor, Tensor, Tensor, SparseScores]:
    """Vectors so long that some targets' probabilities are far below the smallest number of 32 bits."""
    generator = torch.Generator().manual_seed(3)
    queries = torch.randn(SESSIONS, _DIM, generator=generator) * spread
    items = torch.randn(_ITEMS, _DIM, generator=generator)
    targets = torch.randint(1, _ITEMS, (SESSIONS,), generator=generator)
    rows, columns = torch.tensor([0, 2, 2, 5]), torch.tensor([3, 7, int(targets[2]), 1])
    extra = SparseScores(rows, columns, torch.tensor([1.5, 4.0, -2.0, 60.0]))
    return queries.requires_grad_(), items.requires_grad_(), targets, extra

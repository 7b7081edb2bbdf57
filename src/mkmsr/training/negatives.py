"""Items that a sampled loss sets against the targets: drawn by popularity, and the targets of the batch's other rows.

Dimension letters: B sessions, M negatives, V catalogue + 1, n examples.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mkmsr.data.examples import ExampleTable
from mkmsr.models.base import Negatives
from mkmsr.training.config import NegativesConfig

__all__ = ["NegativeSampler", "Negatives"]


class NegativeSampler:
    """Draws negatives with a probability that grows with (how often an item is a target) ** power.

    With power 0 that is every item of the catalogue alike; otherwise items that are never a target are not drawn.

    Args:
        examples: Whose targets are counted.
        num_items: V - 1.
        config: How many, the power, and whether the batch's own targets serve too.
    """

    def __init__(self, examples: ExampleTable, num_items: int, config: NegativesConfig):
        self._config = config
        counts = np.bincount(examples.targets, minlength=num_items + 1).astype(np.float64)
        counts[0] = 0.0
        weights = counts**config.power if config.power > 0 else np.ones(num_items + 1)
        weights[0] = 0.0
        self._target_share = counts / counts.sum()
        self._drawn_share = weights / weights.sum()
        self._cumulative = np.cumsum(self._drawn_share)
        self._cumulative /= self._cumulative[-1]

    def draw(self, targets: Tensor, generator: np.random.Generator) -> Negatives:
        """Negatives for a batch with these targets [B]."""
        drawn = np.searchsorted(self._cumulative, generator.random(self._config.number), side="right")
        own, expected = targets.numpy(), self._config.number * self._drawn_share
        items = drawn
        if self._config.in_batch:
            items, expected = np.concatenate([own, drawn]), expected + len(own) * self._target_share
        log_counts = np.log(expected[items]).astype(np.float32)
        return Negatives(torch.from_numpy(items.astype(np.int64)), torch.from_numpy(log_counts))

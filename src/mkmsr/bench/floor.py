"""The floor under exact training: the work of a step that no encoder can save.

Dimension letters: B sessions, D embedding size, V catalogue + 1.
"""

from __future__ import annotations

import torch
from torch import nn

from mkmsr.training.config import OptimiserConfig
from mkmsr.training.optimisation import build_optimiser

__all__ = ["CatalogueFloor"]


class CatalogueFloor:
    """What a step of exact training cannot do without: B x V scores, softmax, both gradients, the item table's step.

    Written out without automatic differentiation, in plain PyTorch operations, into memory that is there already.

    Args:
        num_items: V - 1.
        dim: D.
        batch_size: B.
        config: The optimiser.
        device: Where.
        seed: Of the numbers.
    """

    def __init__(
        self,
        num_items: int,
        dim: int,
        batch_size: int,
        config: OptimiserConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ):
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Embedding(num_items + 1, dim)
        with torch.no_grad():
            self.table.weight.normal_(std=dim**-0.5, generator=generator)
        self.table.to(device)
        self.table.weight.grad = torch.zeros_like(self.table.weight)
        self.optimiser = build_optimiser(self.table, config)
        self.queries = torch.randn(batch_size, dim, generator=generator).to(device)
        self.targets = torch.randint(1, num_items + 1, (batch_size, 1), generator=generator).to(device)
        self.scores = torch.empty(batch_size, num_items + 1, device=device)
        self.query_gradient = torch.empty_like(self.queries)
        self.minus_one = torch.full((batch_size, 1), -1.0, device=device)

    @torch.no_grad()
    def step(self) -> None:
        """One step."""
        items, gradient = self.table.weight, self.table.weight.grad
        assert gradient is not None
        torch.mm(self.queries, items.T, out=self.scores)
        torch.softmax(self.scores, 1, out=self.scores)
        self.scores.scatter_add_(1, self.targets, self.minus_one)
        torch.mm(self.scores, items, out=self.query_gradient)
        torch.mm(self.scores.T, self.queries, out=gradient)
        self.optimiser.step()

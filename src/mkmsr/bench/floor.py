"""The floor under exact training: the work of a step that no encoder can save.

Dimension letters: B sessions, D embedding size, V catalogue + 1.
"""

from __future__ import annotations

import torch
from torch import nn

from mkmsr.layers.columns import store_by_columns
from mkmsr.layers.products import product
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
        own_products: Multiply as the trainer does, by `mkmsr.layers.products`, into new memory.
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
        own_products: bool = False,
    ):
        self.own_products = own_products
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Embedding(num_items + 1, dim)
        with torch.no_grad():
            self.table.weight.normal_(std=dim**-0.5, generator=generator)
        self.table.to(device)
        if own_products:
            store_by_columns(self.table.weight)
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
        if self.own_products:
            self.scores = product(self.queries, items.T)
        else:
            torch.mm(self.queries, items.T, out=self.scores)
        torch.softmax(self.scores, 1, out=self.scores)
        self.scores.scatter_add_(1, self.targets, self.minus_one)
        if self.own_products:
            self.query_gradient = product(self.scores, items)
            self.table.weight.grad = product(self.queries.T, self.scores).T
        else:
            torch.mm(self.scores, items, out=self.query_gradient)
            torch.mm(self.scores.T, self.queries, out=gradient)
        self.optimiser.step()

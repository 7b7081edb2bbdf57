"""Scores of session vectors against item vectors: inner product, cosine, and a perceptron that never builds [B, V, 2D].

Dimension letters: B sessions, V catalogue + 1, D embedding size, H hidden units.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PairScorer", "pair_scores"]


class PairScorer(nn.Module):
    """MLP(s (+) i) with one hidden layer: w' relu(Ws s + Wi i + b).

    A map of a concatenation is the sum of two maps, W [s ; i] = Ws s + Wi i, so the catalogue's half is computed once
    a batch and the [B, V, 2D] concatenation never exists. The hidden layer is computed a block of items at a time and
    once more in the backward pass, so memory stays at [B, V].

    Args:
        dim: D.
        hidden: H.

    Source: MKM-SR, "Compute the final score".
    """

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.of_session = nn.Linear(dim, hidden)
        self.of_item = nn.Linear(dim, hidden, bias=False)
        self.weight = nn.Parameter(torch.empty(hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every weight from U(-1/sqrt(H), 1/sqrt(H))."""
        bound = 1 / math.sqrt(len(self.weight))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, sessions: Tensor, items: Tensor) -> Tensor:
        """sessions [B, D], items [V, D] -> scores [B, V]."""
        return pair_scores(self.of_session(sessions), self.of_item(items), self.weight)


def pair_scores(sessions_BH: Tensor, items_VH: Tensor, weight_H: Tensor, *, block: int = 256) -> Tensor:
    """scores[b, v] = sum_h weight[h] relu(sessions[b, h] + items[v, h]), `block` items at a time. Shape [B, V]."""
    scores: Tensor = _PairScores.apply(sessions_BH, items_VH, weight_H, block)  # type: ignore[no-untyped-call]
    return scores


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sessions: Tensor, items: Tensor, weight: Tensor, block: int) -> Tensor:
        ctx.save_for_backward(sessions, items, weight)
        ctx.block = block
        hidden = ((sessions[:, None] + part[None]).relu_() for part in torch.split(items, block))
        return torch.cat([each @ weight for each in hidden], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        sessions, items, weight = ctx.saved_tensors
        d_sessions, d_weight = torch.zeros_like(sessions), torch.zeros_like(weight)
        d_items = []
        for part, d_scores in zip(
            torch.split(items, ctx.block), torch.split(gradients[0], ctx.block, dim=1), strict=True
        ):
            hidden = (sessions[:, None] + part[None]).relu_()
            d_weight += torch.einsum("bvh,bv->h", hidden, d_scores)
            active = hidden.gt_(0).mul_(d_scores[:, :, None])
            d_sessions += active.sum(1)
            d_items.append(active.sum(0) * weight)
        return d_sessions * weight, torch.cat(d_items), d_weight, None

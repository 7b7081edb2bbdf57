"""The perceptron of the MKM-SR talk over session and item vectors, a block of items at a time.

Dimension letters: B sessions, D embedding size, H hidden units, V catalogue + 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PairScorer", "pair_scores", "plain_pair_scores"]

_BLOCK = 1024
"""Items at a time. With 100 hidden units a block of one session takes 0.4 MB, which stays in a core's cache."""


class PairScorer(nn.Module):
    """MLP(s (+) i) with one hidden layer: w' relu(Ws s + Wi i + b).

    A map of a concatenation is the sum of two maps, W [s ; i] = Ws s + Wi i, so the catalogue's half is computed once
    a batch and the [B, V, 2D] concatenation never exists.

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


def pair_scores(sessions: Tensor, items: Tensor, weight: Tensor) -> Tensor:
    """Return sum over h of weight[h] relu(sessions[b, h] + items[v, h]), without a [B, V, H] array. Shape [B, V].

    Args:
        sessions: Shape [B, H].
        items: Shape [V, H].
        weight: Shape [H].
    """
    scores: Tensor = _PairScores.apply(sessions, items, weight)  # type: ignore[no-untyped-call]
    return scores


def plain_pair_scores(sessions: Tensor, items: Tensor, weight: Tensor) -> Tensor:
    """Return the same by its definition: the twin of `pair_scores`."""
    return (sessions[:, None] + items).relu() @ weight


class _PairScores(torch.autograd.Function):
    """Two passes over a block of items for each session, forward as backward; what they need fits the cache.

    Forward, relu(s + i) = max(s, -i) + i, and the sum over the second term is one product for all sessions. Backward,
    with g the gradient of the scores and m = [s > -i], all three gradients are products with two sums:

        A[b, h] = sum_v g[b, v] m[b, v, h]              C[v, h] = sum_b g[b, v] m[b, v, h]
        d s = A w        d i = C w                      d w = sum_b s[b] A[b] + sum_v i[v] C[v]
    """

    @staticmethod
    def forward(ctx: Any, sessions: Tensor, items: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(sessions, items, weight)
        scores_BV = sessions.new_empty(len(sessions), len(items))
        for block, negative_vH, buffer_vH in _blocks(-items):
            for session_H, scores_V in zip(sessions, scores_BV, strict=True):
                torch.maximum(negative_vH, session_H, out=buffer_vH)
                torch.mv(buffer_vH, weight, out=scores_V[block])
        return scores_BV.add_(items @ weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sessions, items, weight = ctx.saved_tensors
        (gradient_BV,) = gradients
        by_session_BH, by_item_VH = torch.zeros_like(sessions), torch.zeros_like(items)
        for block, negative_vH, mask_vH in _blocks(-items):
            by_item_vH = by_item_VH[block]
            for row, session_H in enumerate(sessions):
                gradient_v = gradient_BV[row, block]
                torch.lt(negative_vH, session_H, out=mask_vH)
                by_session_BH[row] += gradient_v @ mask_vH
                by_item_vH.addcmul_(mask_vH, gradient_v[:, None])
        of_weight = (sessions * by_session_BH).sum(0) + (items * by_item_VH).sum(0)
        return by_session_BH.mul_(weight), by_item_VH.mul_(weight), of_weight


def _blocks(items_VH: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Each block of items: its place, its rows, and a buffer of their shape, which all blocks share."""
    buffer = torch.empty_like(items_VH[:_BLOCK])
    for begin in range(0, len(items_VH), _BLOCK):
        rows = items_VH[begin : begin + _BLOCK]
        yield slice(begin, begin + len(rows)), rows, buffer[: len(rows)]

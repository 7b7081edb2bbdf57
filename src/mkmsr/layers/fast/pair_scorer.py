"""The perceptron of the MKM-SR talk over session and item vectors, without an array of all hidden units.

Dimension letters: B sessions, D embedding size, H hidden units, V catalogue + 1.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_BLOCK = 512
"""Items at a time. With 100 hidden units they take 0.2 MB, which stays in a core's cache for all sessions."""


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
        scores = compiled_pair_scores if items.device.type == "cpu" and _has_numba() else pair_scores
        return scores(self.of_session(sessions), self.of_item(items), self.weight)


def pair_scores(sessions: Tensor, items: Tensor, weight: Tensor) -> Tensor:
    """Return sum over h of weight[h] relu(sessions[b, h] + items[v, h]). Shape [B, V].

    2 relu(x) = x + |x|, so units of positive and of negative weight are two products and two L1 distances.

    Args:
        sessions: Shape [B, H].
        items: Shape [V, H].
        weight: Shape [H].
    """
    one_BH, other_VH, positive = sessions * weight.abs(), -items * weight.abs(), weight > 0
    added_BV = torch.cdist(one_BH[:, positive], other_VH[:, positive], p=1)
    taken_BV = torch.cdist(one_BH[:, ~positive], other_VH[:, ~positive], p=1)
    return ((sessions @ weight)[:, None] + items @ weight + added_BV - taken_BV) / 2


def compiled_pair_scores(sessions: Tensor, items: Tensor, weight: Tensor) -> Tensor:
    """Return the same by a loop that Numba compiles: an epoch of Demo takes a third of the time."""
    scores: Tensor = _PairScores.apply(sessions, items, weight)  # type: ignore[no-untyped-call]
    return scores


class _PairScores(torch.autograd.Function):
    """The loops with their gradients.

    With g the gradient of the scores and m = [s + i > 0], all three gradients are products with two sums:

        A[b, h] = sum_v g[b, v] m[b, v, h]              C[v, h] = sum_b g[b, v] m[b, v, h]
        d s = A w        d i = C w                      d w = sum_b s[b] A[b] + sum_v i[v] C[v]
    """

    @staticmethod
    def forward(ctx: Any, sessions: Tensor, items: Tensor, weight: Tensor) -> Tensor:
        items_HV = items.T.contiguous()
        ctx.save_for_backward(sessions, items, items_HV, weight)
        scores_BV = sessions.new_zeros(len(sessions), len(items))
        _loops().add_scores(*_arrays(sessions, items_HV, weight, scores_BV))
        return scores_BV

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sessions, items, items_HV, weight = ctx.saved_tensors
        by_session_BH, by_item_HV = torch.zeros_like(sessions), torch.zeros_like(items_HV)
        _loops().add_gradients(*_arrays(sessions, items_HV, gradients[0], by_session_BH, by_item_HV))
        by_item_VH = by_item_HV.T
        of_weight = (sessions * by_session_BH).sum(0) + (items * by_item_VH).sum(0)
        return by_session_BH * weight, by_item_VH * weight, of_weight


def _arrays(*tensors: Tensor) -> tuple[np.ndarray[Any, Any], ...]:
    return tuple(each.detach().contiguous().numpy() for each in tensors)


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None


@cache
def _loops() -> SimpleNamespace:
    """Both loops, compiled at their first call. Items are columns, so that the innermost loops run over neighbours."""
    from numba import njit  # takes half a second, which only this scorer needs

    def add_scores(sessions: Any, items: Any, weight: Any, scores: Any) -> None:
        zero = sessions.dtype.type(0)
        for begin in range(0, items.shape[1], _BLOCK):
            end = min(items.shape[1], begin + _BLOCK)
            for b in range(len(sessions)):
                row = scores[b, begin:end]
                for h in range(len(weight)):
                    session, unit, item = sessions[b, h], weight[h], items[h, begin:end]
                    for v in range(end - begin):
                        row[v] += unit * max(session + item[v], zero)

    def add_gradients(sessions: Any, items: Any, gradient: Any, by_session: Any, by_item: Any) -> None:
        zero = sessions.dtype.type(0)
        for begin in range(0, items.shape[1], _BLOCK):
            end = min(items.shape[1], begin + _BLOCK)
            for b in range(len(sessions)):
                row = gradient[b, begin:end]
                for h in range(sessions.shape[1]):
                    session, item, sums = sessions[b, h], items[h, begin:end], by_item[h, begin:end]
                    total = zero
                    for v in range(end - begin):
                        passed = row[v] if session + item[v] > zero else zero
                        sums[v] += passed
                        total += passed
                    by_session[b, h] += total

    compile_it = njit(fastmath=True)
    return SimpleNamespace(add_scores=compile_it(add_scores), add_gradients=compile_it(add_gradients))

"""The perceptron of the MKM-SR talk over session and item vectors, without an array of all hidden units.

Dimension letters: B sessions, D embedding size, H hidden units, V catalogue + 1.
"""

from __future__ import annotations

import math
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mkmsr.layers.fast.compiled import compiled, has_numba

_BLOCK = 512
"""Items at a time. With 100 hidden units they take 0.2 MB, which stays in a core's cache for all sessions."""


class PairScorer(nn.Module):
    """MLP(s (+) i) with one hidden layer of H units: w' relu(Ws s + Wi i + b).

    A map of a concatenation is the sum of two maps, W [s ; i] = Ws s + Wi i, so the catalogue's half is computed once
    a batch and the [B, V, 2D] concatenation never exists.

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
        scores = compiled_pair_scores if items.device.type == "cpu" and has_numba() else pair_scores
        return scores(self.of_session(sessions), self.of_item.weight @ items.T, self.weight)


def pair_scores(sessions: Tensor, items: Tensor, weight: Tensor) -> Tensor:
    """Return sum over h of weight[h] relu(sessions[b, h] + items[h, v]). [B, H], [H, V], [H] -> [B, V].

    2 relu(x) = x + |x|, so units of positive and of negative weight are two products and two L1 distances.
    """
    one_BH, other_VH, positive = sessions * weight.abs(), -items.T * weight.abs(), weight > 0
    added_BV = torch.cdist(one_BH[:, positive], other_VH[:, positive], p=1)
    taken_BV = torch.cdist(one_BH[:, ~positive], other_VH[:, ~positive], p=1)
    return ((sessions @ weight)[:, None] + weight @ items + added_BV - taken_BV) / 2


def compiled_pair_scores(sessions: Tensor, items: Tensor, weight: Tensor) -> Tensor:
    """Return the same by a loop that Numba compiles: an epoch of Demo takes a third of the time."""
    scores: Tensor = _PairScores.apply(sessions, items, weight)  # type: ignore[no-untyped-call]
    return scores


class _PairScores(torch.autograd.Function):
    """The loops with their gradients.

    With g the gradient of the scores and m = [s + i > 0], all three gradients are products with two sums:

        A[b, h] = sum_v g[b, v] m[b, v, h]              C[h, v] = sum_b g[b, v] m[b, v, h]
        d s = w A        d i = w C                      d w = sum_b s[b] A[b] + sum_v i[v] C[v]
    """

    @staticmethod
    def forward(ctx: Any, sessions: Tensor, items: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(sessions, items, weight)
        even_BH = _even(_even(sessions), 1)
        scores_BV = items.new_zeros(len(even_BH), items.shape[1])
        _loops().add_scores(*_arrays(even_BH, _even(items), _even(weight), scores_BV))
        return scores_BV[: len(sessions)]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sessions, items, weight = ctx.saved_tensors
        even_BH = _even(sessions)
        by_session_BH, by_item_HV = torch.zeros_like(even_BH), torch.zeros_like(items)
        _loops().add_gradients(*_arrays(even_BH, items, _even(gradients[0]), by_session_BH, by_item_HV))
        by_session_BH = by_session_BH[: len(sessions)]
        of_weight = (sessions * by_session_BH).sum(0) + (items * by_item_HV).sum(1)
        return by_session_BH * weight, by_item_HV * weight[:, None], of_weight


def _even(tensor: Tensor, dim: int = 0) -> Tensor:
    """Zeros as one more row, or column, where their number is odd."""
    if tensor.shape[dim] % 2 == 0:
        return tensor
    return torch.cat([tensor, torch.zeros_like(tensor.narrow(dim, 0, 1))], dim)


def _arrays(*tensors: Tensor) -> tuple[np.ndarray[Any, Any], ...]:
    return tuple(each.detach().contiguous().numpy() for each in tensors)


@cache
def _loops() -> SimpleNamespace:
    """Both loops, compiled at their first call.

    Items are columns, so that the innermost loops run over neighbours. Two sessions go at a time, so that what is read
    serves twice: 28 ms instead of 40 for 128 sessions and Demo's 12,195 items (Intel Xeon, AVX-512).
    """

    def add_scores(sessions: Any, items: Any, weight: Any, scores: Any) -> None:
        zero = sessions.dtype.type(0)
        for begin in range(0, items.shape[1], _BLOCK):
            end = min(items.shape[1], begin + _BLOCK)
            for b in range(0, len(sessions), 2):
                row, next_row = scores[b, begin:end], scores[b + 1, begin:end]
                for h in range(0, len(weight), 2):
                    s, next_s = sessions[b, h : h + 2], sessions[b + 1, h : h + 2]
                    s0, s1, next_s0, next_s1 = s[0], s[1], next_s[0], next_s[1]
                    unit0, unit1 = weight[h], weight[h + 1]
                    item0, item1 = items[h, begin:end], items[h + 1, begin:end]
                    for v in range(end - begin):
                        i0, i1 = item0[v], item1[v]
                        row[v] += unit0 * max(s0 + i0, zero) + unit1 * max(s1 + i1, zero)
                        next_row[v] += unit0 * max(next_s0 + i0, zero) + unit1 * max(next_s1 + i1, zero)

    def add_gradients(sessions: Any, items: Any, gradient: Any, by_session: Any, by_item: Any) -> None:
        zero = sessions.dtype.type(0)
        for begin in range(0, items.shape[1], _BLOCK):
            end = min(items.shape[1], begin + _BLOCK)
            for b in range(0, len(sessions), 2):
                row, next_row = gradient[b, begin:end], gradient[b + 1, begin:end]
                for h in range(sessions.shape[1]):
                    s, next_s = sessions[b, h], sessions[b + 1, h]
                    item, sums = items[h, begin:end], by_item[h, begin:end]
                    total = next_total = zero
                    for v in range(end - begin):
                        passed = row[v] if s + item[v] > zero else zero
                        next_passed = next_row[v] if next_s + item[v] > zero else zero
                        sums[v] += passed + next_passed
                        total += passed
                        next_total += next_passed
                    by_session[b, h] += total
                    by_session[b + 1, h] += next_total

    compile_it = partial(compiled, fastmath=True)
    return SimpleNamespace(add_scores=compile_it(add_scores), add_gradients=compile_it(add_gradients))

"""The exact softmax over a catalogue of item vectors, without a second [B, V] array.

Dimension letters: B sessions, D embedding size, V catalogue + 1 (column 0 is padding and takes no part).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mkmsr.layers.softmax import SparseScores

_SMALLEST_SHARE = 1e-30
"""A target's probability whose logarithm can be trusted; where one is smaller the scores are taken a second time."""


def target_log_softmax(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    extra: SparseScores | None = None,
    by_item: Tensor | None = None,
) -> Tensor:
    """Return log softmax(queries @ items.T + extra + by_item.T) at each target, exact, with one [B, V] array both ways.

    The scores are turned in place into probabilities minus the one-hot target, which is what the backward pass needs:
    its two products are all that is left to do there. Column 0 is left out of the softmax.

    Shapes:
        queries [B, D], items [V, D], targets [B] (1..V-1), by_item [V, B] -> [B].
    """
    sparse = extra if extra is not None else (None, None, None)
    result: Tensor = _TargetLogSoftmax.apply(queries, items, targets, *sparse, by_item)  # type: ignore[no-untyped-call]
    return result


def plain_target_log_softmax(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    extra: SparseScores | None = None,
    by_item: Tensor | None = None,
) -> Tensor:
    """Return the same by its definition: the twin of `target_log_softmax`."""
    scores = queries @ items.T
    if by_item is not None:
        scores = scores + by_item.T
    if extra is not None:
        scores = scores.index_put((extra.rows, extra.columns), extra.values, accumulate=True)
    scores = scores.index_fill(1, targets.new_zeros(1), float("-inf"))
    return scores.log_softmax(1).gather(1, targets[:, None])[:, 0]


class _TargetLogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        targets: Tensor,
        rows: Tensor | None,
        columns: Tensor | None,
        values: Tensor | None,
        by_item: Tensor | None,
    ) -> Tensor:
        def score() -> Tensor:
            # With `by_item` stored item by item, as that is and as its gradient has to be.
            scores = queries @ items.T if by_item is None else (items @ queries.T).add_(by_item).T
            if rows is not None and columns is not None and values is not None:
                scores.index_put_((rows, columns), values, accumulate=True)
            scores[:, 0] = float("-inf")
            return scores

        scores, target = score(), targets[:, None]
        # In place, whether rows or columns are stored one after the other.
        is_by_row = scores.is_contiguous()
        shares = torch.softmax(scores, 1, out=scores) if is_by_row else torch.softmax(scores.T, 0, out=scores.T).T
        of_target = shares.gather(1, target)
        if (of_target < _SMALLEST_SHARE).any():
            again = score()
            result = again.gather(1, target) - again.logsumexp(1, keepdim=True)
        else:
            result = of_target.log()
        residual = shares.scatter_add_(1, target, -torch.ones_like(of_target))
        ctx.save_for_backward(queries, items, residual, rows, columns)
        return result.squeeze(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, items, residual, rows, columns = ctx.saved_tensors
        scale = -gradients[0][:, None]
        of_values = residual[rows, columns] * scale[rows, 0] if ctx.needs_input_grad[5] else None
        of_all = (residual * scale).T if ctx.needs_input_grad[6] else None
        of_queries = (residual @ items).mul_(scale)
        of_items = residual.T @ (queries * scale)
        return of_queries, of_items, None, None, None, of_values, of_all

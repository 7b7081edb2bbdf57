"""The exact softmax over a catalogue of item vectors, without a second [B, V] array.

Dimension letters: B sessions, D embedding size, V catalogue + 1 (column 0 is padding and takes no part).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mkmsr.layers.columns import is_by_columns
from mkmsr.layers.products import product

__all__ = [
    "SparseScores",
    "blockwise_target_log_softmax",
    "recomputed_target_log_softmax",
    "rounded_target_log_softmax",
    "row_blocks",
    "target_log_softmax",
]

_CACHED_SCORES = 2**18
"""Scores of as many rows as fill about 1 MiB are turned into probabilities at a time: they stay in the processor's
second-level cache between the passes over them."""


_SMALLEST_SHARE = 1e-30
"""A target's probability whose logarithm can be trusted; where one is smaller the scores are taken a second time."""


class SparseScores(NamedTuple):
    """Something to add to a few scores: `values[m]` to the score of item `columns[m]` for session `rows[m]`.

    Each of shape [M]; values of the same pair add up.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor

    def at(self, rows: Tensor, columns: Tensor, num_columns: int) -> Tensor:
        """What is added to the scores of some pairs, 0 where nothing is. `rows`, `columns`: [N] -> [N]."""
        keys, place = torch.unique(self.rows * num_columns + self.columns, return_inverse=True)
        if len(keys) == 0:
            return self.values.new_zeros(len(rows))
        sums = self.values.new_zeros(len(keys)).index_add(0, place, self.values)
        wanted = rows * num_columns + columns
        found = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return torch.where(keys[found] == wanted, sums[found], 0.0)


def target_log_softmax(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    extra: SparseScores | None = None,
    by_item: Tensor | None = None,
    *,
    sampled: bool = False,
) -> Tensor:
    """log softmax(queries @ items.T + extra + by_item.T) at each target, exact, with one [B, V] array both ways.

    The scores are turned in place into probabilities minus the one-hot target, which is what the backward pass needs:
    its two products are all that is left to do there. Column 0 is left out of the softmax.

    Args:
        queries: Shape [B, D].
        items: Shape [V, D].
        targets: Shape [B], 1..V-1.
        extra: Added to some of the scores.
        by_item: Added to all scores. Shape [V, B].
        sampled: The items are a sample, whose size differs from batch to batch, so that no product can be prepared.

    Returns:
        Shape [B].
    """
    sparse = extra if extra is not None else (None, None, None)
    multiply = torch.mm if sampled else product
    result: Tensor = _TargetLogSoftmax.apply(  # type: ignore[no-untyped-call]
        queries, items, targets, *sparse, by_item, multiply
    )
    return result


def rounded_target_log_softmax(queries: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """The same of numbers rounded to bfloat16, with sums in 32 bits: half the memory and, where a processor has
    instructions for it, half the time; scores and gradients are off by some thousandths of themselves.
    """
    result: Tensor = _RoundedTargetLogSoftmax.apply(queries, items, targets)  # type: ignore[no-untyped-call]
    return result


def blockwise_target_log_softmax(queries: Tensor, items: Tensor, targets: Tensor, block: int) -> Tensor:
    """The same as `target_log_softmax`, with [B, block] arrays: for catalogues whose scores do not fit in memory.

    The backward pass takes the scores of each block a second time.
    """
    result: Tensor = _BlockwiseTargetLogSoftmax.apply(queries, items, targets, block)  # type: ignore[no-untyped-call]
    return result


def recomputed_target_log_softmax(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    extra: SparseScores,
    by_item: Callable[[int, int], Tensor] | None,
    block: int,
) -> Tensor:
    """`target_log_softmax` with [B, block] arrays, each computed a second time on the way back.

    Args:
        queries: Shape [B, D].
        items: Shape [V, D].
        targets: Shape [B], 1..V-1.
        extra: Added to some of the scores.
        by_item: What is added to the scores of items from one index to before another. -> [items, B].
        block: Items at a time.

    Returns:
        Shape [B].
    """
    totals, of_target = [], torch.zeros_like(queries[:, 0])
    begin = 0
    for part in torch.split(items, block):
        total, found = checkpoint(_block_total, queries, part, targets, extra, by_item, begin, use_reentrant=False)
        totals.append(total)
        of_target = of_target + found
        begin += len(part)
    return of_target - torch.stack(totals, dim=1).logsumexp(1)


def row_blocks(scores: Tensor, *, least: int = 1) -> list[slice]:
    """Rows of a [B, V] array to work through at a time, so many at least."""
    rows, columns = scores.shape
    height = max(least, _CACHED_SCORES // columns) if scores.device.type == "cpu" else max(1, rows)
    return [slice(begin, begin + height) for begin in range(0, rows, height)]


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
        multiply: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        def score() -> Tensor:
            # With `by_item` stored item by item, as that is and as its gradient has to be.
            scores = multiply(queries, items.T) if by_item is None else multiply(items, queries.T).add_(by_item).T
            if rows is not None and columns is not None and values is not None:
                scores.index_put_((rows, columns), values, accumulate=True)
            scores[:, 0] = float("-inf")
            return scores

        scores, target = score(), targets[:, None]
        shares = _softmax_(scores)
        of_target = shares.gather(1, target)
        if (of_target < _SMALLEST_SHARE).any():
            again = score()
            result = again.gather(1, target) - again.logsumexp(1, keepdim=True)
        else:
            result = of_target.log()
        ctx.save_for_backward(
            queries, items, shares.scatter_add_(1, target, -torch.ones_like(of_target)), rows, columns
        )
        ctx.multiply = multiply
        return result.squeeze(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, items, residual, rows, columns = ctx.saved_tensors
        scale = -gradients[0][:, None]
        of_values = residual[rows, columns] * scale[rows, 0] if ctx.needs_input_grad[5] else None
        of_all = (residual * scale).T if ctx.needs_input_grad[6] else None
        of_queries = ctx.multiply(residual, items).mul_(scale)
        of_items = _of_items(residual, queries * scale, items, ctx.multiply)
        return of_queries, of_items, None, None, None, of_values, of_all, None


def _softmax_(scores: Tensor) -> Tensor:
    """The softmax of each row, in place, whether rows or columns are stored one after the other."""
    if scores.is_contiguous():
        return torch.softmax(scores, 1, out=scores)
    return torch.softmax(scores.T, 0, out=scores.T).T


def _of_items(residual: Tensor, queries: Tensor, items: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """residual.T @ queries, the gradient by the items, stored as they are. [B, V], [B, D], [V, D] -> [V, D]."""
    if is_by_columns(items):
        return multiply(queries.T.contiguous(), residual).T
    return multiply(residual.T, queries)


class _RoundedTargetLogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        rounded = items.bfloat16()
        scores, target = queries.bfloat16() @ rounded.T, targets[:, None]
        scores[:, 0] = float("-inf")
        shares = _softmax_(scores)
        of_target = shares.gather(1, target)
        ctx.save_for_backward(queries, rounded, shares.scatter_add_(1, target, -torch.ones_like(of_target)))
        return of_target.squeeze(1).to(queries.dtype).clamp_min_(_SMALLEST_SHARE).log_()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        queries, rounded, residual = ctx.saved_tensors
        scale = -gradients[0][:, None]
        of_queries = (residual @ rounded).to(queries.dtype).mul_(scale)
        of_items = _of_items(residual, (queries * scale).bfloat16(), rounded, torch.mm).to(queries.dtype)
        return of_queries, of_items, None


class _BlockwiseTargetLogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, block: int) -> Tensor:
        largest = queries.new_full((len(queries), 1), float("-inf"))
        total = torch.zeros_like(largest)
        for begin in range(0, len(items), block):
            scores = _block_scores(queries, items, begin, block)
            larger = torch.maximum(largest, scores.amax(1, keepdim=True))
            known = largest.isfinite()
            total = torch.where(known, total * (largest - larger).exp(), 0)
            total += torch.where(larger.isfinite(), scores.sub_(larger).exp_().sum(1, keepdim=True), 0)
            largest = larger
        log_total = total.log() + largest
        ctx.save_for_backward(queries, items, targets, log_total)
        ctx.block = block
        return (queries * items[targets]).sum(1) - log_total[:, 0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        queries, items, targets, log_total = ctx.saved_tensors
        scale = -gradients[0][:, None]
        scaled = queries * scale
        of_queries, of_items = -items[targets], torch.empty_like(items)
        for begin in range(0, len(items), ctx.block):
            share = _block_scores(queries, items, begin, ctx.block).sub_(log_total).exp_()
            of_queries.addmm_(share, items[begin : begin + ctx.block])
            torch.mm(share.T, scaled, out=of_items[begin : begin + ctx.block])
        of_items.index_add_(0, targets, scaled, alpha=-1)
        return of_queries.mul_(scale), of_items, None, None


def _block_total(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    extra: SparseScores,
    by_item: Callable[[int, int], Tensor] | None,
    begin: int,
) -> tuple[Tensor, Tensor]:
    """Log of the sum of e^score over a block of items, and the target's score if it is there, else 0; [B] each."""
    end = begin + len(items)
    scores = queries @ items.T
    if by_item is not None:
        scores = scores + by_item(begin, end).T
    here = (extra.columns >= begin) & (extra.columns < end)
    scores = scores.index_put((extra.rows[here], extra.columns[here] - begin), extra.values[here], accumulate=True)
    inside = (targets >= begin) & (targets < end)
    found = scores.gather(1, (targets - begin).clamp(0, len(items) - 1)[:, None])[:, 0]
    if begin == 0:
        scores = scores.index_fill(1, targets.new_zeros(1), float("-inf"))
    return scores.logsumexp(1), torch.where(inside, found, 0.0)


def _block_scores(queries: Tensor, items: Tensor, begin: int, block: int) -> Tensor:
    scores = product(queries, items[begin : begin + block].T)
    if begin == 0:
        scores[:, 0] = float("-inf")
    return scores

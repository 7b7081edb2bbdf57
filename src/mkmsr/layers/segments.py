"""Sums and softmaxes over the events of each session of a ragged batch.

Dimension letters: B sessions, P events.
"""

from __future__ import annotations

import torch
from torch import Tensor


def segment_sum(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Sum of values [P, ...] over the events of each session; `rows` [P] are their sessions. Shape [B, ...]."""
    return values.new_zeros(num_rows, *values.shape[1:]).index_add(0, rows, values)


def segment_mean(values: Tensor, rows: Tensor, lengths: Tensor) -> Tensor:
    """Mean over the events of each session; `lengths` [B] counts them. Shape [B, D] from values [P, D]."""
    return segment_sum(values, rows, len(lengths)) / lengths.to(values.dtype)[:, None]


def segment_softmax(logits: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Softmax of logits [P] or [P, heads] over the events of each session, every column by itself; same shape."""
    index = rows if logits.dim() == 1 else rows[:, None].expand_as(logits)
    highest = logits.new_full((num_rows, *logits.shape[1:]), float("-inf"))
    highest = highest.scatter_reduce(0, index, logits.detach(), "amax")
    powers = (logits - highest[rows]).exp()
    return powers / segment_sum(powers, rows, num_rows)[rows]


def segment_log_softmax(logits: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """log softmax within each group of entries that share a row. Shape of `logits`, [M]."""
    if num_rows == 1:
        return logits.log_softmax(0)
    largest = logits.detach().new_full((num_rows,), -torch.inf).scatter_reduce(0, rows, logits.detach(), "amax")
    shifted = logits - largest[rows]
    total = logits.new_zeros(num_rows).index_add(0, rows, shifted.exp())
    return shifted - total[rows].log()

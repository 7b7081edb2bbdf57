"""Ranks of the true next item among the whole catalogue, and the metrics that are functions of those ranks.

A rank is counted, never sorted: one plus the other items whose score is at least the target's. A tie therefore counts
against the model ("conservative"), so that a model which gives every item the same score is last and not first.
Dimension letters: B prefixes of a batch, V catalogue + 1 (column 0 is padding), n examples, m metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.errors import ConfigError, EvaluationError, nearest

DEFAULT_KS: tuple[int, ...] = (5, 10, 20)
"""Lengths of the recommendation lists that are judged."""

TIES = "conservative"
"""The name of the tie policy, as documents state it."""


def conservative_ranks(scores_BV: Tensor, targets_B: Tensor) -> Tensor:
    """Rank of each target among the items 1..V-1, 1 for the best.

    `rank = 1 + #{j != target, j != 0: score_j >= score_target}`. An item other than the target may have the score -inf,
    which is how filters rule it out.

    Returns:
        Ranks in 1..V-1. Shape [B], int32.

    Raises:
        EvaluationError: A target is padding or outside the catalogue; a score is NaN or +inf; a target's is -inf.
    """
    if len(targets_B) == 0:
        return targets_B.to(torch.int32)
    check_targets(targets_B, scores_BV.shape[1])
    items_BI = scores_BV[:, 1:]
    target_scores_B1 = scores_BV.gather(1, targets_B.unsqueeze(1))
    # NaN compares as false, which would rank the target first. The largest score of a row shows NaN and +inf alike.
    check_finite(items_BI.amax(dim=1), target_scores_B1.squeeze(1))
    # The target itself is among those counted, which is the formula's 1. int32 halves the time of the sum.
    return (items_BI >= target_scores_B1).sum(dim=1, dtype=torch.int32)


def metric_names(ks: Sequence[int] = DEFAULT_KS) -> list[str]:
    """Return the names of all metrics in the order of tables, `hit@5`, `mrr@5`, `ndcg@5`, `hit@10`, ..., if k > 0."""
    if not isinstance(ks, Sequence) or not ks or not all(type(k) is int and k > 0 for k in ks):
        raise EvaluationError(f"list lengths k must be positive whole numbers, for example 5, 10, 20; found {ks!r}")
    return [f"{name}@{k}" for k in ks for name in ("hit", "mrr", "ndcg")]


def list_lengths(select: str) -> tuple[int, ...]:
    """Return the usual list lengths, and the one that the selection metric needs, if there is such a metric."""
    length = select.rpartition("@")[2]
    ks = tuple(sorted({*DEFAULT_KS, int(length)})) if length.isdecimal() and int(length) > 0 else DEFAULT_KS
    if select not in metric_names(ks):
        hint = nearest(select, metric_names()) or f"; for example {', '.join(metric_names())}"
        raise ConfigError(f"no metric {select!r}{hint}", key="training.select")
    return ks


def example_values(ranks: NDArray[np.integer], ks: Sequence[int] = DEFAULT_KS) -> NDArray[np.float64]:
    """Return what each example adds to each metric's mean, in the order of `metric_names`.

    With a single relevant item at rank r: `hit@k = [r <= k]`, `mrr@k = [r <= k] / r`,
    `ndcg@k = [r <= k] / log2(r + 1)` (the ideal gain is 1).

    Returns:
        Values in 0..1. Shape [n, m].
    """
    values = np.empty((len(ranks), len(metric_names(ks))))
    reciprocal, gain = 1.0 / ranks, 1.0 / np.log2(ranks + 1.0)
    for column, k in enumerate(ks):
        hit = ranks <= k
        values[:, 3 * column] = hit
        values[:, 3 * column + 1] = hit * reciprocal
        values[:, 3 * column + 2] = hit * gain
    return values


def check_targets(targets_B: Tensor, num_columns: int) -> None:
    """Make sure that every target is an item of a catalogue of V = `num_columns` columns, no padding."""
    if len(targets_B) and not 1 <= int(targets_B.min()) <= int(targets_B.max()) < num_columns:
        raise EvaluationError(
            f"targets must be item indexes from 1 to {num_columns - 1}, the catalogue that was scored; "
            f"found {int(targets_B.min())} to {int(targets_B.max())}"
        )


def check_finite(best_B: Tensor, target_B: Tensor) -> None:
    """Make sure that the highest score of each row and the target's are finite."""
    wrong = ~(best_B.isfinite() & target_B.isfinite())
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        raise EvaluationError(
            f"row {row} of the batch: the target's score is {float(target_B[row])} and the highest score is "
            f"{float(best_B[row])}; scores must be finite (-inf is allowed for items other than the target)"
        )

"""The evaluation document: what `mkmsr evaluate --json` prints and what a run folder keeps about a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mkmsr.evaluation.metrics import DEFAULT_KS, TIES, metric_names
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import bootstrap_intervals


def evaluation_document(
    model: str,
    split: str,
    table: RankTable,
    candidates: int,
    ks: Sequence[int] = DEFAULT_KS,
    seconds: float = 0.0,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return everything that is said about one evaluation, as plain data for JSON.

    Shares and metrics are 0..1; `intervals` are 95 % intervals over resampled sessions; each slice states how many
    examples it holds beside its metrics, which are null where it holds none.

    Args:
        model: The model's name.
        split: "validation" or "test".
        table: Its ranks; an empty table is an `EvaluationError`.
        candidates: Items that were ranked for every example: the whole catalogue without padding.
        ks: Lengths of the recommendation lists.
        seconds: How long ranking took.
        samples: Resamples of the intervals.
        seed: Of the resampling.
    """
    intervals = bootstrap_intervals(table, ks, samples=samples, seed=seed)
    return {
        "model": model,
        "split": split,
        "examples": len(table),
        "candidates": candidates,
        "ties": TIES,
        "metrics": table.metrics(ks),
        "intervals": {name: [low, high] for name, (low, high) in intervals.items()},
        "slices": {name: _slice(part, ks) for name, part in table.slices().items()},
        "seconds": float(seconds),
    }


def _slice(part: RankTable, ks: Sequence[int]) -> dict[str, Any]:
    metrics = part.metrics(ks) if len(part) else dict.fromkeys(metric_names(ks))
    return {"examples": len(part), **metrics}

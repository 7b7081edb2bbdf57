"""What is kept of an evaluation as plain data: the document that `mkmsr evaluate --json` prints, and example sessions.

With it a report can be drawn again without the model. The sessions are chosen by a fixed rule and a seed, not by eye,
and one that the model missed is among them wherever it missed any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.data.batching import collate
from mkmsr.data.dataset import EvaluationSplit, PreparedDataset, statistics
from mkmsr.evaluation.metrics import DEFAULT_KS, TIES, metric_names
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import bootstrap_intervals
from mkmsr.evaluation.target_ranks import scoring
from mkmsr.models.base import SessionModel

RULE = (
    "one example drawn at random (seeded) from each of: next item found and not in the prefix; next item found in "
    "the prefix; next item not in the list. Prefixes of 3 to 8 events with several operations are preferred."
)
"""How the examples are chosen, in words for a report."""


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


def showcase(
    model: SessionModel,
    dataset: PreparedDataset,
    split: EvaluationSplit,
    table: RankTable,
    *,
    k: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Return counts of the data and example sessions with their top k items, for `examples.json` of a run folder.

    Returns:
        `{"dataset": {"name", "counts"}, "split", "k", "rule", "sessions": [{"kind": "found" | "repeat" | "missed",
        "events": [{"item", "display", "attributes", "operation"}],
        "target": {"item", "display", "attributes", "operation", "rank", "is_new_item", "is_repeat"},
        "recommendations": [{"rank", "item", "display", "attributes", "score", "is_target", "in_prefix"}]}]}`. Items are
        external ids, `display` is what is shown with them by name, attributes are lists of values by relation.
    """
    chosen = _choose(split, table, k, np.random.default_rng(seed))
    rows = np.array(list(chosen.values()), dtype=np.int64)
    with scoring(model) as (scorer, device):
        scores_BV = scorer(collate(split.examples, rows).to(device)).cpu()
    sessions = [
        {"kind": kind, **_example(dataset, split, table, row=row, scores_V=scores_V, k=k)}
        for (kind, row), scores_V in zip(chosen.items(), scores_BV, strict=True)
    ]
    return {
        "dataset": {"name": dataset.name, "counts": statistics(dataset)},
        "split": split.name,
        "k": k,
        "rule": RULE,
        "sessions": sessions,
    }


def _choose(split: EvaluationSplit, table: RankTable, k: int, generator: np.random.Generator) -> dict[str, int]:
    found = table.rank <= k
    kinds = {"found": found & ~table.is_repeat, "repeat": found & table.is_repeat, "missed": ~found}
    readable = _readable(split)
    chosen: dict[str, int] = {}
    for kind, rows in kinds.items():
        candidates = np.flatnonzero(rows & readable) if (rows & readable).any() else np.flatnonzero(rows)
        if len(candidates):
            chosen[kind] = int(generator.choice(candidates))
    return chosen


def _readable(split: EvaluationSplit) -> NDArray[np.bool_]:
    """Prefixes of 3 to 8 events that hold more than one operation. Shape [n]."""
    examples = split.examples
    operations = examples.sessions.operations
    changes = np.concatenate([[0], np.cumsum(operations[1:] != operations[:-1])])
    several = changes[examples.end - 1] > changes[examples.begin]
    readable: NDArray[np.bool_] = (examples.lengths >= 3) & (examples.lengths <= 8) & several
    return readable


def _example(
    dataset: PreparedDataset,
    split: EvaluationSplit,
    table: RankTable,
    *,
    row: int,
    scores_V: Tensor,
    k: int,
) -> dict[str, Any]:
    examples = split.examples
    best = torch.topk(scores_V[1:], min(k, len(scores_V) - 1))
    ranked = zip((best.indices + 1).tolist(), best.values.tolist(), strict=True)
    begin, end = int(examples.begin[row]), int(examples.end[row])
    prefix = set(examples.sessions.items[begin:end].tolist())
    target = int(table.target[row])
    return {
        "events": [_event(dataset, split, event) for event in range(begin, end)],
        "target": {
            **_event(dataset, split, end),
            "rank": int(table.rank[row]),
            "is_new_item": bool(table.is_new_item[row]),
            "is_repeat": bool(table.is_repeat[row]),
        },
        "recommendations": [
            {
                "rank": rank,
                **_product(dataset, item),
                "score": score,
                "is_target": item == target,
                "in_prefix": item in prefix,
            }
            for rank, (item, score) in enumerate(ranked, start=1)
        ],
    }


def _event(dataset: PreparedDataset, split: EvaluationSplit, event: int) -> dict[str, Any]:
    sessions = split.examples.sessions
    operation = dataset.operations.id(int(sessions.operations[event]))
    return {**_product(dataset, int(sessions.items[event])), "operation": operation}


def _product(dataset: PreparedDataset, item: int) -> dict[str, Any]:
    """An item with what is shown of it and what is known about it."""
    name = dataset.items.id(item)
    return {
        "item": name,
        "display": dict(dataset.display.get(name, {})),
        "attributes": dataset.knowledge.describe_item(item),
    }

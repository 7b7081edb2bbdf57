"""What ranking costs: a whole split, lists for one session alone, and lists for many in bulk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from mkmsr.config import StrictModel
from mkmsr.data.dataset import EvaluationSplit, PreparedDataset, SplitName
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.recommend import Recommender, SessionEncoder
from mkmsr.runs.config import build_model
from mkmsr.runtime.compute import keep_freed_memory, torch_threads
from mkmsr.runtime.environment import environment, peak_mib, spread, timed
from mkmsr.training.trainer import fitting_data


def time_evaluation(
    dataset: PreparedDataset,
    model: str,
    settings: StrictModel,
    *,
    split: SplitName = "test",
    examples: int | None = None,
    repetitions: int = 5,
    threads: int = 1,
    workers: int = 1,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Time the ranking of the whole catalogue for every example of a split, with first weights, which cost the same.

    What a model reads off the training log (neighbours, counts) is read before, and one evaluation warms up. With
    `examples`, only the first so many are ranked.
    """
    ranked = dataset.evaluation_split(split)
    if examples is not None:
        ranked = EvaluationSplit(ranked.name, ranked.examples.rows(slice(0, examples)), ranked.seen)
    network = build_model(model, settings, dataset, seed)
    network.observe(fitting_data(dataset, refit=True))
    network.to(device)
    evaluate(network, ranked, workers=workers, threads=threads)
    busy = time.process_time()
    seconds = [timed(lambda: evaluate(network, ranked, workers=workers, threads=threads)) for _ in range(repetitions)]
    busy = (time.process_time() - busy) / repetitions
    return {
        "model": model,
        "split": split,
        "threads": threads,
        "workers": workers,
        "examples": len(ranked.examples),
        "candidates": len(dataset.items),
        "seconds": median(seconds),
        "examples_per_second": len(ranked.examples) / median(seconds),
        "processor_seconds": busy if workers == 1 else None,
        "peak_mib": peak_mib(),
        "case": "evaluation",
        "data": dataset.name,
        "device": str(device),
        "spread": spread(seconds=seconds),
        "environment": environment(),
    }


def time_recommending(
    bundle: Path, dataset: PreparedDataset, *, sessions: int = 200, k: int = 20, repetitions: int = 5
) -> dict[str, Any]:
    """Time lists of a bundle in processor time of one thread, after a repetition that warms up.

    So many sessions are asked for alone, and four times as many in bulk: test prefixes of the dataset, from the first
    to the last at equal distances.
    """
    keep_freed_memory()
    recommender = Recommender.load(bundle)
    asked = [_prefixes(dataset, count) for count in (sessions, 4 * sessions)]
    encoded = SessionEncoder(recommender.bundle).encode({str(row): each for row, each in enumerate(asked[1])})
    ranker = recommender.ranker(k)

    def alone() -> None:
        for session in asked[0]:
            recommender.recommend(session, k)

    def in_bulk() -> None:
        with torch_threads(1):
            ranker.rank(encoded)

    milliseconds = [1000 * each / len(asked[0]) for each in _processor_seconds(alone, repetitions)]
    rates = [len(asked[1]) / each for each in _processor_seconds(in_bulk, repetitions)]
    return {
        "model": recommender.bundle.name,
        "candidates": len(recommender.bundle.items),
        "sessions": len(asked[0]),
        "items_a_list": k,
        "milliseconds_alone": median(milliseconds),
        "sessions_in_bulk": len(asked[1]),
        "sessions_a_processor_second": median(rates),
        "peak_mib": peak_mib(),
        "case": "recommend",
        "data": dataset.name,
        "spread": spread(milliseconds_alone=milliseconds, sessions_a_processor_second=rates),
        "environment": environment(),
    }


def _prefixes(dataset: PreparedDataset, count: int) -> list[list[tuple[str, str]]]:
    """So many test prefixes in external ids; some recur where there are fewer."""
    examples = dataset.evaluation_split("test").examples
    table, prefixes = examples.sessions, []
    for row in np.linspace(0, len(examples) - 1, count).astype(np.int64):
        events = slice(examples.begin[row], examples.end[row])
        pairs = zip(table.items[events].tolist(), table.operations[events].tolist(), strict=True)
        prefixes.append([(dataset.items.id(item), dataset.operations.id(operation)) for item, operation in pairs])
    return prefixes


def _processor_seconds(work: Callable[[], None], repetitions: int) -> list[float]:
    work()
    seconds = []
    for _ in range(repetitions):
        busy = time.process_time()
        work()
        seconds.append(time.process_time() - busy)
    return seconds

"""What ranking a split costs."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch

from mkmsr.config import StrictModel
from mkmsr.data.dataset import EvaluationSplit, PreparedDataset, SplitName
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.runs.config import build_model
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

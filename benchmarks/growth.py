"""Measures how time and memory grow with the log and with the catalogue, and fits exponents between logarithms.

    python benchmarks/growth.py [--models mkm-sr compass] [--curves log catalogue] [--small] [--out growth.json]

Every point is a process of its own, over a simulated log; the loss is the sampled one. `python benchmarks/page.py`
draws the curves.

Times are the processor's: with one thread, on a core of its own, the clock shows the same, and what others do at the
same time changes them little.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from large import measure_steps
from simulated import in_a_new_process, sampled_settings, simulated

from mkmsr.config import StrictModel
from mkmsr.data.dataset import EvaluationSplit, PreparedDataset
from mkmsr.data.shop import SimulateOptions
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.runs.config import build_model
from mkmsr.runtime.environment import environment, peak_mib, spread
from mkmsr.runtime.files import atomic_write
from mkmsr.training.config import TrainingConfig
from mkmsr.training.trainer import fitting_data

Curves = Mapping[str, Sequence[tuple[int, int]]]

CURVES: Curves = {
    "log": tuple((25_000 * factor, 30_000) for factor in (1, 2, 4, 8)),
    "catalogue": tuple((25_000, items) for items in (10_000, 50_000, 200_000, 1_000_000)),
}
"""Sessions and items of the simulated log at each point of each curve."""
A_TRY: Curves = {"log": ((300, 100), (600, 100)), "catalogue": ((300, 100), (300, 200))}
"""The same, so small that it only shows that everything runs."""

_MEASURES = ("epoch_seconds", "training_mib", "evaluation_seconds", "evaluation_mib")


def time_growth(
    models: Sequence[tuple[str, StrictModel, TrainingConfig]],
    *,
    curves: Curves = CURVES,
    steps: int = 50,
    examples: int = 500,
    seed: int = 0,
    told: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Processor seconds of an epoch and of ranking, and peaks of memory, at every point, each in a new process.

    Args:
        models: Name, settings, and how it is trained.
        curves: (sessions, items) of each point.
        steps: Steps of the optimiser that are timed and scaled up to an epoch.
        examples: Test examples that are ranked, and scaled up to all.
        seed: Of everything.
        told: Hears what is measured next.
    """
    points = []
    for curve, sizes in curves.items():
        for sessions, items in sizes:
            with simulated(SimulateOptions(sessions=sessions, items=items, seed=seed)) as folder:
                for model, settings, config in models:
                    told(f"{model}: {sessions:,} sessions, {items:,} items")
                    trained = in_a_new_process(measure_steps, folder, model, settings, config, steps, seed)
                    ranked = in_a_new_process(_measure_ranking, folder, model, settings, examples, config.threads, seed)
                    point = {
                        "epoch_seconds": trained["processor_seconds"],
                        "training_mib": trained["peak_mib"],
                        **ranked,
                        "spread": {"epoch_seconds": trained["spread"]["processor_seconds"], **ranked["spread"]},
                    }
                    points.append({"curve": curve, "model": model, "sessions": sessions, "items": items, **point})
    return {
        "models": ", ".join(model for model, *_ in models),
        "threads": models[0][2].threads,
        "case": "growth",
        "steps": steps,
        "ranked_examples": examples,
        "losses": {model: config.loss.session for model, _, config in models},
        "batch_sizes": {model: config.batch_size for model, _, config in models},
        "exponents": _exponents(points),
        "points": points,
        "spread": {},
        "environment": environment(),
    }


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """b of the fit value = a * size^b, by least squares between logarithms."""
    x, y = np.log(np.asarray(sizes, dtype=float)), np.log(np.asarray(values, dtype=float))
    slope = float(np.polynomial.polynomial.polyfit(x, y, 1)[1])
    assert math.isfinite(slope)
    return slope


def _exponents(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each curve and model, one exponent for each measure."""
    rows = []
    for curve, model in dict.fromkeys((point["curve"], point["model"]) for point in points):
        mine = [point for point in points if (point["curve"], point["model"]) == (curve, model)]
        sizes = [point["sessions" if curve == "log" else "items"] for point in mine]
        fits = {measure: exponent(sizes, [point[measure] for point in mine]) for measure in _MEASURES}
        rows.append({"curve": curve, "model": model, **fits})
    return rows


def _measure_ranking(
    folder: Path, model: str, settings: StrictModel, examples: int, threads: int, seed: int
) -> dict[str, Any]:
    """Seconds of ranking the test, scaled up from some examples of it, and the peak of memory."""
    dataset = PreparedDataset.load(folder)
    network = build_model(model, settings, dataset, seed)
    network.observe(fitting_data(dataset, refit=True))
    whole = dataset.evaluation_split("test")
    some = EvaluationSplit(whole.name, whole.examples.rows(slice(0, examples)), whole.seen)
    share = len(some.examples) / len(whole.examples)
    evaluate(network, some, threads=threads)
    seconds = [_processor_seconds(lambda: evaluate(network, some, threads=threads)) / share for _ in range(3)]
    return {
        "evaluation_seconds": median(seconds),
        "evaluation_mib": peak_mib(),
        "spread": spread(evaluation_seconds=seconds),
    }


def _processor_seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def main() -> None:
    """Measure the chosen curves and write the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mkm-sr", "compass"])
    parser.add_argument("--steps", type=int, default=50, help="timed steps of the optimiser, scaled up to an epoch")
    parser.add_argument("--examples", type=int, default=500, help="test examples that are ranked, scaled up to all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=list(CURVES))
    parser.add_argument("--small", action="store_true", help="a try with two small points a curve")
    parser.add_argument("--set", nargs="*", default=[], help="other settings: training.batch_size=256")
    parser.add_argument("--out", type=Path, required=True, help="the result's file")
    given = parser.parse_args()
    chosen = [(name, sampled_settings(name, given.set, given.threads)) for name in given.models]
    result = time_growth(
        [(name, settings.settings(), settings.training) for name, settings in chosen],
        curves={name: sizes for name, sizes in (A_TRY if given.small else CURVES).items() if name in given.curves},
        steps=given.steps,
        examples=given.examples,
    )
    atomic_write(given.out, json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

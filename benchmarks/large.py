"""Times an epoch over a large catalogue with the sampled loss, beside steps with the exact one; memory too.

    python benchmarks/large.py [--model compass] [--data PREPARED] [--steps 200] [--out large.json]

Every measurement is a process of its own. Without --data the log is a simulated one of JDATA's size: 455,000 sessions,
2.45 million events, 134,548 items, four relations.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import torch
from simulated import JDATA, in_a_new_process, sampled_settings, simulated

from mkmsr.config import StrictModel
from mkmsr.data.dataset import PreparedDataset
from mkmsr.models.base import TrainingData
from mkmsr.runs.config import build_model
from mkmsr.runtime.environment import environment, peak_mib, spread
from mkmsr.runtime.files import atomic_write
from mkmsr.training.config import TrainingConfig
from mkmsr.training.optimisation import build_optimiser, take_step
from mkmsr.training.strategies import Plan, effective_strategy
from mkmsr.training.trainer import fit, fitting_data

_PARTS = 5
"""Stretches of steps that are timed apart, for a smallest and a largest time."""


def exact(config: TrainingConfig, *, block: int = 0) -> TrainingConfig:
    """The same settings with the exact loss over the whole catalogue, and an optimiser that moves whole tables."""
    loss = config.loss.model_copy(update={"session": "cross-entropy", "catalogue_block": block})
    optimiser = config.optimiser.model_copy(update={"touched_rows": False})
    return config.model_copy(update={"loss": loss, "optimiser": optimiser})


def time_large(
    folder: Path,
    model: str,
    settings: StrictModel,
    config: TrainingConfig,
    *,
    steps: int = 0,
    exact_steps: int = 5,
    block: int = 8192,
    seed: int = 0,
) -> dict[str, Any]:
    """Seconds and memory of an epoch with `config`'s loss, beside steps with the exact loss, whole and in blocks.

    Each measurement is a process of its own. An epoch learns from train and validation together. Seconds are the
    clock's and the processor's, of all threads together, which others at work change less.

    Args:
        folder: Prepared data.
        model: The model's registered name.
        settings: Its settings.
        config: How it is trained.
        steps: Times so many steps and scales up to an epoch; 0 runs a whole epoch by the real trainer.
        exact_steps: Steps with the exact loss, scaled up to an epoch; 0 for none.
        block: Items at a time, where the exact loss works in blocks.
        seed: Of everything.
    """
    if steps:
        mine = in_a_new_process(measure_steps, folder, model, settings, config, steps, seed)
    else:
        mine = in_a_new_process(_measure_epoch, folder, model, settings, config, seed)
    others: dict[str, Mapping[str, Any]] = {}
    if exact_steps:
        for name, other in (("exact", exact(config)), ("exact in blocks", exact(config, block=block))):
            others[name] = in_a_new_process(measure_steps, folder, model, settings, other, exact_steps, seed)
    return {
        "model": model,
        "threads": config.threads,
        "batch_size": config.batch_size,
        "epoch_seconds": mine["epoch_seconds"],
        "processor_seconds": mine["processor_seconds"],
        "examples_per_second": mine["examples"] / mine["epoch_seconds"],
        "peak_mib": mine["peak_mib"],
        "case": "large",
        **{key: mine[key] for key in ("data", "items", "examples", "steps")},
        "measured_steps": steps or mine["steps"],
        "negatives": config.loss.negatives.number,
        "loss": config.loss.session,
        "touched_rows": config.optimiser.touched_rows,
        "exact_steps": exact_steps,
        "block": block,
        "exact": {
            name: {key: each[key] for key in ("epoch_seconds", "processor_seconds", "peak_mib", "spread")}
            for name, each in others.items()
        },
        "spread": mine["spread"],
        "environment": environment(),
    }


def measure_steps(
    folder: Path, model: str, settings: StrictModel, config: TrainingConfig, steps: int, seed: int
) -> dict[str, Any]:
    """Seconds of some steps, after three that warm up, scaled up to an epoch over sessions; and the peak of memory."""
    torch.set_num_threads(config.threads)
    dataset = PreparedDataset.load(folder)
    training = fitting_data(dataset, refit=True)
    network = build_model(model, settings, dataset, seed)
    network.observe(training)
    plan = Plan(effective_strategy(config, network, training), training, config, seed)
    optimiser = build_optimiser(network, config.optimiser)
    network.train()
    ahead = (step for epoch in count(1) for step in plan.steps(epoch) if step.sessions is not None)
    in_epoch = -(-len(training.examples) // config.batch_size)
    seconds, processor = [], []
    for part in [3, *(max(1, steps // _PARTS) for _ in range(_PARTS))]:
        began, busy = time.perf_counter(), time.process_time()
        for _ in range(part):
            take_step(network, optimiser, next(ahead), config.loss, clip_norm=config.optimiser.clip_norm)
        seconds.append((time.perf_counter() - began) / part * in_epoch)
        processor.append((time.process_time() - busy) / part * in_epoch)
    return {**_facts(dataset, training, in_epoch), **_epoch(seconds[1:], processor[1:])}


def _measure_epoch(
    folder: Path, model: str, settings: StrictModel, config: TrainingConfig, seed: int
) -> dict[str, Any]:
    """Seconds of one whole epoch of the real trainer, and the peak of memory."""
    dataset = PreparedDataset.load(folder)
    training = fitting_data(dataset, refit=True)
    network = build_model(model, settings, dataset, seed)
    busy = time.process_time()
    done = fit(network, training, config.model_copy(update={"epochs": 1}), seed=seed)
    steps = -(-len(training.examples) // config.batch_size)
    return {**_facts(dataset, training, steps), **_epoch([done.history[0].seconds], [time.process_time() - busy])}


def _facts(dataset: PreparedDataset, training: TrainingData, steps: int) -> dict[str, Any]:
    return {
        "data": dataset.name,
        "items": len(dataset.items),
        "sessions": len(training.sessions),
        "examples": len(training.examples),
        "steps": steps,
    }


def _epoch(seconds: list[float], processor: list[float]) -> dict[str, Any]:
    return {
        "epoch_seconds": median(seconds),
        "processor_seconds": median(processor),
        "peak_mib": peak_mib(),
        "spread": spread(epoch_seconds=seconds, processor_seconds=processor),
    }


def main() -> None:
    """Measure one model and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="compass")
    parser.add_argument("--data", type=Path, help="prepared data; by default a simulated log")
    parser.add_argument("--steps", type=int, default=0, help="time so many steps and scale up; 0 runs a whole epoch")
    parser.add_argument("--exact-steps", type=int, default=5, help="steps with the exact loss, scaled up; 0 for none")
    parser.add_argument("--block", type=int, default=8192, help="items at a time, where the exact loss works in blocks")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="other settings: training.loss.negatives.number=1024")
    parser.add_argument("--out", type=Path, help="also write the result to this file")
    given = parser.parse_args()
    settings = sampled_settings(given.model, given.set, given.threads)
    with simulated(JDATA) if given.data is None else nullcontext(given.data) as folder:
        result = time_large(
            folder,
            given.model,
            settings.settings(),
            settings.training,
            steps=given.steps,
            exact_steps=given.exact_steps,
            block=given.block,
        )
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    print(text, end="")
    if given.out is not None:
        atomic_write(given.out, text)


if __name__ == "__main__":
    main()

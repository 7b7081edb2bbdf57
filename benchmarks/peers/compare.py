"""Our models beside those of other libraries: the same examples, one rule, one evaluator, one thread.

    python benchmarks/peers/compare.py accuracy hopwise-narm --data data/demo --out runs/peers --seeds 3
    python benchmarks/peers/compare.py speed hopwise-narm --data data/demo --out runs/peers --turns 3

Runs in the environment of the pair's library, see README.md beside this file. Results go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from pairs import PAIRS, Habits, Pair
from sides import Run, new_peer, our_config, our_epoch_time, peer_epoch_time, run_ours, run_peer

from mkmsr.data.dataset import PreparedDataset
from mkmsr.evaluation.significance import paired_differences, pooled
from mkmsr.runtime.environment import environment, spread
from mkmsr.runtime.files import atomic_write

RESULTS = Path(__file__).parents[1] / "results"
METRICS = ("hit@20", "mrr@20")
INTERVAL_IN_ERRORS = 3.92
"""Width of a 95 % interval in standard errors."""


def accuracy(name: str, pair: Pair, dataset: PreparedDataset, out: Path, seeds: int) -> dict[str, Any]:
    """Both sides trained with each seed, unless OUT holds the run already; means, and their difference in pairs."""
    sides: dict[str, list[Run]] = {"ours": [], "peer": []}
    for seed in range(seeds):
        for side, runs in sides.items():
            path = out / name / f"{side}-{seed}"
            run = Run.load(path)
            if run is None:
                folder = out / name / "files"
                run = run_ours(pair, dataset, seed) if side == "ours" else run_peer(pair, dataset, seed, folder)
                run.save(path)
            runs.append(run)
    tables = {side: pooled([run.ranks for run in runs]) for side, runs in sides.items()}
    differences = paired_differences(tables["ours"], tables["peer"], (20,))
    return {
        "case": "peer accuracy",
        "seeds": seeds,
        **{side: _side(runs) for side, runs in sides.items()},
        "difference": {
            metric: {
                "value": differences[metric].difference,
                "standard_error": (differences[metric].high - differences[metric].low) / INTERVAL_IN_ERRORS,
                "interval": [differences[metric].low, differences[metric].high],
            }
            for metric in METRICS
        },
    }


def speed(pair: Pair, dataset: PreparedDataset, out: Path, turns: int, habits: Habits) -> dict[str, Any]:
    """Seconds of an epoch of both sides, in turns; the peer's first epoch warms it up."""
    peer = new_peer(pair, dataset, seed=0, folder=out / "speed", habits=habits)
    peer.train_epoch()
    peers, ours = [], []
    for turn in range(turns):
        peers.append(peer_epoch_time(peer))
        ours.append(our_epoch_time(pair, dataset, seed=turn))
    peer.close()
    wall = [theirs.wall / mine.wall for theirs, mine in zip(peers, ours, strict=True)]
    processor = [theirs.processor / mine.processor for theirs, mine in zip(peers, ours, strict=True)]
    return {
        "case": "peer speed",
        "examples": peer.examples,
        "events": int(dataset.train.lengths.sum()),
        "batch_size": our_config(pair).training.batch_size,
        "turns": turns,
        "padded_to": getattr(peer, "longest", None),
        "gradient_checks": getattr(peer, "gradient_checks", False),
        "ratio": median(wall),
        "processor_ratio": median(processor),
        "spread": spread(
            peer_seconds=[each.wall for each in peers],
            our_seconds=[each.wall for each in ours],
            ratio=wall,
            peer_processor_seconds=[each.processor for each in peers],
            our_processor_seconds=[each.processor for each in ours],
            processor_ratio=processor,
        ),
    }


def _side(runs: list[Run]) -> dict[str, Any]:
    metrics = [run.ranks.metrics((20,)) for run in runs]
    return {
        "best_epochs": [run.best_epoch for run in runs],
        "epochs": [run.epochs for run in runs],
        **{metric: sum(each[metric] for each in metrics) / len(metrics) for metric in METRICS},
        "each": {metric: [each[metric] for each in metrics] for metric in METRICS},
    }


def main() -> None:
    """Measure one pair and write benchmarks/results/peers-<what>-<pair>.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["accuracy", "speed"])
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--data", required=True, type=Path, help="the prepared Demo sample")
    parser.add_argument(
        "--out", required=True, type=Path, help="folder for runs, which a further call takes from there"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--default-padding", action="store_true", help="speed: pad as hopwise does by default, not to the longest"
    )
    parser.add_argument(
        "--no-gradient-checks", action="store_true", help="speed: without the anomaly detection that hopwise turns on"
    )
    arguments = parser.parse_args()
    pair, dataset = PAIRS[arguments.pair], PreparedDataset.load(arguments.data)
    if arguments.what == "accuracy":
        found = accuracy(arguments.pair, pair, dataset, arguments.out, arguments.seeds)
    else:
        habits = Habits(arguments.default_padding, gradient_checks=not arguments.no_gradient_checks)
        found = speed(pair, dataset, arguments.out / arguments.pair, arguments.turns, habits)
    config = our_config(pair)
    document = {
        **found,
        "pair": arguments.pair,
        "label": pair.label,
        "library": pair.library,
        "library_version": version(pair.library),
        "data": dataset.name,
        "settings": {
            "ours": {"model": config.model, "training": config.training.model_dump(mode="json")},
            "peer": {"model": pair.peer, **pair.peer_settings},
        },
        "environment": environment(),
    }
    variants = (("-default-padding", arguments.default_padding), ("-no-gradient-checks", arguments.no_gradient_checks))
    variant = "".join(name for name, is_on in variants if is_on and arguments.what == "speed")
    path = RESULTS / f"peers-{arguments.what}-{arguments.pair}{variant}.json"
    atomic_write(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key != "settings"}, indent=2))


if __name__ == "__main__":
    main()

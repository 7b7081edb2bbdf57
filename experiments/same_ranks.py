"""Count the kept rank tables that the code still makes, bit for bit: the proof of a refactoring.

    python experiments/same_ranks.py data/demo data/demo-n --out runs/same-ranks

Trains seed 0 of every registered model on train and validation, with its kept settings and for its kept number of
epochs, ranks the test, and compares the ranks with those of `experiments/results/DATA`. Sums differ in the last bit
between processors, so a count belongs to one: `--write` keeps a digest of each table beside the processor's name, and a
later run on the same processor says which of those it repeats; `before_the_rebuild` holds those of the code of
2026-11-29. A killed call goes on where it stopped; a changed program needs a new `--out`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

EXPERIMENTS = Path(__file__).parent
BASELINE = EXPERIMENTS / "same_ranks.json"


def main() -> None:
    """Train, compare, print a line a model and the count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="prepared Demo and Demo(N)")
    parser.add_argument("--out", type=Path, default=Path("runs/same-ranks"), help="run folders")
    parser.add_argument("--models", help="names separated by commas; default: every registered model")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--write", type=Path, help=f"keep the digests there, for example {BASELINE}")
    given = parser.parse_args()

    from mkmsr.models.registry import MODELS
    from mkmsr.runtime.environment import environment

    processor = environment()["cpu"]
    known = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.is_file() else {}
    same_processor = known.get("processor") == processor
    wanted = [(data, name) for data in given.data for name in (given.models.split(",") if given.models else MODELS)]
    results: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(given.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(compare, data, name, given.out) for data, name in wanted]
        for done in as_completed(running):
            key, found = done.result()
            results[key] = found
            before = known.get("digests", {}).get(key) if same_processor else None
            as_before = "" if before is None else f", {'as' if before == found['digest'] else 'NOT AS'} before here"
            kept_ranks = f"{found['equal']} of {found['examples']} ranks as kept"
            print(f"{key}: {kept_ranks}{as_before}, {found['seconds']:.0f} s", flush=True)
    kept = sum(each["equal"] == each["examples"] for each in results.values())
    print(f"{kept} of {len(results)} kept rank tables come out bit for bit on {processor}")
    if same_processor:
        digests = known["digests"]
        again = sum(digests.get(key) == each["digest"] for key, each in results.items())
        print(f"{again} of {len(results)} tables are those of {BASELINE.name}, made on the same processor")
    if given.write:
        digests = {**known.get("digests", {}), **{key: each["digest"] for key, each in results.items()}}
        text = {**known, "processor": processor, "digests": dict(sorted(digests.items()))}
        given.write.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def compare(data: Path, name: str, out: Path) -> tuple[str, dict[str, Any]]:
    """Train one model and compare its ranks with the kept ones."""
    import torch

    from mkmsr.data.dataset import PreparedDataset
    from mkmsr.evaluation.ranks import RankTable
    from mkmsr.paper.kept import KeptResults
    from mkmsr.paper.runs import experiment_settings
    from mkmsr.runs.experiment import run_experiment

    torch.set_num_threads(1)
    kept, run = KeptResults(EXPERIMENTS / "results" / data.name), f"{name}/seed-0"
    folder = out / data.name / name
    began = time.perf_counter()
    run_experiment(
        PreparedDataset.load(data),
        experiment_settings(data, name, EXPERIMENTS),
        folder,
        seed=0,
        refit=True,
        resume=True,
        report=False,
        chosen_epochs=kept.runs[run]["best_epoch"],
    )
    found = RankTable.load(folder / "ranks.parquet").rank
    expected = kept.ranks(run).to_numpy()
    return f"{data.name}/{name}", {
        "digest": hashlib.sha256(np.ascontiguousarray(found, np.int64).tobytes()).hexdigest()[:16],
        "equal": int((found == expected).sum()) if len(found) == len(expected) else 0,
        "examples": len(expected),
        "seconds": time.perf_counter() - began,
    }


if __name__ == "__main__":
    main()

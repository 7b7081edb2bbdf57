"""Measures every case of the results page, each in a process of its own, and draws the page again.

    python benchmarks/run.py --data data/demo [--only training-mkm-sr-demo ...] [--repetitions 5]

`data/demo` is the paper's Demo sample, prepared with `--new-items drop`. Measure on a machine that does nothing else:
the load that each result states should stay near the benchmark's own threads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"

CASES: dict[str, list[str]] = {
    "training-mkm-sr-demo": ["training", "--model", "mkm-sr"],
    "training-mkm-sr-cosine-demo": ["training", "--model", "mkm-sr", "--set", "model.scorer=cosine"],
    "training-m-sr-demo": ["training", "--model", "m-sr"],
    "training-sr-gnn-demo": ["training", "--model", "sr-gnn"],
    "training-narm-demo": ["training", "--model", "narm"],
    "training-stamp-demo": ["training", "--model", "stamp"],
    "training-gru4rec-demo": ["training", "--model", "gru4rec"],
    "training-compass-demo": ["training", "--model", "compass"],
    "evaluation-mkm-sr-demo": ["evaluation", "--model", "mkm-sr"],
    "evaluation-v-sknn-demo": ["evaluation", "--model", "v-sknn"],
    "prepare-1m": ["prepare", "--events", "1000000"],
    "prepare-jdata": ["prepare", "--events", "2450000", "--items", "134548"],
    "prepare-20m-polars": ["prepare", "--events", "20000000"],
    "prepare-20m-duckdb-2gb": ["prepare", "--events", "20000000", "--engine", "duckdb", "--memory-limit", "2GB"],
    "prepare-1m-spark": ["prepare", "--events", "1000000", "--engine", "spark", "--memory-limit", "2GB"],
    "prepare-20m-spark": ["prepare", "--events", "20000000", "--engine", "spark", "--memory-limit", "4GB"],
    "large-mkm-sr": ["large", "--model", "mkm-sr"],
    "large-compass": ["large", "--model", "compass"],
    "evaluation-mkm-sr-large": ["evaluation", "--model", "mkm-sr", "--examples", "100000", "--workers", "2"],
    "evaluation-compass-large": ["evaluation", "--model", "compass", "--examples", "3000"],
    "evaluation-v-sknn-large": ["evaluation", "--model", "v-sknn", "--examples", "3000"],
    "growth-log": ["growth", "--curves", "log"],
    "growth-catalogue": ["growth", "--curves", "catalogue"],
}
"""Arguments of `mkmsr bench`, or of `large.py` and `growth.py` here, for each result file."""
SCRIPTS = ("large", "growth")
"""Cases that are scripts of this folder."""
ONCE = {name for name in CASES if "-20m-" in name or "spark" in name}
"""Cases that take minutes and are measured once."""


@contextmanager
def large_log() -> Iterator[Path]:
    """A simulated log of JDATA's size, prepared in a temporary folder."""
    from simulated import JDATA, simulated

    with simulated(JDATA) as folder:
        yield folder


def arguments_of(name: str, demo: str, large: str, repetitions: int) -> list[str]:
    """Everything but where the result goes."""
    case = CASES[name]
    if case[0] == "growth":
        return case
    if case[0] == "prepare":
        return [*case, "--repetitions", str(repetitions)]
    data = ["--data", large if "large" in name else demo]
    return [*case, *data] if case[0] == "large" else [*case, *data, "--repetitions", str(repetitions)]


def main() -> None:
    """Measure the chosen cases one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the prepared Demo sample")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="some cases only")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        large = str(stack.enter_context(large_log())) if any("large" in name for name in arguments.only) else ""
        for name in arguments.only:
            command = arguments_of(name, arguments.data, large, 1 if name in ONCE else arguments.repetitions)
            case, *options = command
            program = [str(FOLDER / f"{case}.py")] if case in SCRIPTS else ["-m", "mkmsr", "bench", case]
            print(f"== {name}: {' '.join([*program, *options])}", flush=True)
            # The library of matrix products makes its threads when it is loaded; otherwise it would make one a core.
            threads = {} if case == "prepare" else {"OMP_NUM_THREADS": "1"}
            subprocess.run(
                [sys.executable, *program, *options, "--out", str(RESULTS / f"{name}.json")],
                check=True,
                env={**os.environ, **threads},
            )
    subprocess.run([sys.executable, str(FOLDER / "page.py")], check=True)


if __name__ == "__main__":
    main()

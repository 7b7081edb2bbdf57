"""Times the live service in every case of the results page: half an hour on two cores that do nothing else.

    python benchmarks/serving.py --compass runs/demo/bundle --mkm-sr runs/demo-mkm-sr/bundle

Each rate is run three times for 20 s, the median by p90 counts; COMPASS over Demo also once for 5 minutes at 1,000
requests a second. Bundles over 134,548 and 1 million simulated items are made. Raw results: results/serving-*.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mkmsr.bench.serving import make_bundle, time_serving
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runtime.files import atomic_write, scratch_folder

RESULTS = Path(__file__).parent / "results"
MADE = {
    "compass-large": (134_548, "compass"),
    "compass-million": (1_000_000, "compass"),
    "mkm-sr-million": (1_000_000, "mkm-sr"),
}
"""Items and model of the bundles that are made here."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "serving-empty": ("compass", {"rates": [1000.0], "empty": True, "repetitions": 3}),
    "serving-compass-demo": ("compass", {"rates": [400.0, 600.0, 800.0, 1000.0], "repetitions": 3}),
    "serving-compass-demo-5-minutes": ("compass", {"rates": [1000.0], "seconds": 300.0}),
    "serving-mkm-sr-demo": ("mkm-sr", {"rates": [400.0, 1000.0], "repetitions": 3}),
    "serving-compass-large": ("compass-large", {"rates": [200.0, 400.0], "repetitions": 3}),
    "serving-compass-million": ("compass-million", {"rates": [150.0], "repetitions": 3}),
    "serving-mkm-sr-million": ("mkm-sr-million", {"rates": [150.0], "repetitions": 3}),
}
"""The bundle and how it is timed, for each result file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compass", type=Path, required=True)
    parser.add_argument("--mkm-sr", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args()
    bundles = {"compass": asked.compass, "mkm-sr": asked.mkm_sr}
    with scratch_folder() as folder:
        for case in asked.only:
            name, how = CASES[case]
            if name not in bundles:
                items, model = MADE[name]
                bundles[name] = make_bundle(folder / name, items, ExperimentConfig(model={"name": model}))
            result = time_serving(bundles[name], **{"seconds": asked.seconds} | how)
            atomic_write(asked.out / f"{case}.json", json.dumps(result, indent=2) + "\n")
            for each in result["curve"]:
                print(case, {key: each[key] for key in ("rate", "errors", "p50_ms", "p90_ms", "p99_ms")}, flush=True)


if __name__ == "__main__":
    main()

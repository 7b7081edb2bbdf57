"""The live service under a constant rate of requests: times, errors, memory, and whether its lists are exact."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mkmsr.bench.arrivals import Arrivals, Load, Outcome
from mkmsr.bundle.model_bundle import ModelBundle, load_bundle, new_bundle, save_bundle
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.shop import SimulateOptions
from mkmsr.data.simulate import simulate
from mkmsr.errors import ServiceError
from mkmsr.recommend import Recommender
from mkmsr.reports.figures import INKS, canvas, panel_title, render
from mkmsr.runs.config import ExperimentConfig, new_model
from mkmsr.runtime.environment import environment, peak_mib, spread, tree_peak_mib
from mkmsr.training.trainer import fitting_data

_SESSIONS_PER_ITEM = 3.4
_MOST_SESSIONS = 455_000
"""Sessions for each item as in JDATA, and never more than JDATA has."""
_COMPARED = 200
"""Lists that are compared with the recommender's."""
_WARM_UP_SECONDS = 2.0
_END_SECONDS = 10.0


def make_bundle(path: Path, items: int, config: ExperimentConfig) -> Path:
    """Save a bundle over a simulated catalogue of so many items; its model has first weights, which cost the same."""
    sessions = min(round(_SESSIONS_PER_ITEM * items), _MOST_SESSIONS)
    log = simulate(SimulateOptions(sessions=sessions, items=items)).to_log()
    dataset = prepare(log, PrepareOptions(catalogue="attributes"))
    model = new_model(dataset, config, seed=0)
    model.observe(fitting_data(dataset, refit=True))
    bundle = new_bundle(model, name=config.name, config=config.settings(), dataset=dataset, refit=True)
    return save_bundle(path, bundle)


def time_serving(
    bundle: Path,
    *,
    rates: Sequence[float],
    seconds: float,
    workers: int = 1,
    store: str = "auto",
    repetitions: int = 1,
    empty: bool = False,
) -> dict[str, Any]:
    """Times of `POST /v1/recommendations` at each rate, each against a service that has just started.

    A request appends one event to a stored session and asks for 20 items by their ids. The generator shares the
    machine with the service; its part of the processor is stated. The main figures are those of the last rate; of
    several repetitions the median run by p90 counts. With `empty` a request asks whether the service lives, and for
    nothing else: what is left without parsing, sessions and model.
    """
    loaded = load_bundle(bundle)
    curve = []
    for rate in rates:
        runs = [
            _measure(bundle, loaded, rate, seconds, workers=workers, store=store, empty=empty, seed=number)
            for number in range(repetitions)
        ]
        runs.sort(key=lambda run: float(run["p90_ms"]))
        kept = runs[len(runs) // 2]
        curve.append(kept | {"spread": spread(p90_ms=[run["p90_ms"] for run in runs])})
    last = curve[-1]
    return {
        "model": loaded.name,
        "items": len(loaded.items),
        **{key: value for key, value in last.items() if key != "spread"},
        "workers": workers,
        "seconds": seconds,
        "repetitions": repetitions,
        "case": "serving",
        "curve": [{key: value for key, value in each.items() if key != "store"} for each in curve],
        "spread": last["spread"],
        "environment": environment(),
    }


def draw_latency(result: dict[str, Any]) -> bytes:
    """Draw latency over rate as SVG."""
    rates = [each["rate"] for each in result["curve"]]
    with canvas(width=5.2, height=3.0, panels=1) as (figure, [axes]):
        panel_title(axes, f"{result['model']}, {result['items']:,} items")
        for name, ink in (("p50_ms", "muted"), ("p90_ms", "accent"), ("p99_ms", "warm")):
            times = [each[name] for each in result["curve"]]
            axes.plot(rates, times, marker="o", markersize=3.5, color=INKS[ink], label=name.removesuffix("_ms"))
        axes.set_yscale("log")
        axes.set_xlabel("requests a second")
        axes.set_ylabel("milliseconds")
        axes.legend(frameon=False)
        return render(figure, "latency")


def _measure(
    bundle: Path, loaded: ModelBundle, rate: float, seconds: float, *, workers: int, store: str, empty: bool, seed: int
) -> dict[str, Any]:
    operations = loaded.operations.ids
    load = Load(loaded.items.ids, loaded.item_counts[1:] + 1.0, operations, rate, seconds, seed, empty=empty)
    warm = replace(load, rate=min(rate, 100.0), seconds=_WARM_UP_SECONDS, seed=seed + 1)
    with service(bundle, workers, store) as (port, kind, _):
        Arrivals(port, warm).run()
        busy = time.process_time()
        outcome = Arrivals(port, load, keep=_COMPARED).run()
        busy = time.process_time() - busy
        all_peaks, own_peak = tree_peak_mib(), peak_mib()
    if not outcome.milliseconds:
        raise ServiceError(f"none of {outcome.errors:,} requests was answered with a list")
    return {
        "rate": rate,
        "achieved": len(outcome.milliseconds) / outcome.seconds,
        "errors": outcome.errors,
        "degraded": outcome.degraded,
        **_percentiles(outcome),
        "peak_mib": all_peaks - own_peak if all_peaks is not None and own_peak is not None else None,
        "recall_at_20": None if empty else _recall(loaded, outcome),
        "generator_cpu_share": busy / outcome.seconds,
        "store": kind,
    }


def _percentiles(outcome: Outcome) -> dict[str, float]:
    return {f"p{share}_ms": float(np.percentile(outcome.milliseconds, share)) for share in (50, 90, 99)}


def _recall(loaded: ModelBundle, outcome: Outcome) -> float:
    """Part of the recommender's own lists that the service's held: 1 where it ranks exactly."""
    sessions = [events for events, _ in outcome.kept]
    exact = Recommender(loaded).recommend_many(sessions, k=20)
    shares = [
        len({each.item for each in wanted.items} & set(listed)) / max(1, len(wanted.items))
        for wanted, (_, listed) in zip(exact, outcome.kept, strict=True)
    ]
    return float(np.mean(shares)) if shares else 0.0


@contextmanager
def service(bundle: Path, workers: int = 1, store: str = "auto") -> Iterator[tuple[int, str, int]]:
    """Start a service in a process of its own on a free port: the port, where sessions live, and the process."""
    command = [sys.executable, "-m", "mkmsr", "serve", str(bundle), "--port", "0", "--json"]
    command += ["--workers", str(workers), "--store", store]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise ServiceError(f"the service ended with status {process.wait()} before it answered")
            told = json.loads(line)
            yield int(told["url"].rpartition(":")[2]), told["store"], process.pid
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
            process.kill()

"""What preparing a log costs, in events a second."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from mkmsr.data.engines import EngineOptions, open_engine
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.data.shop import SimulateOptions
from mkmsr.data.simulate import simulate
from mkmsr.runtime.environment import environment, spread, timed, tree_cpu_seconds, tree_peak_mib
from mkmsr.runtime.files import scratch_folder

_EVENTS_PER_SESSION = 4.5
"""Simulated sessions have about 5.1 events; a log of N events is cut from a slightly longer one."""
_EVENTS_PER_ITEM = 18
"""Events an item: JDATA's 2.45 million events over 134,548 items."""


def time_preparation(
    events: int,
    *,
    items: int | None = None,
    repetitions: int = 3,
    engine: EngineOptions | None = None,
    log: Path | None = None,
) -> dict[str, Any]:
    """Time the way from a raw Parquet log, of a simulated shop with exactly so many events, to saved prepared data.

    Sessions are cut by pauses, doubles dropped, rare items and short sessions filtered again and again, the splits
    made, everything encoded, the triples joined. The log is made in a process of its own, so that memory is that of
    preparation alone; it counts the processes that an engine starts. `log` is a folder that `mkmsr simulate` wrote, to
    be prepared instead. A small preparation warms up; the engine is started anew for each.
    """
    chosen = engine or EngineOptions()
    options = SimulateOptions(
        sessions=max(10, round(events / _EVENTS_PER_SESSION)),
        items=items or max(50, events // _EVENTS_PER_ITEM),
    )
    with scratch_folder(chosen.scratch) as folder:
        out = folder / "prepared"
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(_write_log, SimulateOptions(sessions=500, items=100), folder / "small", 2_000).result()
            if log is None:
                log = folder / "log"
                pool.submit(_write_log, options, log, events).result()
        _prepare_log(folder / "small", out, chosen)
        source, runs = log, list[tuple[dict[str, Any], float | None, float]]()
        seconds = [timed(lambda: runs.append(_prepare_log(source, out, chosen))) for _ in range(repetitions)]
    sizes, peaks, busy = runs[-1][0], [run[1] for run in runs], [run[2] for run in runs]
    return {
        "events": sizes["events"],
        "seconds": median(seconds),
        "events_per_second": sizes["events"] / median(seconds),
        "peak_mib": max((peak for peak in peaks if peak is not None), default=None),
        "engine": chosen.engine,
        "cpu_seconds": median(busy),
        "case": "prepare",
        "memory_limit": chosen.memory_limit,
        **sizes,
        "spread": spread(seconds=seconds),
        "environment": environment(),
    }


def _write_log(options: SimulateOptions, folder: Path, events: int) -> None:
    """Simulate a log and keep its first events."""
    log = simulate(options)
    replace(log, events=log.events.head(events)).save(folder)


def _prepare_log(folder: Path, out: Path, engine: EngineOptions) -> tuple[dict[str, Any], float | None, float]:
    """Return sizes and fingerprint, the peak of memory so far in MiB, and seconds of processor time."""
    options = ReadOptions(columns={"session": ""}, attributes=folder / "attributes.parquet")
    before = tree_cpu_seconds()
    with open_engine(engine) as running:
        log = read_log("events", folder / "events.parquet", options)
        dataset = prepare(log, PrepareOptions(drop_duplicates=True, min_item_events=3), engine=running)
        dataset.save(out)
        sizes = {
            "events": dataset.metadata["preparation"]["events"]["read"],
            "sessions": sum(map(len, (dataset.train, dataset.validation, dataset.test))),
            "items": len(dataset.items),
            "triples": len(dataset.knowledge),
            "fingerprint": dataset.fingerprint,
        }
        return sizes, tree_peak_mib(), tree_cpu_seconds() - before

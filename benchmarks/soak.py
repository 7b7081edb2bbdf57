"""Runs the live service for long: requests, a swap of the bundle every minute, a catalogue change every second.

    python benchmarks/soak.py runs/demo/bundle [--minutes 30] [--rate 10] [--sessions 1000000] [--out soak.json]

Then a second service gets so many distinct sessions, one event each. Memory is that of the service's process.
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mkmsr.bench.serving import Arrivals, Load, service
from mkmsr.bundle.model_bundle import load_bundle, save_bundle
from mkmsr.runtime.environment import cpu_seconds, environment
from mkmsr.runtime.files import atomic_write, scratch_folder

_SWAP_SECONDS, _CHANGE_SECONDS, _SAMPLE_SECONDS = 60.0, 1.0, 30.0
_ADD_EVERY = 10
"""Of so many catalogue changes one adds an item; the others state facts, retire items and bring them back."""
_SESSIONS_A_SAMPLE = 20_000
_CONNECTIONS = 16
_PATIENCE = 150.0


def soak(bundle: Path, *, minutes: float, rate: float) -> dict[str, Any]:
    """Return what became of requests, swaps and changes, and the service's memory over time."""
    loaded = load_bundle(bundle)
    items, seconds = loaded.items.ids, 60 * minutes
    load = Load(items, loaded.item_counts[1:] + 1.0, loaded.operations.ids, rate, seconds, 0)
    done: Counter[str] = Counter()
    memory: list[list[float]] = []
    with scratch_folder() as folder, service(bundle) as (port, _, process):
        other = save_bundle(folder / "other", replace(loaded, metadata=loaded.metadata | {"metrics": {"other": True}}))
        before = cpu_seconds(process)

        def swap(number: int) -> None:
            path = str((other, bundle)[number % 2].absolute())
            done["swaps" if _ask(port, "POST", "/v1/admin/bundle", {"path": path}) == 200 else "failed_swaps"] += 1

        def change(number: int) -> None:
            status = _ask(port, *_change(number, items))
            done["changes" if status == 200 else "failed_changes"] += 1

        def sample(number: int) -> None:
            memory.append([round(_SAMPLE_SECONDS * number / 60, 1), _resident_mib(process)])

        beats = ((swap, _SWAP_SECONDS), (change, _CHANGE_SECONDS), (sample, _SAMPLE_SECONDS))
        with _every(*beats):
            outcome = Arrivals(port, load).run()
        busy = (cpu_seconds(process) - before) / outcome.seconds
    return {
        "minutes": minutes,
        "rate": rate,
        "requests": len(outcome.milliseconds),
        "errors": outcome.errors,
        "degraded": outcome.degraded,
        **{name: done[name] for name in ("swaps", "failed_swaps", "changes", "failed_changes")},
        "processor_share": busy,
        "memory_mib": memory,
    }


def fill(bundle: Path, *, sessions: int) -> dict[str, Any]:
    """Return the service's memory while so many sessions come, one event each; the default capacity is 256 MiB."""
    loaded = load_bundle(bundle)
    memory, errors = [], 0
    with service(bundle) as (port, _, process):
        memory.append([0, _resident_mib(process)])
        lines = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(_CONNECTIONS)]
        for begin in range(0, sessions, _CONNECTIONS):
            for number, line in enumerate(lines, start=begin):
                event = {"item": loaded.items.ids[number % len(loaded.items)], "operation": loaded.operations.ids[0]}
                body = {"session": f"visitor-{number}", "consent": True, "events": [event]}
                line.request("POST", "/v1/events", json.dumps(body), {"content-type": "application/json"})
            for line in lines:
                answer = line.getresponse()
                answer.read()
                errors += answer.status != 200
            if (begin + _CONNECTIONS) % _SESSIONS_A_SAMPLE < _CONNECTIONS:
                memory.append([begin + _CONNECTIONS, _resident_mib(process)])
    return {"sessions": sessions, "capacity_mib": 256, "errors": errors, "memory_mib": memory}


def _change(number: int, items: Any) -> tuple[str, str, Mapping[str, Any]]:
    """The change of one beat: method, path and body."""
    item = items[number * 37 % len(items)]
    if number % _ADD_EVERY == 0:
        return "POST", "/v1/catalogue/items", {"items": [{"item": f"soak-{number}"}]}
    if number % 3 == 0:
        return "PATCH", "/v1/catalogue/facts", {"facts": {"in_stock": {item: "yes" if number % 2 else "no"}}}
    kind = "retire" if number % 3 == 1 else "restore"
    return "POST", f"/v1/catalogue/{kind}", {"items": [items[(number - number % 3) * 37 % len(items)]]}


def _ask(port: int, method: str, path: str, body: Mapping[str, Any]) -> int:
    """The status of an answer; 0 where there is none in time."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        line.request(method, path, json.dumps(body), {"content-type": "application/json"})
        answer = line.getresponse()
        answer.read()
        return answer.status
    except OSError:
        return 0
    finally:
        line.close()


@contextmanager
def _every(*beats: tuple[Callable[[int], None], float]) -> Iterator[None]:
    """Call each function with 1, 2, ... every so many seconds, in a thread of its own, while the block lasts."""
    over = threading.Event()

    def beat(function: Callable[[int], None], seconds: float) -> None:
        began, number = time.monotonic(), 1
        while not over.wait(max(0.0, began + number * seconds - time.monotonic())):
            function(number)
            number += 1

    threads = [threading.Thread(target=beat, args=each) for each in beats]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _resident_mib(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return round(pages * 4096 / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    result: dict[str, Any] = {"case": "soak", "environment": environment()}
    if asked.minutes:
        result["soak"] = soak(asked.bundle, minutes=asked.minutes, rate=asked.rate)
    if asked.sessions:
        result["sessions"] = fill(asked.bundle, sessions=asked.sessions)
    text = json.dumps(result, indent=1) + "\n"
    if asked.out is None:
        print(text)
    else:
        atomic_write(asked.out, text)


if __name__ == "__main__":
    main()

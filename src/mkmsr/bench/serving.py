"""The live service under a constant rate of requests: times, errors, memory, and whether its lists are exact."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

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

_VISITORS = 2000
"""Sessions that take turns."""
_MOST_CONNECTIONS = 256
_MEAN_EVENTS = 5.4
"""Events of a session, as in JDATA."""
_PATIENCE = 30.0
"""Seconds that an answer may take before the request counts as an error."""


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
        **{f"p{share}_ms": float(np.percentile(outcome.milliseconds, share)) for share in (50, 90, 99)},
        "peak_mib": all_peaks - own_peak if all_peaks is not None and own_peak is not None else None,
        "recall_at_20": None if empty else _recall(loaded, outcome),
        "generator_cpu_share": busy / outcome.seconds,
        "store": kind,
    }


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


@dataclass(frozen=True)
class Load:
    """What is asked: ids drawn by weights of any sum, operations drawn alike, requests a second, for some seconds; or
    with `empty`, whether the service lives."""

    items: Sequence[str]
    weights: np.ndarray
    operations: Sequence[str]
    rate: float
    seconds: float
    seed: int = 0
    empty: bool = False


@dataclass
class Outcome:
    """What came of the requests.

    Milliseconds are of the answered requests, from the moment at which each was due; errors those without a list.
    Degraded answers say that they are not as good as asked. Seconds go from the first arrival to the last answer; the
    first sessions are kept, as (events, items of the list).
    """

    milliseconds: list[float] = field(default_factory=list)
    errors: int = 0
    degraded: int = 0
    seconds: float = 0.0
    kept: list[tuple[list[tuple[str, str]], list[str]]] = field(default_factory=list)


@dataclass
class _Visitor:
    session: str
    left: int
    events: list[tuple[str, str]] = field(default_factory=list)


class Arrivals:
    """Sends a load to a port of 127.0.0.1 at a constant rate, whether or not the service keeps up (an open loop).

    The time of a request counts from the moment at which it was due, so that a slow answer also counts for those that
    had to wait behind it. Each arrival picks a session that has no request under way: a visitor acts on the list
    before. The first `keep` lists are kept, to be compared with others.
    """

    def __init__(self, port: int, load: Load, *, keep: int = 0):
        self._port, self._load, self._keep = port, load, keep
        self._outcome = Outcome()
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[tuple[float, _Visitor]] = deque()
        self._open = 0
        self._numbers = count()
        rng = np.random.default_rng(load.seed)
        total = int(load.rate * load.seconds)
        shares = np.asarray(load.weights, dtype=np.float64)
        self._items = iter(rng.choice(len(load.items), size=total, p=shares / shares.sum()).tolist())
        self._operations = iter(rng.integers(len(load.operations), size=total).tolist())
        self._lengths = rng.geometric(1 / _MEAN_EVENTS, size=total + _VISITORS).tolist()
        self._visitors = deque(self._new_visitor() for _ in range(_VISITORS))

    def run(self) -> Outcome:
        """Send all requests, wait for their answers, and return what came of them."""
        return asyncio.run(self._run())

    async def _run(self) -> Outcome:
        began = time.perf_counter() + 0.05
        tasks: set[asyncio.Task[None]] = set()
        for number in range(int(self._load.rate * self._load.seconds)):
            due = began + number / self._load.rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            elif number % 16 == 0:
                await asyncio.sleep(0)
            visitor = self._visitors.popleft() if self._visitors else self._new_visitor()
            if self._idle:
                self._idle.popleft().send(self._request(visitor), due, visitor)
            elif self._open < _MOST_CONNECTIONS:
                self._open += 1
                task = asyncio.create_task(self._connect(due, visitor))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            else:
                self._waiting.append((due, visitor))
        until = time.perf_counter() + _PATIENCE
        while (len(self._idle) < self._open or tasks) and time.perf_counter() < until:
            await asyncio.sleep(0.01)
        self._outcome.errors += self._open - len(self._idle) + len(self._waiting)
        self._outcome.seconds = time.perf_counter() - began
        for connection in self._idle:
            connection.close()
        return self._outcome

    async def _connect(self, due: float, visitor: _Visitor) -> None:
        try:
            _, made = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), "127.0.0.1", self._port
            )
        except OSError:
            self._open -= 1
            self._outcome.errors += 1
            return
        made.send(self._request(visitor), due, visitor)

    def _request(self, visitor: _Visitor) -> bytes:
        if self._load.empty:
            return f"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n\r\n".encode()
        event = self._load.items[next(self._items)], self._load.operations[next(self._operations)]
        visitor.events.append(event)
        asked = {
            "session": visitor.session,
            "consent": True,
            "append": [{"item": event[0], "operation": event[1]}],
            "fields": [],
        }
        body = json.dumps(asked).encode()
        head = (
            f"POST /v1/recommendations HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _new_visitor(self) -> _Visitor:
        number = next(self._numbers)
        return _Visitor(f"visitor-{self._load.seed}-{number}", self._lengths[number % len(self._lengths)])

    def answered(self, connection: _Connection, status: int, body: bytes, due: float, visitor: _Visitor) -> None:
        """Take note of an answer, and give the connection the request that waits longest."""
        outcome = self._outcome
        if status == 200 and (self._load.empty or b'"items":[{' in body):
            outcome.milliseconds.append(1000 * (time.perf_counter() - due))
            outcome.degraded += b'"degraded":true' in body
            if len(outcome.kept) < self._keep and not self._load.empty:
                listed = [each["item"] for each in json.loads(body)["items"]]
                outcome.kept.append((list(visitor.events), listed))
        else:
            outcome.errors += 1
        visitor.left -= 1
        self._visitors.append(visitor if visitor.left > 0 else self._new_visitor())
        if self._waiting:
            due, visitor = self._waiting.popleft()
            connection.send(self._request(visitor), due, visitor)
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection, *, asked: bool) -> None:
        """Take note that the service closed a connection, perhaps without an answer."""
        self._open -= 1
        self._outcome.errors += asked
        if not asked and connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    """A connection that is kept open, with one request at a time."""

    def __init__(self, arrivals: Arrivals):
        self._arrivals = arrivals
        self._received = b""
        self._asked: tuple[float, _Visitor] | None = None
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def send(self, request: bytes, due: float, visitor: _Visitor) -> None:
        self._asked = due, visitor
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self._asked is None:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
        if len(body) >= length:
            self._received, (due, visitor), self._asked = b"", self._asked, None
            self._arrivals.answered(self, int(head.split(b" ", 2)[1]), body, due, visitor)

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrivals.lost(self, asked=self._asked is not None)
        self._asked = None

"""Constant arrivals of requests at a service of this machine, whether or not it keeps up (an open loop).

The time of a request counts from the moment at which it was due, so that a slow answer also counts for those that had
to wait behind it. Each arrival picks a session that has no request under way: a visitor acts on the list before.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

_VISITORS = 2000
"""Sessions that take turns."""
_MOST_CONNECTIONS = 256
_MEAN_EVENTS = 5.4
"""Events of a session, as in JDATA."""
_PATIENCE = 30.0
"""Seconds that an answer may take before the request counts as an error."""


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

    Args:
        milliseconds: Of the answered ones, from the moment at which each was due.
        errors: Requests without an answer of status 200, or with no items.
        degraded: Answers that say that they are not as good as asked.
        seconds: From the first arrival to the last answer.
        kept: The first sessions, as (events, items of the list).
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
    """Sends a load to the service at a port of 127.0.0.1; `keep` lists are kept, to be compared with others."""

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

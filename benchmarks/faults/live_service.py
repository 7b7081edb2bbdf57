"""The live service as a surface: requests, and what answers them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from surfaces import Input, parsed

from mkmsr.errors import ServiceError
from mkmsr.serve.settings import Settings
from mkmsr.serve.worker import _made

EVENT = {"item": "item-03", "operation": "click", "time": 1.7e9}
REQUESTS: list[Any] = [
    ("POST", "/v1/recommendations", "", {"events": [EVENT], "k": 5, "where": ["colour=red"], "at_most": {"brand": 1}}),
    ("POST", "/v1/recommendations", "", {"session": "a", "exclude_operations": ["order"], "exclude": ["plain"]}),
    ("POST", "/v1/events", "", {"session": "a", "consent": True, "events": [EVENT, EVENT]}),
    ("GET", "/v1/items/plain/similar", "k=5&where=colour%3Dred", None),
    ("GET", "/v1/items", "search=item&relation=colour&value=red&offset=2&limit=5", None),
    ("POST", "/v1/explanations", "", {"events": [EVENT], "items": ["item-04", "item-05"]}),
    ("GET", "/v1/sessions/a", "", None),
    ("DELETE", "/v1/sessions/a", "", None),
    ("POST", "/v1/catalogue/retire", "", {"items": ["item-07"]}),
    ("PATCH", "/v1/catalogue/facts", "", {"facts": {"price": {"item-02": 9, "item-01": [1.5, "x"]}}}),
    ("POST", "/v1/catalogue/items", "", {"items": [{"item": "new", "attributes": {"colour": "red"}}]}),
    ("GET", "/v1/service", "", None),
]


class Service:
    """The whole service without its socket: requests go into its gate."""

    def __init__(self, bundle: Path) -> None:
        self._settings = Settings(bundle=bundle, patience=30.0)
        self._loop, self._count = asyncio.new_event_loop(), 0
        self._parts: Any = None

    async def _start(self) -> None:
        if self._parts is not None:
            self._following.cancel()
            self._parts.engine.close()
            self._parts.keeper.close()
        application, self._parts = _made(self._settings, b"x" * 32, "faults")
        await self._parts.changes.start()
        application.is_ready = True
        self._gate, self._following = application.gate, asyncio.create_task(self._parts.changes.follow())

    def read(self, _at: Path, given: Input) -> None:
        """Send a request; an answer of 500, or none, is a fault. A new service now and then has all items again."""
        if self._count % 1000 == 0:
            self._loop.run_until_complete(self._start())
        self._count += 1
        head = parsed(given, "head.json")
        if not isinstance(head, list) or len(head) != 3 or not all(isinstance(each, str) for each in head):
            head = ["POST", "/v1/recommendations", ""]
        (method, path, query), content = head, given.get("body.json", b"")
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode("latin-1", "replace")}
        scope |= {"headers": [(b"host", b"localhost"), (b"content-type", b"application/json")]}
        scope |= {"raw_path": path.encode("utf-8", "replace"), "client": ("127.0.0.1", 1), "state": {"admin": True}}
        answers: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            answers.append(message)

        self._loop.run_until_complete(self._gate(scope, receive, send))
        if not answers or answers[0]["status"] >= 500 or self._following.done():
            raise AssertionError(f"{method} {path[:40]!r}: {answers[:1]}, {self._following}")
        if answers[0]["status"] >= 400:
            raise ServiceError("refused")


def requests() -> list[Input]:
    """Requests whose body is changed apart from where they go."""
    return [
        {"head.json": json.dumps(head).encode(), "body.json": json.dumps(body).encode()} for *head, body in REQUESTS
    ]

"""A real service on a free port, in a thread of the test, and a client for it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from small_shop import fitted, small_shop

from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.serve.settings import Settings, check, session_secret
from mkmsr.serve.worker import listening_socket, run_worker

JSON = {"content-type": "application/json"}


def write_bundle(path: Path, name: str = "compass", *, metrics: Mapping[str, Any] | None = None) -> Path:
    """A bundle of the small shop; a model with fresh weights ranks as surely as a trained one."""
    dataset = small_shop()
    config, model = fitted(name, dataset)
    return save_bundle(path, new_bundle(model, name=name, config=config, dataset=dataset, metrics=metrics))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def items(self) -> list[str]:
        return [each["item"] for each in self.json["items"]]


@dataclass(frozen=True)
class Live:
    """A service that runs: its ports on this machine."""

    port: int
    admin_port: int | None = None

    def call(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, admin: bool = False
    ) -> Answer:
        """Send a request on a connection of its own; a body that is no bytes is sent as JSON."""
        port = self.admin_port if admin and self.admin_port else self.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, content, {**(JSON if content is not None else {}), **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
        finally:
            connection.close()

    def recommend(self, **asked: Any) -> Answer:
        return self.call("POST", "/v1/recommendations", asked)

    def send(self, session: str, *events: Any, **more: Any) -> Answer:
        listed = [each if isinstance(each, dict) else {"item": each, "operation": "click"} for each in events]
        return self.call("POST", "/v1/events", {"session": session, "consent": True, "events": listed, **more})

    def raw(self, content: bytes, *, seconds: float = 15.0) -> bytes:
        """Send bytes and return all that comes back until the service closes the connection or says no more."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(content)
            received = b""
            try:
                while part := connection.recv(65536):
                    received += part
            except (TimeoutError, ConnectionResetError):
                pass
            return received


@contextmanager
def running(settings: Settings) -> Iterator[Live]:
    """A service in a thread of this process."""
    check(settings)
    public = listening_socket(settings.host, 0, shared=False)
    admin = listening_socket("127.0.0.1", 0, shared=False) if settings.keys else None
    settings = replace(settings, port=public.getsockname()[1])
    ready, problems = threading.Event(), []
    control: dict[str, Any] = {}

    async def main() -> None:
        control["loop"], control["stop"] = asyncio.get_running_loop(), asyncio.Event()
        secret = session_secret(settings)
        await run_worker(
            settings,
            secret=secret,
            run="test",
            public=public,
            admin=admin,
            ready=lambda lists: ready.set(),
            stop=control["stop"],
        )

    def work() -> None:
        try:
            asyncio.run(main())
        except Exception as error:
            problems.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(60)
    if problems:
        raise problems[0]
    try:
        yield Live(settings.port, admin.getsockname()[1] if admin else None)
    finally:
        control["loop"].call_soon_threadsafe(control["stop"].set)
        thread.join(20)
        public.close()
    assert not problems, problems

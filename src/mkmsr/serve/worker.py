"""One worker: it loads the bundles, opens the store, listens, and drains when it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mkmsr.errors import ServiceError
from mkmsr.serve.access import Access, read_keys
from mkmsr.serve.app import Application
from mkmsr.serve.changes import Changes, load
from mkmsr.serve.engine import Engine, Pair, Slot, warm_up
from mkmsr.serve.feedback import Feedback
from mkmsr.serve.service import Cards, Keeper, Visitors
from mkmsr.serve.sessions import MOST_KEPT, Sessions
from mkmsr.serve.settings import Settings, open_store
from mkmsr.serve.stores import StoreDown

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 4
_PURGE_SECONDS = 20.0
_HEAD_SECONDS = 10.0
_HEAD_BYTES = 32 * 1024
_KEEP_ALIVE_SECONDS = 75
_SWITCH_SECONDS = 0.001
"""How long the computing thread may keep the interpreter from the event loop; Python's usual 5 ms would be felt."""


def listening_socket(host: str, port: int, *, shared: bool) -> socket.socket:
    """Return a bound socket, on whose connections asyncio sets TCP_NODELAY: it must name its protocol for that.

    An address that is taken, or none of this machine, raises ServiceError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise ServiceError(f"cannot listen at {host}:{port}: {error.strerror}") from None
    return made


async def run_worker(
    settings: Settings,
    *,
    secret: bytes,
    run: str,
    public: socket.socket,
    admin: socket.socket | None,
    ready: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set, then finish the requests that are under way.

    `secret` is the key of the hash of session ids, `run` the name of this run of the service. Without `admin`, `public`
    serves the shop's own servers too. `ready` is called when requests are answered, and told where lists come from.
    """
    torch.set_num_threads(1)
    sys.setswitchinterval(_SWITCH_SECONDS)
    application, parts = _made(settings, secret, run)
    await parts.changes.start()
    for slot in parts.engine.slots.values():
        await asyncio.to_thread(warm_up, slot.recommender, [])
    servers = [_Server(_marked(application.gate, is_admin=False), public, settings.proxies)]
    if admin is not None:
        servers.append(_Server(_marked(application.gate, is_admin=True), admin))
    endless = (parts.changes.follow(), parts.changes.report_often(), _look_after(parts.keeper, parts.feedback))
    background = [asyncio.create_task(each) for each in endless]
    serving = [asyncio.create_task(each.serve([each.listener])) for each in servers]
    while not all(each.started for each in servers):
        await asyncio.sleep(0.005)
    application.is_ready = True
    ready(parts.engine.first.serving.index.reason)
    ended = asyncio.create_task(stop.wait())
    await asyncio.wait([ended, *background], return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in background if task.done()]
    application.is_ready = False
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*serving)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    parts.engine.close()
    parts.keeper.close()
    for task in failed:
        task.result()  # raises what ended it: a worker that cannot follow changes must not go on


class _Parts(NamedTuple):
    engine: Engine
    keeper: Keeper
    changes: Changes
    feedback: Feedback


def _made(settings: Settings, secret: bytes, run: str) -> tuple[Application, _Parts]:
    """The application, and those of its parts that a worker starts and ends."""
    keys = [] if settings.keys is None else read_keys(settings.keys)
    slots = _slots(settings)
    longest = max(slot.recommender.max_events for slot in slots.values())
    sessions = Sessions(open_store(settings), secret, 60 * settings.idle_minutes, max(MOST_KEPT, longest))
    keeper = Keeper(sessions)
    operations = next(iter(slots.values())).recommender.bundle.operations.ids
    feedback = Feedback(operations, lambda: {slot.name: slot.serving for slot in slots.values()})
    engine = Engine(
        slots, patience=settings.patience, most_queued=settings.most_queued, observe_batch=feedback.batch.observe
    )

    async def sample() -> list[list[Pair]]:
        found: list[list[Pair]] = await keeper.ask(lambda store: sessions.sample(64))
        return found

    changes = Changes(engine, keeper.ask, worker=secrets.token_hex(8), run=run, sample=sample, share=settings.share)
    cards = Cards(settings.image_hosts, lambda: changes.facts)
    visitors = Visitors(engine, keeper, cards, feedback, settings.split)
    access = Access(keys, settings.origins, 1 / settings.workers)
    application = Application(
        settings, access, run, engine=engine, keeper=keeper, changes=changes, cards=cards, visitors=visitors
    )
    return application, _Parts(engine, keeper, changes, feedback)


def _slots(settings: Settings) -> dict[str, Slot]:
    """The places where bundles serve, by name: the model's, with a number for a second one of the same."""
    slots: dict[str, Slot] = {}
    for path in (settings.bundle, settings.beside):
        if path is not None:
            serving = load(str(path), settings.share)
            name = serving.recommender.bundle.name
            name = f"{name}-2" if name in slots else name
            slots[name] = Slot(name, serving)
    return slots


async def _look_after(keeper: Keeper, feedback: Feedback) -> None:
    """Remove the bytes of sessions that are out of date, and warn once of each bundle that does worse, for ever."""
    warned: set[str] = set()
    while True:
        await asyncio.sleep(_PURGE_SECONDS)
        with suppress(StoreDown):
            await keeper.ask(lambda store: store.purge())
        for found in feedback.live().values():
            if found["drift"] and found["bundle"] not in warned:
                warned.add(found["bundle"])
                _log.warning("bundle %s: %s", found["bundle"], found["drift"])


def _marked(app: ASGIApp, *, is_admin: bool) -> ASGIApp:
    """The application of one listener."""

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"admin": is_admin}
        await app(scope, receive, send)

    return marked


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, which alone would wait for ever for the head of a request, and read one of any length."""

    _timer: asyncio.TimerHandle | None = None
    _is_head, _head_bytes = True, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(_HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._is_head and self._head_bytes > _HEAD_BYTES:
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._timer is None:
            self._timer = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        self._cancel()
        self._is_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_head, self._head_bytes = True, 0

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    """Uvicorn on a socket that was made here; signals are the worker's."""

    def __init__(self, app: ASGIApp, listener: socket.socket, proxies: Sequence[str] = ()):
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=bool(proxies),
                forwarded_allow_ips=list(proxies),
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_DRAIN_SECONDS,
            )
        )
        self.listener = listener

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

"""The service as processes: one worker in this one, or several that share a port and are started anew when they die."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from mkmsr.errors import MkmsrError, ServiceError
from mkmsr.serve.settings import Settings, can_share_port, check, session_secret
from mkmsr.serve.worker import listening_socket, run_worker

_log = logging.getLogger(__name__)

_END_SECONDS = 5.0
_YOUNG_SECONDS = 10.0
_LONGEST_PAUSE = 30.0
"""A worker that ends just after its start, again and again, is started anew after ever longer pauses."""


@dataclass(frozen=True)
class Address:
    """Where a service answers.

    `admin` is for the shop's own servers, and the same where there are no keys; `lists` says where lists come from.
    """

    url: str
    admin: str
    workers: int
    store: str
    lists: str = ""


@dataclass(frozen=True)
class _Plan:
    """What every worker is told."""

    settings: Settings
    secret: bytes = field(repr=False)
    run: str
    admin_port: int | None

    def listeners(self) -> tuple[socket.socket, socket.socket | None]:
        shared = self.settings.workers > 1
        public = listening_socket(self.settings.host, self.settings.port, shared=shared)
        admin = None if self.admin_port is None else listening_socket("127.0.0.1", self.admin_port, shared=shared)
        return public, admin


def serve(settings: Settings, ready: Callable[[Address], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests that are under way.

    Args:
        settings: What the service is told; more than one worker become one where a port cannot be shared.
        ready: Called when all workers answer.

    Settings, a bundle, a store or keys that cannot be used raise their MkmsrError.
    """
    if settings.workers > 1 and not can_share_port():
        _log.warning("this system cannot share a port between processes: one worker serves")
        settings = replace(settings, workers=1)
    check(settings)
    _allow_connections()
    with ExitStack() as stack:
        kept = settings.state
        if settings.kind_of_store == "sqlite" and kept is None:
            kept = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mkmsr-serve-")))
        settings = replace(settings, state=kept)
        plan = _Plan(settings, session_secret(settings), secrets.token_hex(8), _admin_port(settings))
        public, admin = plan.listeners()  # With several workers these only hold the ports: they never listen.
        stack.callback(public.close)
        settings = replace(settings, port=public.getsockname()[1])
        admin_port = None
        if admin is not None:
            stack.callback(admin.close)
            admin_port = admin.getsockname()[1]
        plan = replace(plan, settings=settings, admin_port=admin_port)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{host}:{settings.port}"
        address = Address(
            url, url if admin is None else f"http://127.0.0.1:{admin_port}", settings.workers, settings.kind_of_store
        )
        if settings.workers == 1:
            _run(plan, public, admin, lambda lists: ready(replace(address, lists=lists)))
            return
        share = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mkmsr-weights-")))
        plan = replace(plan, settings=replace(settings, share=share))
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="mkmsr-count-"))
        stack.callback(os.environ.pop, "PROMETHEUS_MULTIPROC_DIR", None)
        _supervise(plan, lambda lists: ready(replace(address, lists=lists)))


def _admin_port(settings: Settings) -> int | None:
    """Port of the admin listener: the given one, else the one after the public port; 0 is a free one."""
    if settings.keys is None:
        return None
    if settings.admin_port is not None:
        return settings.admin_port
    return settings.port + 1 if settings.port else 0


def _run(plan: _Plan, public: socket.socket, admin: socket.socket | None, ready: Callable[[str], None]) -> None:
    """Be a worker until a signal comes."""

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):  # Windows has none; Ctrl-C then interrupts.
                for each in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(each, stop.set)
        await run_worker(
            plan.settings, secret=plan.secret, run=plan.run, public=public, admin=admin, ready=ready, stop=stop
        )

    with asyncio.Runner(loop_factory=_event_loop()) as runner:
        runner.run(main())


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes event loops: uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _supervise(plan: _Plan, ready: Callable[[str], None]) -> None:
    """Start the workers, and others for those that die, until a signal comes."""
    workers: list[_Worker] = []
    restore = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        workers += [_Worker(plan) for _ in range(plan.settings.workers)]
        lists = [worker.wait_until_ready() for worker in workers]
        ready(lists[0])
        while True:
            wait([worker.process.sentinel for worker in workers])
            for place, worker in enumerate(workers):
                if worker.process.exitcode is not None:
                    young = worker.young_deaths + 1 if time.monotonic() - worker.began < _YOUNG_SECONDS else 0
                    _log.warning("a worker ended with status %s; another one starts", worker.process.exitcode)
                    time.sleep(_pause(young))
                    workers[place] = _Worker(plan, young)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for worker in workers:
            worker.process.terminate()
        until = time.monotonic() + _END_SECONDS
        for worker in workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.process.kill()
            worker.process.join()
        signal.signal(signal.SIGTERM, restore)


def _pause(young_deaths: int) -> float:
    """Seconds before the next start, after so many workers that ended just after theirs."""
    return min(_LONGEST_PAUSE, 2.0 ** min(young_deaths, 10) - 1)


class _Worker:
    """A process that serves, and how many before it ended just after their start, one after the other."""

    def __init__(self, plan: _Plan, young_deaths: int = 0):
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(target=_child, args=(plan, theirs), name="worker", daemon=True)
        self.began, self.young_deaths = time.monotonic(), young_deaths
        self.process.start()
        theirs.close()

    def wait_until_ready(self) -> str:
        """Wait until it answers requests, return where lists come from; ServiceError if it could not begin."""
        try:
            problem, lists = self._line.recv()
        except EOFError:
            self.process.join(1)
            raise ServiceError(f"a worker ended with status {self.process.exitcode} before it was ready") from None
        if problem:
            raise ServiceError(problem)
        return str(lists)


def _child(plan: _Plan, line: Connection) -> None:
    """What the process of a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which then ends this one.
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S", level=logging.WARNING)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def say(problem: str, lists: str = "") -> None:
        with suppress(OSError):
            line.send((problem, lists))

    try:
        public, admin = plan.listeners()
        _run(plan, public, admin, lambda lists: say("", lists))
    except MkmsrError as error:
        say(str(error))
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _allow_connections() -> None:
    """Let this process and its workers have as many connections as the system allows."""
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

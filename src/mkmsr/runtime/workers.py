"""Tasks in processes of their own: each with one torch thread, its own log, and a line to the process that started it.

A task that fails, or that the system kills for its memory, ends alone; the others go on. When the starting process
dies, however it dies, its workers notice and stop within a moment, so that nobody writes into a folder twice.

Processes fork from a server that has imported the library once and has done nothing else, so that a task starts in
milliseconds and no thread of the caller is copied half-way.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, cast

from mkmsr.errors import MkmsrError
from mkmsr.runtime.end_with_parent import PARENT
from mkmsr.runtime.files import Scratch

_PRELOAD = ["mkmsr.runtime.end_with_parent", "mkmsr.runs.experiment", "torch._dynamo"]
"""What the server imports: its own end, the library, and what every optimiser would load at its first step."""

_LOG_TAIL = 4096

_SOCKETS = Scratch()


@dataclass(frozen=True)
class Task:
    """One piece of work for a process: a function of a module, called as `function(line, *arguments)`.

    The log file takes everything that the process logs or prints, appended.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    log: Path


@dataclass(frozen=True)
class TaskEvent:
    """What became known about a task.

    Its kind is "started"; "sent", with the content; "asked", with the content, and `answer` must be called; "done",
    with the result; "failed", with the reason as text.
    """

    task: Task
    kind: Literal["started", "sent", "asked", "done", "failed"]
    content: Any = None
    _connection: Connection | None = field(default=None, repr=False)

    def answer(self, value: Any) -> None:
        """Answer a task that asked."""
        assert self.kind == "asked"
        assert self._connection is not None
        with suppress(BrokenPipeError):  # It died meanwhile, which the next event says.
            self._connection.send(value)


class Line:
    """A task's line to the process that started it."""

    def __init__(self, connection: Connection):
        self._connection = connection

    def send(self, content: Any) -> None:
        """Send something to the starting process."""
        self._connection.send(("sent", content))

    def ask(self, content: Any) -> Any:
        """Send something and wait for the answer."""
        self._connection.send(("asked", content))
        return self._connection.recv()


def run_tasks(tasks: Iterable[Task], *, workers: int) -> Iterator[TaskEvent]:
    """Carry out tasks in at most `workers` processes at a time and yield what happens, as it happens.

    A task is taken from `tasks` only when a process is free for it and after every event before it was looked at, so
    that a generator may decide by results what comes next. Closing the iterator early stops the running tasks.
    """
    context = _context()
    waiting = iter(tasks)
    running: dict[Connection, tuple[Task, BaseProcess]] = {}
    try:
        while True:
            while len(running) < workers and (task := next(waiting, None)) is not None:
                connection, process = _start(context, task)
                running[connection] = task, process
                yield TaskEvent(task, "started")
            if not running:
                return
            for ready in cast(list[Connection], wait(list(running))):  # On Windows, pipes of another class.
                task, process = running[ready]
                event = _receive(ready, task, process)
                if event.kind in ("done", "failed"):
                    del running[ready]
                    ready.close()
                    process.join()
                yield event
    finally:
        for connection, (_, process) in running.items():
            process.terminate()
            process.join()
            connection.close()


def _context() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # The socket of the server goes into a folder that a later run sweeps if this process is killed. Python's own
    # folder, pymp-*, would stay for ever.
    multiprocessing.current_process()._config.setdefault("tempdir", str(_SOCKETS.folder))  # type: ignore[attr-defined]
    os.environ[PARENT] = str(os.getpid())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def _start(context: BaseContext, task: Task) -> tuple[Connection, BaseProcess]:
    ours, theirs = context.Pipe()
    process = context.Process(  # type: ignore[attr-defined]
        target=_serve, args=(theirs, task.log, task.function, task.arguments), name=task.name, daemon=True
    )
    process.start()
    theirs.close()
    return ours, process


def _receive(connection: Connection, task: Task, process: BaseProcess) -> TaskEvent:
    """The next event of a process that has sent something or has ended."""
    try:
        kind, content = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        return TaskEvent(task, "failed", _reason(process.exitcode, task.log))
    return TaskEvent(task, kind, content, connection)


def _reason(status: int | None, log: Path) -> str:
    """Why a process ended without a word."""
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    with suppress(OSError):
        lines = [line for line in log.read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return f"{lines[-1].strip()} (see {log})"
    return f"ended with status {status} (see {log})"


def _serve(connection: Connection, log: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Carry out one task: all that the new process does. An unexpected error goes to the log with its traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the starting process, which then stops this one.
    _end_with_parent()
    _write_to(log)
    import torch

    torch.set_num_threads(1)
    try:
        result = function(Line(connection), *arguments)
    except (MkmsrError, OSError) as error:
        logging.getLogger(__name__).exception("failed")
        connection.send(("failed", str(error) or type(error).__name__))
    else:
        connection.send(("done", result))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_to(log: Path) -> None:
    """Let the log file take this process's output, that of libraries in other languages too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.open("ab", buffering=0)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(file.fileno(), number)
    logging.basicConfig(
        stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S", level=logging.INFO, force=True
    )
    logging.getLogger("mkmsr").setLevel(logging.INFO)

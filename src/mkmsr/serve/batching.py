"""Work for one thread, taken in batches without a timer: whatever was queued while the batch before was under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """A thread that carries out tasks of an event loop.

    `carry_out` answers a batch of at most so many tasks: for each a result, or an error to be raised.
    """

    def __init__(self, carry_out: Callable[[Sequence[T]], Sequence[R | Exception]], *, most: int, name: str):
        self._carry_out, self._most = carry_out, most
        self._queue: SimpleQueue[tuple[T, asyncio.Future[R]] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return self._queue.qsize()

    async def submit(self, task: T) -> R:
        """Queue a task and return its result."""
        answer: asyncio.Future[R] = self._loop.create_future()
        self._queue.put((task, answer))
        return await answer

    def close(self) -> None:
        """End the thread after what is queued."""
        self._queue.put(None)
        self._thread.join(timeout=5)

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            try:
                results = self._carry_out([task for task, _ in batch])
            except Exception as error:  # Whoever waits for the answer gets it.
                results = [error] * len(batch)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(_resolve, [answer for _, answer in batch], results)

    def _next(self) -> list[tuple[T, asyncio.Future[R]]] | None:
        """The tasks that are queued, at least one; None at the end."""
        first = self._queue.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < self._most:
            try:
                task = self._queue.get_nowait()
            except Empty:
                break
            if task is None:
                self._queue.put(None)
                break
            batch.append(task)
        return batch


def _resolve(answers: Sequence[asyncio.Future[R]], results: Sequence[R | Exception]) -> None:
    for answer, result in zip(answers, results, strict=True):
        if answer.done():  # The connection was given up meanwhile.
            continue
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)

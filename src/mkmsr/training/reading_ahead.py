"""Drawing a few steps at a time, together with what the model will derive from their batches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mkmsr.training.strategies import Step

__all__ = ["read_ahead"]

_STEPS = 8


def read_ahead(steps: Iterator[Step]) -> Iterator[Step]:
    """The same steps in the same order, several of them drawn at once.

    A step of training sends tens of megabytes through the processor's caches. The many small operations that cut a
    batch and build its graphs find neither their code nor their data there afterwards, and take two to three times as
    long as in a row (docs/log). What a model derives is seen on the batches that it had before.
    """
    derived: tuple[str, ...] = ()
    while ahead := list(islice(steps, _STEPS)):
        for step in ahead:
            if step.sessions is not None:
                step.sessions.derive(derived)
        yield from ahead
        last = ahead[-1].sessions
        derived = last.derived if last is not None else ()

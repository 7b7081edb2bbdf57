"""Lists for many sessions on a Spark cluster: a task ranks a stretch of sessions and writes its file.

Sessions and lists are on a file system that all workers see, so that no event passes through Spark; the bundle is
shipped once to each worker, and stays loaded there from one stretch to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mkmsr.data.engines.spark_engine import SparkEngine
from mkmsr.errors import EvaluationError
from mkmsr.recommend.session_file import Stretch
from mkmsr.runtime.files import Scratch

T = TypeVar("T")

_STRETCHES_A_CORE = 4
"""Stretches in one job of Spark: when they are done they are noted, and a later call goes on behind them."""


def on_spark(
    job: Any, stretches: Sequence[Stretch], begin: Callable[[Any], Callable[[Stretch], T]], *, master: str
) -> Iterator[T]:
    """Return what becomes of stretches.

    Args:
        job: What every worker is told; its `bundle` is the folder that is shipped.
        stretches: The work.
        begin: Given the job with its bundle on that worker, what carries out a stretch.
        master: Address of the cluster, like spark://host:7077, or local[N].

    Raises:
        ConfigError: PySpark or Java is not installed.
        EvaluationError: A task failed several times.
    """
    engine = SparkEngine(master=master, memory=None, scratch=Scratch())
    with engine:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        context = engine.session.sparkContext
        context.addFile(str(job.bundle), recursive=True)
        wave = _STRETCHES_A_CORE * context.defaultParallelism
        for first in range(0, len(stretches), wave):
            part = stretches[first : first + wave]
            try:
                yield from context.parallelize(part, len(part)).map(_Task(job, begin)).collect()
            except (Py4JError, PySparkException) as error:
                line = next((each for each in str(error).splitlines() if "mkmsr.errors" in each), str(error)[:200])
                raise EvaluationError(
                    f"Spark could not rank sessions: {line.strip()}; the files that are finished stay, and resume goes "
                    "on from there"
                ) from None


class _Task:
    """A job on a worker; what it has loaded is the process's, not the task's, and is not shipped."""

    _begun: tuple[Any, Callable[[Stretch], Any]] | None = None

    def __init__(self, job: Any, begin: Callable[[Any], Callable[[Stretch], Any]]):
        self._job, self._begin = job, begin

    def __call__(self, stretch: Stretch) -> Any:
        from pyspark import SparkFiles

        shipped = replace(self._job, bundle=Path(SparkFiles.get(self._job.bundle.name)))
        if _Task._begun is None or _Task._begun[0] != shipped:
            _Task._begun = shipped, self._begin(shipped)
        return _Task._begun[1](stretch)

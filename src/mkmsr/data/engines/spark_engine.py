"""The distributed engine: Apache Spark, in this process for tests and on a cluster for logs of many machines."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import narwhals as nw
import polars as pl

from mkmsr.data.engines.base import Engine, Query
from mkmsr.data.scratch import Scratch
from mkmsr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["SparkEngine", "java_is_missing"]


class SparkEngine(Engine):
    """Spark, which computes where its master says.

    Tables and steps are Parquet folders below the scratch folder, so that a lost worker costs one step and no lineage
    grows over the rounds of filters. On a cluster the scratch folder has to be one that all workers see.

    Args:
        master: Address of the cluster, like spark://host:7077, or local[N] for N threads of this machine.
        memory: Bytes of the driver's heap; None is Spark's own choice, 1 GiB.
        scratch: Where tables and steps are written.

    Raises:
        ConfigError: PySpark or Java is not installed.
    """

    name: ClassVar[str] = "spark"

    def __init__(self, *, master: str, memory: int | None, scratch: Scratch):
        if (missing := java_is_missing()) is not None:
            raise ConfigError(missing, key="engine")
        try:
            from pyspark.sql import SparkSession
        except ModuleNotFoundError:
            raise ConfigError("needs Spark: pip install 'mkmsr[spark]'", key="engine") from None
        self._scratch = scratch
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        settings = {
            "spark.ui.enabled": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.log.level": "ERROR",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.parquet.compression.codec": "lz4_raw",
        }
        if memory is not None:
            settings["spark.driver.memory"] = f"{memory // 2**20}m"
        if master.startswith("local"):
            settings |= {
                "spark.driver.host": "127.0.0.1",
                "spark.driver.bindAddress": "127.0.0.1",
                "spark.sql.shuffle.partitions": str(8 * (os.cpu_count() or 1)),
                "spark.local.dir": str(scratch.folder / "spill"),
                # Driver and worker are one process here: a machine that sleeps for a while must not part them.
                "spark.executor.heartbeatInterval": "1h",
                "spark.network.timeout": "10h",
            }
        builder = SparkSession.builder.master(master).appName("mkmsr prepare")
        for key, value in settings.items():
            builder = builder.config(key, value)
        self._session: SparkSession = builder.getOrCreate()

    def table(self, frame: pl.LazyFrame, *, files: Sequence[Path] = ()) -> Query:
        if not files:
            files = [self._scratch.file(".parquet")]
            frame.sink_parquet(files[0], compression="lz4")
        table = self._session.read.parquet(*(str(path.absolute()) for path in files))
        return nw.from_native(table.select(*frame.collect_schema().names()))

    def persist(self, query: Query, *, instead_of: Query | None = None) -> Query:
        return nw.from_native(self._session.read.parquet(self._write(query)))

    def fetch(self, query: Query) -> pl.DataFrame:
        return self._scan_written(query).collect()

    def ordered(self, query: Query, *, by: Sequence[str]) -> pl.LazyFrame:
        return self._scan_written(query.sort(*by))

    def count(self, query: Query) -> int:
        return int(_native(query).count())

    def close(self) -> None:
        self._session.stop()

    def _scan_written(self, query: Query) -> pl.LazyFrame:
        """Rows in the order of the query: Spark numbers the parts of a sorted result by it."""
        return pl.scan_parquet(sorted(Path(self._write(query)).glob("part-*.parquet")), glob=False)

    def _write(self, query: Query) -> str:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        folder = self._scratch.file("").absolute()
        try:
            _native(query).write.parquet(str(folder))
        except (Py4JError, PySparkException, ConnectionError) as error:
            first = str(error).strip().partition("\n")[0]
            raise DataError(f"Spark could not finish a step: {first}; its own log says more") from None
        return str(folder)


def java_is_missing() -> str | None:
    """What to do where Spark's Java is not installed; None where it is."""
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java") or (home and (Path(home) / "bin" / "java").exists()):
        return None
    return "Spark needs Java 17 or newer, and there is no `java` here: install a JRE, or set JAVA_HOME"


def _native(query: Query) -> DataFrame:
    native: DataFrame = nw.to_native(query)
    return native

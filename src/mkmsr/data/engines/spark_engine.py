"""The distributed engine: Apache Spark, in this process for tests and on a cluster for logs of many machines."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

import narwhals as nw
import polars as pl

from mkmsr.data.engines.base import Engine, Query
from mkmsr.errors import ConfigError, DataError
from mkmsr.runtime.files import Scratch


class SparkEngine(Engine):
    """Spark, which computes where its master says; without PySpark or Java a ConfigError is raised.

    Tables and steps are Parquet folders below the scratch folder, so that a lost worker costs one step and no lineage
    grows over the rounds of filters. On a cluster the scratch folder has to be one that all workers see.

    Args:
        master: Address of the cluster, like spark://host:7077, or local[N] for N threads of this machine.
        memory: Bytes of the driver's heap; None is Spark's own choice, 1 GiB.
    """

    name: ClassVar[str] = "spark"

    def __init__(self, *, master: str, memory: int | None, scratch: Scratch):
        if (missing := java_is_missing()) is not None:
            raise ConfigError(missing, key="engine")
        try:
            from pyspark.sql import SparkSession
        except ModuleNotFoundError:
            raise ConfigError("needs Spark: pip install 'mkmsr[spark]'", key="engine") from None
        super().__init__(scratch)
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
        self.session: SparkSession = builder.getOrCreate()

    def opened(self, files: list[str]) -> Any:
        return self.session.read.parquet(*files)

    def persist(self, query: Query, *, instead_of: Query | None = None) -> Query:
        written: Query = nw.from_native(self.opened([self._write(query)]))
        return written

    def stored(self, query: Query) -> pl.LazyFrame:
        """By way of files: Spark numbers the parts of a sorted result by its order."""
        return pl.scan_parquet(sorted(Path(self._write(query)).glob("part-*.parquet")), glob=False)

    def close(self) -> None:
        self.session.stop()

    def _write(self, query: Query) -> str:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        folder = self.scratch.file("").absolute()
        try:
            query.to_native().write.parquet(str(folder))
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

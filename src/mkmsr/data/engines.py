"""Engines: what runs the queries of preparation. The queries are the same, whichever is chosen.

A query is described in Narwhals, once. Every engine must give the same rows for the same query; queries see to it by
total orders and 64-bit integers.
"""

from __future__ import annotations

import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, TypeAlias

import narwhals as nw
import numpy as np
import polars as pl
from pydantic import Field

from mkmsr.config import StrictModel
from mkmsr.errors import ConfigError, DataError
from mkmsr.runtime.files import Scratch

Query: TypeAlias = "nw.LazyFrame[Any]"
EngineName = Literal["polars", "duckdb", "spark"]

MANY = 2**62

LEAST_MEMORY = 256 << 20
"""Bytes below which a memory limit is refused."""

NOT_OF_ALL: dict[str, tuple[EngineName, ...]] = {
    "memory_limit": ("duckdb", "spark"),
    "threads": ("duckdb",),
    "spark_master": ("spark",),
}
"""Options that not every engine has."""


class EngineOptions(StrictModel):
    """What runs a preparation, and how much it may take. The result does not depend on any of it."""

    engine: EngineName = "polars"
    """Polars in memory, DuckDB within a memory limit, or Spark on a cluster."""
    memory_limit: int | None = Field(default=None, ge=LEAST_MEMORY)
    """Bytes that the whole process should stay below (DuckDB: half of them are for its work, half for the libraries,
    reading and the result), or of the driver's heap (Spark)."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of DuckDB; None is one a core."""
    spark_master: str = "local[*]"
    """Address of a Spark cluster, like spark://host:7077; local[N] is N threads of this machine."""
    scratch: Path | None = None
    """Folder for temporary files; None is the system's. On a cluster, one that all workers see."""


def open_engine(options: EngineOptions) -> Engine:
    """Return the engine that the options name, for a `with` block; one that is not installed raises ConfigError."""
    for key, engines in NOT_OF_ALL.items():
        changed = getattr(options, key) != EngineOptions.model_fields[key].default
        if changed and options.engine not in engines:
            raise ConfigError(f"is an option of the engine {' or '.join(engines)}, not of {options.engine}", key=key)
    if options.engine == "polars":
        return PolarsEngine()
    scratch, memory = Scratch(options.scratch), options.memory_limit
    if options.engine == "duckdb":
        half = None if memory is None else memory // 2
        return DuckDBEngine(memory=half, threads=options.threads, scratch=scratch)
    return SparkEngine(master=options.spark_master, memory=memory, scratch=scratch)


class Engine(ABC):
    """Runs queries over files; a context manager that gives back memory, files and processes when it is left.

    `scratch` takes its temporary files.
    """

    name: ClassVar[str]

    def __init__(self, scratch: Scratch):
        self.scratch = scratch

    def table(self, frame: pl.LazyFrame, *, files: Sequence[Path] = ()) -> Query:
        """Return a table for queries; `files`, if any, are Parquet files that hold its columns, in its order."""
        if not files:
            files = [self.scratch.file(".parquet")]
            frame.sink_parquet(files[0], compression="lz4")
        table: Query = nw.from_native(self.opened([str(path.absolute()) for path in files]))
        return table.select(*frame.collect_schema().names())

    @abstractmethod
    def opened(self, files: list[str]) -> Any:
        """Return Parquet files as a table of the engine's own."""

    @abstractmethod
    def persist(self, query: Query, *, instead_of: Query | None = None) -> Query:
        """Compute the rows now, since a lazy frame has no cache; `instead_of` is an earlier result that may go."""

    @abstractmethod
    def stored(self, query: Query) -> pl.LazyFrame:
        """Return the rows in the order of the query where it states one, in memory or in a temporary file."""

    def fetch(self, query: Query) -> pl.DataFrame:
        """Return a small result, in the order of the query where it states one."""
        return self.stored(query).collect()

    def ordered(self, query: Query, *, by: Sequence[str]) -> pl.LazyFrame:
        """Return a large result in the total order of some columns of whole numbers."""
        return self.stored(query.sort(*by))

    def count(self, query: Query) -> int:
        """Return the number of rows."""
        return int(self.fetch(query.select(nw.len().alias("rows"))).item())

    def with_least(self, query: Query, column: str, *, of: Sequence[str], name: str, source: Query) -> Query:
        """Add `name`: the smallest value of a column among the rows of `source` with the same keys, which are not null.

        Grouping and joining, for an engine on disk or on several machines: only keys move, and no worker gets all rows
        of a frequent one. The source is the query, or what it was made of without dropping rows; it is read once more.
        """
        least = source.group_by(*of).agg(nw.col(column).min().alias(name))
        return query.join(least, on=list(of), how="inner")

    def frequent(self, query: Query, *, of: str, least: int = 1, most: int = MANY) -> Query:
        """Keep only rows whose key occurs in at least and at most so many rows."""
        counted = query.group_by(of).agg(rows=nw.len()).filter(nw.col("rows").is_between(least, most))
        return query.join(counted.select(of), on=of, how="semi")

    def cut(self, events: Query, *, gap: int) -> Query:
        """Replace the `owner` of events by a `session`, its smallest row; computed now.

        An owner's events (by `time`, then `row`) are cut where two neighbours are more than `gap` apart.
        """
        previous = nw.col("time").shift(1).over("owner", order_by=["time", "row"])
        opens = (nw.col("time") - previous > gap).cast(nw.Int64).fill_null(1)
        number = nw.col("opens").cum_sum().over("owner", order_by=["time", "row"])
        cut = self.persist(events.with_columns(opens=opens).with_columns(number=number).drop("opens"))
        keys = ["owner", "number"]
        return self.persist(
            self.with_least(cut, "row", of=keys, name="session", source=cut).drop("owner", "number"), instead_of=cut
        )

    def close(self) -> None:  # noqa: B027 (not every engine holds something)
        """Give back what the engine holds; its queries are no longer good."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class PolarsEngine(Engine):
    """Polars: the fastest while the log fits in memory."""

    name: ClassVar[str] = "polars"

    def __init__(self) -> None:
        super().__init__(Scratch())

    def table(self, frame: pl.LazyFrame, *, files: Sequence[Path] = ()) -> Query:
        return nw.from_native(frame)

    def opened(self, files: list[str]) -> Any:
        return pl.scan_parquet(files, glob=False)

    def persist(self, query: Query, *, instead_of: Query | None = None) -> Query:
        return query.collect(backend="polars").lazy()

    def stored(self, query: Query) -> pl.LazyFrame:
        frame: pl.LazyFrame = query.to_native()
        return frame

    def with_least(self, query: Query, column: str, *, of: Sequence[str], name: str, source: Query) -> Query:
        """As a window, which in memory takes half the time of grouping and joining."""
        return query.with_columns(nw.col(column).min().over(*of).alias(name))

    def frequent(self, query: Query, *, of: str, least: int = 1, most: int = MANY) -> Query:
        """As a window."""
        return query.filter(nw.len().over(of).is_between(least, most))

    def cut(self, events: Query, *, gap: int) -> Query:
        """By one sort of numbers, where windows would sort each owner's events apart, twice."""
        table = self.fetch(events)
        owner, time, row = (table[name].to_numpy() for name in ("owner", "time", "row"))
        order = np.lexsort([row, time, owner])
        owner, time, row = owner[order], time[order], row[order]
        begins = np.flatnonzero(np.diff(owner, prepend=-1).astype(np.bool_) | (np.diff(time, prepend=time[:1]) > gap))
        session = np.empty(len(order), np.int64)
        session[order] = np.repeat(np.minimum.reduceat(row, begins), np.diff(begins, append=len(row)))
        return nw.from_native(table.drop("owner").with_columns(session=session).lazy())

    def ordered(self, query: Query, *, by: Sequence[str]) -> pl.LazyFrame:
        table = self.fetch(query)
        order = np.lexsort([table[name].to_numpy() for name in reversed(by)])
        return table.lazy().select(pl.all().gather(pl.lit(pl.Series(order))))


class DuckDBEngine(Engine):
    """DuckDB over temporary files in `scratch`; without the library a ConfigError is raised.

    It may use so much memory, in bytes, for its work (None: four fifths of the machine's), and so many threads (None:
    one a core), each of which has buffers of its own.
    """

    name: ClassVar[str] = "duckdb"

    def __init__(self, *, memory: int | None, threads: int | None, scratch: Scratch):
        try:
            import duckdb
        except ModuleNotFoundError:
            raise ConfigError("needs DuckDB: pip install 'mkmsr[duckdb]'", key="engine") from None
        super().__init__(scratch)
        self._steps = 0
        settings: dict[str, str | bool | int | float | list[str]] = {
            "temp_directory": str(scratch.folder / "spill"),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if memory is not None:
            settings["memory_limit"] = f"{memory // 1024}KiB"
        if threads is not None:
            settings["threads"] = threads
        self._out_of_memory = duckdb.OutOfMemoryException
        self._connection = duckdb.connect(":memory:", config=settings)

    def opened(self, files: list[str]) -> Any:
        return self._connection.read_parquet(files)

    def persist(self, query: Query, *, instead_of: Query | None = None) -> Query:
        self._steps += 1
        name = f"step_{self._steps}"
        with self._within_memory():
            query.to_native().create(name)
        if instead_of is not None and (old := instead_of.to_native().alias).startswith("step_"):
            self._connection.execute(f"DROP TABLE IF EXISTS {old}")
        return nw.from_native(self._connection.table(name))

    def stored(self, query: Query) -> pl.LazyFrame:
        """By way of a file: no second copy in memory, and Arrow's Python package is not needed."""
        file = self.scratch.file(".parquet")
        with self._within_memory():
            query.to_native().write_parquet(str(file), compression="lz4")
        return pl.scan_parquet(file, glob=False)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _within_memory(self) -> Iterator[None]:
        try:
            yield
        except self._out_of_memory as error:
            first = str(error).strip().partition("\n")[0]
            text = f"the memory limit is too small for this log: {first}; raise --memory-limit or use fewer threads"
            raise DataError(text) from None


class SparkEngine(Engine):
    """Spark, which computes where its master says; without PySpark or Java a ConfigError is raised.

    Tables and steps are Parquet folders below the scratch folder, so that a lost worker costs one step and no lineage
    grows over the rounds of filters. On a cluster the scratch folder has to be one that all workers see. The memory is
    that of the driver's heap, in bytes; None is Spark's own choice, 1 GiB.
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

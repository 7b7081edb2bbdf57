"""The memory-bounded engine: DuckDB, which works within a stated memory and keeps the rest on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import narwhals as nw
import polars as pl

from mkmsr.data.engines.base import Engine, Query
from mkmsr.data.scratch import Scratch
from mkmsr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

__all__ = ["DuckDBEngine"]


class DuckDBEngine(Engine):
    """DuckDB over temporary files.

    Args:
        memory: Bytes that it may use for its work; None is its own choice, four fifths of the machine's.
        threads: Threads; None is one a core. Each has buffers of its own.
        scratch: Where its temporary files go.

    Raises:
        ConfigError: DuckDB is not installed.
    """

    name: ClassVar[str] = "duckdb"

    def __init__(self, *, memory: int | None, threads: int | None, scratch: Scratch):
        try:
            import duckdb
        except ModuleNotFoundError:
            raise ConfigError("needs DuckDB: pip install 'mkmsr[duckdb]'", key="engine") from None
        self._scratch = scratch
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

    def table(self, frame: pl.LazyFrame, *, files: Sequence[Path] = ()) -> Query:
        if not files:
            files = [self._scratch.file(".parquet")]
            frame.sink_parquet(files[0], compression="lz4")
        table = self._connection.read_parquet([str(path) for path in files])
        return nw.from_native(table.select(*frame.collect_schema().names()))

    def persist(self, query: Query, *, instead_of: Query | None = None) -> Query:
        self._steps += 1
        name = f"step_{self._steps}"
        try:
            _native(query).create(name)
        except self._out_of_memory as error:
            raise _too_little(error) from None
        if instead_of is not None and (old := _native(instead_of).alias).startswith("step_"):
            self._connection.execute(f"DROP TABLE IF EXISTS {old}")
        return nw.from_native(self._connection.table(name))

    def fetch(self, query: Query) -> pl.DataFrame:
        return self._stored(query).collect()

    def ordered(self, query: Query, *, by: Sequence[str]) -> pl.LazyFrame:
        return self._stored(query.sort(*by))

    def count(self, query: Query) -> int:
        return int(_native(query.select(nw.len())).fetchall()[0][0])

    def close(self) -> None:
        self._connection.close()

    def _stored(self, query: Query) -> pl.LazyFrame:
        """Rows by way of a file: no second copy in memory, and Arrow's Python package is not needed."""
        file = self._scratch.file(".parquet")
        try:
            _native(query).write_parquet(str(file), compression="lz4")
        except self._out_of_memory as error:
            raise _too_little(error) from None
        return pl.scan_parquet(file, glob=False)


def _native(query: Query) -> DuckDBPyRelation:
    native: DuckDBPyRelation = nw.to_native(query)
    return native


def _too_little(error: Exception) -> DataError:
    first = str(error).strip().partition("\n")[0]
    return DataError(f"the memory limit is too small for this log: {first}; raise --memory-limit or use fewer threads")

"""The memory-bounded engine: DuckDB, which works within a stated memory and keeps the rest on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import narwhals as nw
import polars as pl

from mkmsr.data.engines.base import Engine, Query
from mkmsr.errors import ConfigError, DataError
from mkmsr.runtime.files import Scratch


class DuckDBEngine(Engine):
    """DuckDB over temporary files in `scratch`; without the library a ConfigError is raised.

    Args:
        memory: Bytes that it may use for its work; None is its own choice, four fifths of the machine's.
        threads: Threads; None is one a core. Each has buffers of its own.
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

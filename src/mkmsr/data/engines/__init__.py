"""Engines: what runs the queries of preparation. The queries are the same, whichever is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mkmsr.config import StrictModel
from mkmsr.data.engines.base import Engine, PolarsEngine, Query
from mkmsr.errors import ConfigError
from mkmsr.runtime.files import Scratch

__all__ = ["LEAST_MEMORY", "Engine", "EngineName", "EngineOptions", "PolarsEngine", "Query", "open_engine"]

EngineName = Literal["polars", "duckdb", "spark"]


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
        from mkmsr.data.engines.duckdb_engine import DuckDBEngine

        half = None if memory is None else memory // 2
        return DuckDBEngine(memory=half, threads=options.threads, scratch=scratch)
    from mkmsr.data.engines.spark_engine import SparkEngine

    return SparkEngine(master=options.spark_master, memory=memory, scratch=scratch)

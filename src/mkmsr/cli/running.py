"""The flags of `mkmsr prepare` that say what runs it and how much that may take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from mkmsr.cli.console import AT_LEAST_ONE, WrongCall

if TYPE_CHECKING:
    from mkmsr.data.engines import EngineOptions

__all__ = ["RUNNING", "Running", "byte_count"]

_ENGINE = Group("What runs it", sort_key=13)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


@Parameter(name="*", group=_ENGINE)
@dataclass(frozen=True)
class Running:
    """What runs a preparation. The result does not depend on it.

    Args:
        engine: polars, in memory, the fastest; duckdb, within --memory-limit, the rest on disk; spark, on a cluster.
        memory_limit: Memory that the process should stay below, like 2GB (duckdb), or of the driver's heap (spark).
        threads: Threads of duckdb; by default one a core.
        spark_master: Address of a Spark cluster, like spark://host:7077; by default this machine.
    """

    engine: Literal["polars", "duckdb", "spark"] = "polars"
    memory_limit: str | None = None
    threads: Annotated[int | None, AT_LEAST_ONE] = None
    spark_master: str = "local[*]"

    def options(self, scratch: Path | None) -> EngineOptions:
        """The same for the library.

        Args:
            scratch: Folder for temporary files.

        Raises:
            WrongCall: The memory limit is no size, or too small for any preparation.
        """
        from mkmsr.data.engines import LEAST_MEMORY, EngineOptions

        memory = None if self.memory_limit is None else byte_count(self.memory_limit)
        if memory is not None and memory < LEAST_MEMORY:
            raise WrongCall(
                f"--memory-limit: {self.memory_limit!r} is too little, {LEAST_MEMORY >> 20}MiB is the least"
            )
        return EngineOptions(
            engine=self.engine,
            memory_limit=memory,
            threads=self.threads,
            spark_master=self.spark_master,
            scratch=scratch,
        )


RUNNING = Running()
"""The flags as they are when none is given."""


def byte_count(text: str) -> int:
    """Bytes in "2GB", "512MiB" or "1.5 GB".

    Raises:
        WrongCall: The text has another form.
    """
    match = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*([KMG]I?)?B?", text.strip().upper())
    if match is None:
        raise WrongCall(f"--memory-limit: {text!r} should read like 2GB or 512MiB")
    return int(float(match[1]) * _UNITS[match[2] or ""])

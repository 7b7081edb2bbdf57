"""What an engine is: the few things that preparation asks of whatever runs its queries; and the usual one, Polars.

A query is described in Narwhals, once. Every engine must give the same rows for the same query; queries see to it by
total orders and 64-bit integers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeAlias

import narwhals as nw
import numpy as np
import polars as pl

from mkmsr.runtime.files import Scratch

Query: TypeAlias = "nw.LazyFrame[Any]"

MANY = 2**62


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

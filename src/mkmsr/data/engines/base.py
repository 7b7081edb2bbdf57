"""What an engine is: the few things that preparation asks of whatever runs its queries.

A query is described in Narwhals, once. The engine says where tables come from, computes what is read twice, and hands
results back as Polars tables. Every engine must give the same rows for the same query; queries see to it by total
orders and 64-bit integers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeAlias

import narwhals as nw
import polars as pl

__all__ = ["Engine", "Query", "between"]

Query: TypeAlias = "nw.LazyFrame[Any]"


class Engine(ABC):
    """Runs queries; a context manager that gives back memory, files and processes when it is left."""

    name: ClassVar[str]

    @abstractmethod
    def table(self, frame: pl.LazyFrame, *, files: Sequence[Path] = ()) -> Query:
        """A table for queries.

        Args:
            frame: The table.
            files: Parquet files that hold its columns, in its order, where there are such; an engine that reads files
                takes the frame's columns from them.
        """

    @abstractmethod
    def persist(self, query: Query, *, instead_of: Query | None = None) -> Query:
        """The same rows, computed now: a lazy frame has no cache, so what is read twice goes through here.

        Args:
            query: The rows.
            instead_of: An earlier result of this method that is not needed any more.
        """

    @abstractmethod
    def fetch(self, query: Query) -> pl.DataFrame:
        """A small result, in the order of the query where it states one."""

    @abstractmethod
    def ordered(self, query: Query, *, by: Sequence[str]) -> pl.LazyFrame:
        """A large result in a total order, in memory or in a temporary file that lives as long as the engine.

        Args:
            query: The rows.
            by: Columns of whole numbers that together tell all rows apart.
        """

    def with_least(self, query: Query, column: str, *, of: Sequence[str], name: str, source: Query) -> Query:
        """Adds `name`: the smallest value of a column among the rows of `source` with the same keys.

        Grouping and joining, for an engine on disk or on several machines: only keys move, and no worker gets all rows
        of a frequent one. Null keys must not occur.

        Args:
            query: The rows.
            column: Whose smallest value.
            of: The keys.
            name: Of the new column.
            source: The same rows, or what they were made of without dropping any; it is read once more.
        """
        least = source.group_by(*of).agg(nw.col(column).min().alias(name))
        return query.join(least, on=list(of), how="inner")

    def frequent(self, query: Query, *, of: str, least: int = 1, most: int | None = None) -> Query:
        """Only rows whose key occurs in at least and at most so many rows."""
        counted = query.group_by(of).agg(rows=nw.len()).filter(between(nw.col("rows"), least, most))
        return query.join(counted.select(of), on=of, how="semi")

    def cut(self, events: Query, *, gap: int) -> Query:
        """Events of `owner`, `time` and `row` with a `session`, its smallest row, in place of the owner; computed now.

        An owner's events (by time, then row) are cut where two neighbours are more than `gap` apart.
        """
        previous = nw.col("time").shift(1).over("owner", order_by=["time", "row"])
        opens = (nw.col("time") - previous > gap).cast(nw.Int64).fill_null(1)
        number = nw.col("opens").cum_sum().over("owner", order_by=["time", "row"])
        cut = self.persist(events.with_columns(opens=opens).with_columns(number=number).drop("opens"))
        keys = ["owner", "number"]
        return self.persist(
            self.with_least(cut, "row", of=keys, name="session", source=cut).drop("owner", "number"), instead_of=cut
        )

    def count(self, query: Query) -> int:
        """Number of rows."""
        return int(self.fetch(query.select(nw.len().alias("rows"))).item())

    def close(self) -> None:  # noqa: B027 (not every engine holds something)
        """Gives back what the engine holds; its queries are no longer good."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def between(count: nw.Expr, least: int, most: int | None) -> nw.Expr:
    """Return whether a count has at least and at most so many."""
    return count >= least if most is None else (count >= least) & (count <= most)

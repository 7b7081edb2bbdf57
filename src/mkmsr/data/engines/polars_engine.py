"""The embedded engine: Polars, in this process's memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import narwhals as nw
import numpy as np
import polars as pl

from mkmsr.data.engines.base import MANY, Engine, Query
from mkmsr.data.scratch import Scratch

__all__ = ["PolarsEngine"]


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

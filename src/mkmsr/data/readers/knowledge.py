"""Item knowledge from raw tables: one frame of `item_id`, `relation` and `value` for each relation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from mkmsr.data.readers.options import ReadOptions

__all__ = ["as_of", "known_at", "moment", "relation", "values_at"]

BEFORE_TEST = 0.9
"""Share of the events before the default moment: where preparation by default begins the test."""


def relation(rows: pl.LazyFrame, name: str, column: str | None = None, *, separator: str | None = None) -> pl.LazyFrame:
    """Return one relation of a table with a row an item.

    Its values stand in `column`, by default that of its name, several in one cell with a `separator` between them.
    """
    named = rows.select("item_id", pl.lit(name).alias("relation"), pl.col(column or name).alias("value"))
    if separator is None:
        return named
    apart = named.with_columns(pl.col("value").str.split(separator)).explode("value")
    return apart.with_columns(pl.col("value").str.strip_chars())


def moment(events: pl.LazyFrame, options: ReadOptions) -> int:
    """The time for which item knowledge is taken, in seconds since 1970 (UTC): as asked for, or before the test.

    A model that is evaluated on the newest sessions must not be told what became of an item later.
    """
    if options.attributes_at is not None:
        asked = options.attributes_at
        return int((asked if asked.tzinfo is not None else asked.replace(tzinfo=UTC)).timestamp())
    if "split" in events.collect_schema().names():
        begin = events.filter(pl.col("split") == "test").select(pl.col("time").min()).collect().item()
        if begin is not None:
            return int(begin)
    newest = events.select(pl.col("time").quantile(BEFORE_TEST, interpolation="lower")).collect().item()
    return int(newest or 0)


def known_at(time: int) -> str:
    """A moment as text, for notes."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def as_of(rows: pl.LazyFrame, at: int, *, key: Sequence[str], time: str = "time") -> pl.LazyFrame:
    """Return the values that were known at a time: for each key the latest by then, else the first after.

    An item that appears later brings what its first day says, as a new item of a shop does. Rows with an empty `value`
    are passed over.
    """
    given = rows.filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
    by_then = pl.col(time).filter(pl.col(time) <= at).max()
    chosen = given.group_by(key).agg(pl.coalesce(by_then, pl.col(time).min()).alias(time))
    return given.join(chosen, on=[*key, time], how="semi")


def values_at(rows: pl.LazyFrame, time: int) -> pl.LazyFrame:
    """Compute `item_id` and `value` as of a time, one row an item, sorted by item.

    Of several values of the same second the last in alphabetical order counts, so that the answer does not depend on
    the order of the rows.
    """
    known = as_of(rows, time, key=["item_id"])
    return known.group_by("item_id").agg(pl.col("value").max()).sort("item_id").collect().lazy()

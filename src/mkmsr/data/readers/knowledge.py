"""Item knowledge from raw tables: one frame of `item_id`, `relation` and `value` for each relation."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from mkmsr.data.readers.options import ReadOptions

__all__ = ["known_at", "moment", "relation", "values_at"]

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


def values_at(rows: pl.LazyFrame, time: int) -> pl.LazyFrame:
    """Compute the value of each item as it was known at a time: the latest one by then, else the first one after.

    An item that appears later brings what its first day says, as a new item of a shop does. Of several values of the
    same second the last in alphabetical order counts, so that the answer does not depend on the order of the rows.

    Args:
        rows: `item_id`, `value`, and the value's `time` in seconds; rows without a value are passed over.
        time: Seconds since 1970 (UTC).

    Returns:
        `item_id` and `value`, one row an item, sorted by item.
    """
    given = rows.filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
    spans = given.group_by("item_id", "value").agg(
        last=pl.col("time").filter(pl.col("time") <= time).max(), first=pl.col("time").min()
    )
    known = pl.col("last").is_not_null()
    order = pl.when(known).then(pl.col("last")).otherwise(-pl.col("first"))
    ranked = spans.select("item_id", "value", known=known, order=order).sort("item_id", "known", "order", "value")
    chosen = ranked.unique("item_id", keep="last", maintain_order=True).select("item_id", "value")
    return chosen.collect().lazy()

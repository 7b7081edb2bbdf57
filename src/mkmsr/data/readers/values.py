"""What cells mean, as expressions over text with their faults; and what was known of items as of a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from mkmsr.data.readers.malformed import ROW, Fault, empty
from mkmsr.data.readers.options import ReadOptions

SECOND = 1_000_000
"""Microseconds of a second."""

MICROS = {"unix seconds": SECOND, "unix milliseconds": 1000, "milliseconds": 1000}

ROW_BITS, FILE_BITS = 36, 7

BEFORE_TEST = 0.9
"""Share of the events before the default moment: where preparation by default begins the test."""


@dataclass(frozen=True)
class Value:
    """A value of a row, as an expression over its text, and the faults that make the row malformed."""

    expr: pl.Expr
    faults: tuple[Fault, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Columns of the file that it needs."""
        return [name for name in self.expr.meta.root_names() if name != ROW]


def text(column: str) -> Value:
    """Return the text of a column, which may be missing."""
    return Value(pl.col(column))


def needed(column: str) -> Value:
    """Return the text of a column in which every row has one."""
    return Value(pl.col(column), (empty(column),))


def one_of(column: str, known: Sequence[str]) -> Value:
    """Return the text of a column that holds one of some words."""
    wrong = ~pl.col(column).is_in(known).fill_null(False)
    return Value(pl.col(column), (Fault(wrong, f"found {{value}}, should be one of {', '.join(known)}", column),))


def coded(column: str, names: Mapping[str, str]) -> Value:
    """Return the names of a column's codes, which follow each other."""
    name = pl.col(column).str.strip_chars().replace_strict(names, default=None, return_dtype=pl.String)
    return Value(name, (Fault(name.is_null(), f"found {{value}}, should be {min(names)} to {max(names)}", column),))


def clock(column: str, *forms: str, like: str) -> Value:
    """Return microseconds since 1970 of times written in one of some forms.

    Source: strftime's letters, and `%.f` for a fraction of a second that may be missing.
    """
    written = pl.col(column).str.strip_chars()
    micros = pl.coalesce(written.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("us") for form in forms)
    return Value(micros, (Fault(micros.is_null(), f"cannot read {{value}} as a time; should be like {like}", column),))


def counted(column: str, unit: str) -> Value:
    """Return the microseconds of whole numbers in a unit of MICROS."""
    number = pl.col(column).str.strip_chars().str.strip_suffix(".0").cast(pl.Int64, strict=False)
    return Value(number * MICROS[unit], (Fault(number.is_null(), f"found {{value}}, should be {unit}", column),))


def price_bucket(column: str) -> Value:
    """Return the powers of two around a price, as text like "32-64"; null without a positive price."""
    price = pl.col(column).cast(pl.Float64, strict=False)
    power = (price.clip(1, 1e18).log(2) + 1e-9).floor().cast(pl.Int64)
    low = pl.lit(2, dtype=pl.Int64).pow(power)
    named = pl.format("{}-{}", low, low * 2)
    return Value(pl.when(price >= 1).then(named).when(price > 0).then(pl.lit("0-1")))


def event_row(*, file: int = 0, micros: pl.Expr | None = None) -> pl.Expr:
    """Return the number of an event that breaks ties of its time: fraction of the second, then file, then row.

    Whole seconds cannot order the events within one, so the fraction goes in front: 20 bits of microseconds, 7 bits of
    file number and 36 bits of row, in one number of 63 bits. In a single file of whole seconds it is just the row.
    """
    number = pl.col(ROW).cast(pl.Int64) + (file << ROW_BITS)
    return number if micros is None else (micros % SECOND) * (1 << (ROW_BITS + FILE_BITS)) + number


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

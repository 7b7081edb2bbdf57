"""What the cells of a public data set mean: a value as an expression over text, and when it makes its row malformed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from mkmsr.data.readers.malformed import ROW, Fault, empty

__all__ = ["SECOND", "Value", "clock", "coded", "counted", "event_row", "needed", "one_of", "price_bucket", "text"]

SECOND = 1_000_000
"""Microseconds of a second."""

MICROS = {"unix seconds": SECOND, "unix milliseconds": 1000, "milliseconds": 1000}

ROW_BITS, FILE_BITS = 36, 7


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

"""Expressions that readers share: text to numbers, times and events' row numbers."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mkmsr.data.readers.malformed import ROW, Fault

__all__ = ["SECOND", "clock", "event_row", "one_of", "price_bucket", "seconds", "whole_number"]

SECOND = 1_000_000
"""Microseconds of a second."""

ROW_BITS, FILE_BITS = 36, 7


def whole_number(column: str) -> pl.Expr:
    """A text column as integers; null where it holds something else."""
    return pl.col(column).str.strip_chars().cast(pl.Int64, strict=False)


def clock(column: str, *forms: str) -> pl.Expr:
    """Microseconds since 1970 of times written in one of some forms; null where the text is in none of them.

    Source: strftime's letters, and `%.f` for a fraction of a second that may be missing.
    """
    text = pl.col(column).str.strip_chars()
    return pl.coalesce(text.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("us") for form in forms)


def one_of(column: str, known: Sequence[str]) -> Fault:
    """Return the fault of a cell that holds none of some words."""
    return Fault(
        ~pl.col(column).is_in(known).fill_null(False), f"found {{value}}, should be one of {', '.join(known)}", column
    )


def seconds(micros: pl.Expr) -> pl.Expr:
    """Whole seconds of microseconds."""
    return micros // SECOND


def event_row(*, file: int = 0, micros: pl.Expr | None = None) -> pl.Expr:
    """The number of an event that breaks ties of its time: fraction of the second, then file, then row.

    Whole seconds cannot order the events within one, so the fraction goes in front: 20 bits of microseconds, 7 bits of
    file number and 36 bits of row, in one number of 63 bits. In a single file of whole seconds it is just the row.
    """
    number = pl.col(ROW).cast(pl.Int64) + (file << ROW_BITS)
    return number if micros is None else (micros % SECOND) * (1 << (ROW_BITS + FILE_BITS)) + number


def price_bucket(price: pl.Expr) -> pl.Expr:
    """The power of two below a price and the one above it, as text like "32-64"; null without a positive price."""
    power = (price.clip(1, 1e18).log(2) + 1e-9).floor().cast(pl.Int64)
    low = pl.lit(2, dtype=pl.Int64).pow(power)
    named = pl.format("{}-{}", low, low * 2)
    return pl.when(price >= 1).then(named).when(price > 0).then(pl.lit("0-1"))

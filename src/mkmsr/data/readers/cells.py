"""Cells of a raw table as text: ids of any type, several values in one cell, words that stand for nothing."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mkmsr.errors import DataError

EXACT, EXACT_SHORT = 2**53, 2**24
"""Up to here a float of 64 or 32 bits holds every whole number."""

SAMPLE = 100
"""So many cells say whether a column joins several values."""

LISTS = "[]"
"""The separator that stands for lists as programs print them: ["a", "b"] or ['a' 'b']."""
NUMPY = r"^\s*array\((.*?)(?:,\s*dtype=\w+)?\)\s*$"
NOTHING = ("None", "null", "nan", "NaN")
"""What stands for a missing value between those of a list."""
IN_LIST = r"""'[^']*'|"[^"]*"|[^\s,\[\](){}'"]+"""

FILLERS = (
    *("null", "NULL", "Null", "(null)", "None", "none", "NONE", "nan", "NaN", "NAN", "<NA>", "NA", "N/A", "n/a", "nil"),
    *("\\N", "undefined", "(not set)", "(none)", "#N/A", "-"),
)
"""Words that often stand for a missing value."""


def as_text(values: pl.Series, path: Path | str, *, hint: str = "") -> pl.Series:
    """Return a column as text: whole floats without a fraction, NaN and blanks as missing, bytes as they read.

    Several values a row, numbers that a float does not hold exactly and bytes that are no text raise DataError, with
    `hint`.
    """
    dtype = values.dtype
    if dtype == pl.String:
        blank = values.str.starts_with(" ")
        return values.set(blank & (values.str.strip_chars() == ""), None) if blank.any() else values
    if dtype.is_nested():
        raise DataError(f"has type {dtype}, should be one value a row{hint}", path=path, column=values.name)
    if dtype.is_float():
        return _float_text(values, path)
    if dtype.is_decimal():
        return values.cast(pl.String).str.replace(r"(\.\d*?)0+$", "$1").str.strip_suffix(".")
    if dtype == pl.Binary:
        return _bytes_text(values, path, hint)
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:
        raise DataError(f"has type {dtype}, should be text or a number{hint}", path=path, column=values.name) from None


def without_words(text: pl.Series, words: Sequence[str]) -> pl.Series:
    """The text with null for words that stand for a missing value."""
    if not words or text.dtype != pl.String:
        return text
    return text.set(text.is_in(list(words)), None)


def split_cells(values: pl.Expr, separator: str) -> pl.Expr:
    """Lists of the values in cells of text, blanks around them left out."""
    if separator != LISTS:
        return values.str.split(separator).list.eval(pl.element().str.strip_chars())
    plain = values.str.replace(NUMPY, "$1")
    words = plain.str.extract_all(IN_LIST).list.eval(pl.element().filter(~pl.element().is_in(NOTHING)))
    apart = words.list.eval(pl.element().str.strip_chars("\"'"))
    escaped = pl.when(plain.str.contains("\\", literal=True)).then(plain)
    return pl.coalesce(escaped.map_elements(_literal, return_dtype=pl.List(pl.String)), apart)


def joins_others(values: pl.Series, joined: pl.Series, separator: str) -> bool:
    """Whether most of the cells that a mask marks hold several values, each of which stands alone in another cell."""
    if not joined.any() or joined.all():
        return False
    alone = set(values.filter(~joined).unique().drop_nulls().to_list())
    sample = values.filter(joined).head(SAMPLE).to_frame("cell").select(split_cells(pl.col("cell"), separator))
    known = sum(bool(cell) and alone.issuperset(cell) for cell in sample["cell"].to_list())
    return 2 * known > sample.height


def _literal(cell: str) -> list[str]:
    """The values of a list with escaped characters, as JSON or Python writes it; the cell itself if it is none."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list | tuple | set):
            return [str(each) for each in found if each is not None]
    return [cell]


def _float_text(values: pl.Series, path: Path | str) -> pl.Series:
    values = values.fill_nan(None)
    exact = EXACT if values.dtype == pl.Float64 else EXACT_SHORT
    large = (values.abs() > exact).fill_null(False)
    if large.any():
        index = int(large.arg_max() or 0)
        raise DataError(
            f"{values[index]:.0f} is more than a {values.dtype} holds exactly, so ids have lost digits; write them as "
            "integers or text",
            path=path,
            column=values.name,
        )
    whole = values.cast(pl.Int64, strict=False)
    text = whole.cast(pl.String)
    fractions = (whole.cast(values.dtype) != values).fill_null(False)
    return text.zip_with(~fractions, values.cast(pl.String)) if fractions.any() else text


def _bytes_text(values: pl.Series, path: Path | str, hint: str) -> pl.Series:
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:
        pass
    if values.bin.size().drop_nulls().eq(16).all():  # a UUID
        digits = values.bin.encode("hex")
        parts = [digits.str.slice(begin, size) for begin, size in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
        return pl.select(pl.concat_str(parts, separator="-").alias(values.name)).to_series()
    raise DataError(f"holds bytes that are no text; write them as text{hint}", path=path, column=values.name)

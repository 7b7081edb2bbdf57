"""Raw events as the canonical table: ids as text, times in seconds, rows that order what happened in one second.

A small log is one table in memory. A large one is written piece by piece into temporary Parquet files, so that the
memory which reading takes does not grow with the log's texts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.readers.malformed import FAULT, FOUND, Fault, MalformedRows, empty, marks
from mkmsr.data.readers.notice import notice
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.pieces import RawPieces
from mkmsr.data.readers.table import ROW
from mkmsr.data.readers.times import RIGHT, TimeColumn
from mkmsr.data.scratch import Scratch
from mkmsr.errors import DataError

__all__ = ["FIELDS", "ONE_OPERATION", "CanonicalEvents", "as_text", "canonical_events"]

logger = logging.getLogger(__name__)

FIELDS = {
    "item": "item_id",
    "operation": "operation",
    "time": "time",
    "user": "user_id",
    "session": "session_id",
    "split": "split",
}
"""Fields of `ReadOptions.columns`, and what they are called in an InteractionLog."""

ONE_OPERATION = "event"
"""The operation of every event in a log without an operation column."""

SECONDS, FRACTION = " seconds", " fraction"
"""Names of added columns."""

UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "text": "dates and times"}


@dataclass(frozen=True)
class CanonicalEvents:
    """The events of a log.

    Args:
        rows: Canonical columns.
        files: The Parquet files that hold them; none where they are in memory.
    """

    rows: pl.LazyFrame
    files: tuple[Path, ...] = ()


def canonical_events(
    table: RawPieces,
    columns: Mapping[str, str],
    options: ReadOptions,
    malformed: MalformedRows,
    notes: dict[str, Any],
    scratch: Scratch,
) -> CanonicalEvents:
    """The events of a raw table. Values are checked here, where the row in the file is known.

    Args:
        table: The raw table.
        columns: Its column for each field that it has.
        options: What the caller said of the log.
        malformed: Takes note of malformed rows, which are left out.
        notes: What is noticed is written here.
        scratch: Where the pieces of a large table go.

    Raises:
        DataError: Too many rows are malformed, or units or zones of time are mixed.
    """
    times = TimeColumn(options.time_unit, table.label)
    faults = _faults(columns)
    marked = _stored((_marked(piece, columns, faults, times) for piece in table), table, scratch)
    before = malformed.count
    malformed.drop(marked.rows, faults, table.label)
    rows = marked.rows.filter(pl.col(FAULT).is_null()).drop(ROW, FAULT, FOUND)
    if times.unit is not None:
        notes["time_unit"] = UNITS[times.unit]
        logger.info("%s: column %r holds %s", table.label, columns["time"], UNITS[times.unit])
    notice(rows, table.label, notes)
    numbers = _order_of_fractions(rows) if "time" in columns else None
    rows = rows.drop(FRACTION, strict=False)
    if table.is_whole or (numbers is None and malformed.count == before):
        return CanonicalEvents(_renumbered(rows, numbers), marked.files)
    size = table.piece_rows
    pieces = (rows.slice(begin, size).collect() for begin in range(0, _count(rows), size))
    return _stored(_renumbered_pieces(pieces, numbers), table, scratch)


def as_text(values: pl.Series, label: str) -> pl.Series:
    """A column as text.

    Raises:
        DataError: It holds several values a row.
    """
    if values.dtype.is_nested():
        raise DataError(f"has type {values.dtype}, should be one value a row", path=label, column=values.name)
    return values.cast(pl.String)


def _faults(columns: Mapping[str, str]) -> list[Fault]:
    faults = [empty(column) for column in dict.fromkeys(name for field, name in columns.items() if field != "time")]
    if "time" in columns:
        time = columns["time"]
        faults.append(Fault(pl.col(time).is_null(), "the time is missing", time))
        faults.append(Fault(pl.col(SECONDS).is_null(), f"cannot read {{value}} as a time; {RIGHT}", time))
    return faults


def _marked(
    piece: pl.DataFrame, columns: Mapping[str, str], faults: Sequence[Fault], times: TimeColumn
) -> pl.DataFrame:
    """Canonical columns, FRACTION where there are times, ROW, and what is wrong with each row."""
    texts = {name: as_text(piece[name], times.label) for field, name in columns.items() if field != "time"}
    checked = piece.select(ROW).with_columns(texts.values())
    added: list[pl.Expr] = []
    if "time" in columns:
        raw = piece[columns["time"]]
        parsed = times.read(raw, piece[ROW])
        if raw.name not in texts:
            checked = checked.with_columns(raw.cast(pl.String, strict=False))
        checked = checked.with_columns(parsed.seconds.alias(SECONDS), parsed.fraction.alias(FRACTION))
        added = [pl.col(SECONDS).alias("time"), pl.col(FRACTION)]
    if "operation" not in columns:
        added.append(pl.lit(ONE_OPERATION).alias("operation"))
    ids = [pl.col(columns[field]).alias(FIELDS[field]) for field in columns if field != "time"]
    found = checked.with_columns(marks(faults))
    return found.select(*ids, *added, pl.col(ROW).alias("row"), ROW, FAULT, FOUND)


def _order_of_fractions(rows: pl.LazyFrame) -> NDArray[np.int64] | None:
    """A new number for every row, in the order of time, where fractions of a second say more than whole seconds.

    Whole seconds cannot order events within one, so the row numbers take over what the fractions say.
    """
    if not rows.select((pl.col(FRACTION) > 0).any()).collect(engine="streaming").item():
        return None
    known = rows.select("time", FRACTION).collect(engine="streaming")
    order = np.lexsort((known[FRACTION].to_numpy(), known["time"].to_numpy()))
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    return numbers


def _renumbered(rows: pl.LazyFrame, numbers: NDArray[np.int64] | None) -> pl.LazyFrame:
    return rows if numbers is None else rows.with_columns(row=pl.lit(pl.Series(numbers)))


def _renumbered_pieces(pieces: Iterator[pl.DataFrame], numbers: NDArray[np.int64] | None) -> Iterator[pl.DataFrame]:
    begin = 0
    for piece in pieces:
        end = begin + piece.height
        yield piece if numbers is None else piece.with_columns(row=pl.Series(numbers[begin:end]))
        begin = end


def _stored(pieces: Iterator[pl.DataFrame], table: RawPieces, scratch: Scratch) -> CanonicalEvents:
    """The pieces as one table: in memory where the raw table was, else in files."""
    if table.is_whole:
        return CanonicalEvents(pl.concat([piece.lazy() for piece in pieces]))
    files = []
    for piece in pieces:
        files.append(scratch.file(".parquet"))
        piece.write_parquet(files[-1], compression="lz4")
    return CanonicalEvents(pl.scan_parquet(files, glob=False), tuple(files))


def _count(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect(engine="streaming").item())

"""Raw events as the canonical table: ids as text, times in seconds, rows that order what happened in one second.

A small log is one table in memory. A large one is written piece by piece into temporary Parquet files, so that the
memory which reading takes does not grow with the log's texts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.readers.cells import LISTS, as_text, joins_others, split_cells, without_words
from mkmsr.data.readers.malformed import FAULT, FOUND, ROW, Fault, MalformedRows, empty, marks
from mkmsr.data.readers.notice import notice
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.sources import RawSource
from mkmsr.data.readers.table import PIECE_ROWS, RawTable
from mkmsr.data.readers.times import TimeColumn
from mkmsr.data.scratch import Scratch
from mkmsr.errors import DataError

__all__ = ["FIELDS", "ONE_OPERATION", "CanonicalEvents", "canonical_events", "stored", "warn_of_long_fields"]

logger = logging.getLogger(__name__)

FIELDS = {
    "item": "item_id",
    "operation": "operation",
    "time": "time",
    "user": "user_id",
    "session": "session_id",
    "split": "split",
    "order": "row",
}
"""Fields of `ReadOptions.columns`, and what they are called in an InteractionLog."""

ONE_OPERATION = "event"
"""The operation of every event in a log without an operation column."""

SECONDS, FRACTION, ORDER = " seconds", " fraction", " order"
"""Names of added columns."""

LISTED = "; lists of items take --item-separator '[]'"
LIKE_A_LIST = r"^\s*[\[({].*[\])}]\s*$"


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
    source: RawSource,
    columns: Mapping[str, str],
    options: ReadOptions,
    malformed: MalformedRows,
    notes: dict[str, Any],
    scratch: Scratch,
) -> CanonicalEvents:
    """The events of a source. Values are checked here, where the row in the file is known.

    Args:
        source: The raw tables.
        columns: Their column for each field that they have.
        options: What the caller said of the log.
        malformed: Takes note of malformed rows, which are left out.
        notes: What is noticed is written here.
        scratch: Where the pieces of a large log go.

    Raises:
        DataError: Too many rows are malformed, units or zones of time are mixed, or times are none.
    """
    times = TimeColumn(options)
    read = _Reading(columns, options, malformed, times, scratch, source)
    events = stored((piece for table in source.tables for piece in read.table(table)), scratch, small=source.small)
    if "time" in columns:
        times.finish(source.label, columns["time"], notes)
    rows = events.rows
    if _count(rows) == 0:
        raise DataError("no row names an item", path=source.label, column=columns["item"])
    notice(rows, source.label, notes)
    numbers = _order(rows, columns)
    added = [name for name in (FRACTION, ORDER) if name in rows.collect_schema().names()]
    if numbers is None:
        return CanonicalEvents(rows.drop(added), events.files)
    if source.small:
        return CanonicalEvents(rows.drop(added).with_columns(row=pl.lit(pl.Series(numbers))))
    pieces = (rows.drop(added).slice(begin, PIECE_ROWS).collect() for begin in range(0, len(numbers), PIECE_ROWS))
    return stored(_renumbered(pieces, numbers), scratch, small=False)


def stored(pieces: Iterable[pl.DataFrame], scratch: Scratch, *, small: bool) -> CanonicalEvents:
    """Pieces as one table: in memory, or where they are not small in files."""
    if small:
        return CanonicalEvents(pl.concat([piece.lazy() for piece in pieces]))
    files = []
    for piece in pieces:
        files.append(scratch.file(".parquet"))
        piece.write_parquet(files[-1], compression="lz4")
    return CanonicalEvents(pl.scan_parquet(files, glob=False), tuple(files))


def warn_of_long_fields(table: RawTable, *, strict: bool) -> None:
    """Warns of fields over several lines: an open quotation mark may have swallowed rows.

    Raises:
        DataError: There are some, and the reader is strict.
    """
    found = table.long_fields
    if found is None:
        return
    row = found.row + 1
    text = (
        f"a field begins here that spans {found.lines} lines; if its quotation mark is only a character, --quote none "
        "reads marks as such"
    )
    if strict:
        raise DataError(text, path=table.path, row=row)
    logger.warning("%s, row %d: %s (the longest of %d)", table.path, row, text, found.count)


class _Reading:
    """What the tables of one source have in common while their events are read."""

    def __init__(
        self,
        columns: Mapping[str, str],
        options: ReadOptions,
        malformed: MalformedRows,
        times: TimeColumn,
        scratch: Scratch,
        source: RawSource,
    ):
        self._columns, self._options, self._malformed = columns, options, malformed
        self._times, self._scratch, self._small = times, scratch, source.small
        self._alone = len(source.tables) == 1
        self._rows = 0

    def table(self, table: RawTable) -> Iterator[pl.DataFrame]:
        """The canonical events of one table, piece by piece, with FRACTION and ORDER where there are such."""
        warn_of_long_fields(table, strict=self._options.strict)
        wanted = list(dict.fromkeys(self._columns.values()))
        faults = [*table.faults(wanted), *_faults(self._columns, self._times.right)]
        check = self._malformed.check(table.path, faults, first_row=table.first_row)
        before, last = self._rows, -1
        for piece in table.pieces(wanted, self._scratch, small=self._small):
            good = check.good(self._marked(piece, table, faults))
            if piece.height:
                last = int(piece[ROW][-1])
            rows = pl.col(ROW) + before
            if table.several or self._options.item_separator is not None:
                rows = pl.int_range(self._rows, self._rows + pl.len(), dtype=pl.Int64)
                self._rows += good.height
            yield good.with_columns(rows.alias("row")).drop(ROW)
        check.close(may_be_empty=not self._alone)
        self._rows = max(self._rows, before + last + 1)

    def _marked(self, piece: pl.DataFrame, table: RawTable, faults: Sequence[Fault]) -> pl.DataFrame:
        """Canonical columns, FRACTION and ORDER where there are such, ROW, and what is wrong with each row."""
        columns, options = self._columns, self._options
        if options.item_separator is not None:
            piece = _with_items_apart(piece, columns["item"], options.item_separator)
        raw = {name: without_words(piece[name], options.missing) for name in dict.fromkeys(columns.values())}
        texts = {
            name: as_text(raw[name], table.path, hint=_list_hint(field, raw[name]))
            for field, name in columns.items()
            if field not in ("time", "order")
        }
        _refuse_several_items(texts[columns["item"]], piece[ROW] + table.first_row, table.path)
        checked = piece.with_columns(texts.values())
        added: list[pl.Expr] = []
        if "time" in columns:
            time = raw[columns["time"]]
            time = time.fill_nan(None) if time.dtype.is_float() else time
            parsed = self._times.read(time, piece[ROW] + table.first_row, table.path)
            if time.name not in texts:
                checked = checked.with_columns(time.cast(pl.String, strict=False))
            checked = checked.with_columns(parsed.seconds.alias(SECONDS), parsed.fraction.alias(FRACTION))
            added = [pl.col(SECONDS).alias("time"), pl.col(FRACTION)]
        if "order" in columns:
            order = as_text(raw[columns["order"]], table.path)
            numbers = order.str.strip_chars().cast(pl.Int64, strict=False)
            checked = checked.with_columns(order, numbers.alias(ORDER))
            added.append(pl.col(ORDER))
        if "operation" not in columns:
            added.append(pl.lit(ONE_OPERATION).alias("operation"))
        ids = [_id(field, columns) for field in columns if field not in ("time", "order")]
        return checked.with_columns(marks(faults)).select(*ids, *added, ROW, FAULT, FOUND)


def _list_hint(field: str, values: pl.Series) -> str:
    return LISTED if field == "item" and isinstance(values.dtype, pl.List | pl.Array) else ""


def _id(field: str, columns: Mapping[str, str]) -> pl.Expr:
    """A field's column; nobody's session may have no user, but not one that is called nothing."""
    text = pl.col(columns[field])
    if field == "user" and "session" in columns:
        text = pl.when(text != "").then(text)
    return text.alias(FIELDS[field])


def _faults(columns: Mapping[str, str], right: str) -> list[Fault]:
    """Faults of events. One without an item, such as a page view, is left out and no fault."""
    needed = [column for field, column in columns.items() if field not in ("time", "order", "item")]
    if {"user", "session"} <= columns.keys() and columns["user"] != columns["session"]:
        needed.remove(columns["user"])
    faults = [empty(column) for column in dict.fromkeys(needed)]
    if "time" in columns:
        time = columns["time"]
        faults.append(Fault(pl.col(time).is_null(), "the time is missing", time))
        faults.append(Fault(pl.col(SECONDS).is_null(), f"cannot read {{value}} as a time; {right}", time))
    if "order" in columns:
        faults.append(Fault(pl.col(ORDER).is_null(), "found {value}, should be a whole number", columns["order"]))
    item = empty(columns["item"])
    return [*faults, Fault(item.bad, "", item.column, counted_as="events_without_item")]


def _with_items_apart(piece: pl.DataFrame, item: str, separator: str) -> pl.DataFrame:
    """One row for each item of a cell."""
    if isinstance(piece.schema[item], pl.List | pl.Array):
        listed = pl.col(item).cast(pl.List(piece.schema[item].inner))  # type: ignore[attr-defined]
    else:
        listed = split_cells(pl.col(item).cast(pl.String), separator)
    apart = piece.with_columns(listed).explode(item, empty_as_null=True)
    return apart if apart.schema[item] != pl.String else apart.filter((pl.col(item) != "").fill_null(True))


def _refuse_several_items(items: pl.Series, rows: pl.Series, path: Path | str) -> None:
    """Refuse a column of items that are lists."""
    if not items.str.contains_any([*"[({|;,"]).any():
        return
    hint = "holds several items; --item-separator {separator!r} makes an event of each"
    listed = items.str.contains(LIKE_A_LIST).fill_null(False)
    suspects: list[tuple[pl.Series, str]] = []
    if 2 * int(listed.sum()) > len(items) - items.null_count() or joins_others(items, listed, LISTS):
        suspects.append((listed, LISTS))
    for separator in "|;,":
        joined = items.str.contains(separator, literal=True).fill_null(False)
        if joins_others(items, joined, separator):
            suspects.append((joined, separator))
    for cells, separator in suspects:
        index = int(cells.arg_max() or 0)
        raise DataError(
            f"{items[index]!r} {hint.format(separator=separator)}", path=path, row=int(rows[index]), column=items.name
        )


def _order(rows: pl.LazyFrame, columns: Mapping[str, str]) -> NDArray[np.int64] | None:
    """A new number for every row where a column orders the rows, or fractions of a second say more than whole seconds.

    Whole seconds cannot order events within one, so the row numbers take over what the fractions say.
    """
    keys = [name for name, field in ((ORDER, "order"), (FRACTION, "time"), ("time", "time")) if field in columns]
    if keys == [FRACTION, "time"] and not rows.select((pl.col(FRACTION) > 0).any()).collect(engine="streaming").item():
        return None
    if not keys:
        return None
    known = rows.select(keys).collect(engine="streaming")
    order = np.lexsort([known[name].to_numpy() for name in keys])
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    return numbers


def _renumbered(pieces: Iterable[pl.DataFrame], numbers: NDArray[np.int64]) -> Iterator[pl.DataFrame]:
    begin = 0
    for piece in pieces:
        end = begin + piece.height
        yield piece.with_columns(row=pl.Series(numbers[begin:end]))
        begin = end


def _count(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect(engine="streaming").item())

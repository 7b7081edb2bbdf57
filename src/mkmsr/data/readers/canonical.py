"""Raw events as the canonical table: ids as text, times in seconds, rows that order what happened in one second.

What is odd in them and no error (shared sessions, doubled events, times that run backwards) is counted and logged.

A small log is one table in memory. A large one is written piece by piece into temporary Parquet files, so that the
memory which reading takes does not grow with the log's texts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.readers.cells import FILLERS, LISTS, as_text, joins_others, split_cells, without_words
from mkmsr.data.readers.malformed import ROW, Fault, empty
from mkmsr.data.readers.sources import RawSource, Stored
from mkmsr.data.readers.table import PIECE_ROWS, RawTable
from mkmsr.data.readers.times import TimeColumn
from mkmsr.errors import DataError

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


logger = logging.getLogger(__name__)

LONGEST_FILLER = max(map(len, FILLERS))

MOST_WORDS = 5
"""So many of the words are named."""

SHORTENED = r"^\d(?:\.\d+)?[eE]\+\d+$"
"""An id of which a spreadsheet kept only the first digits: 1.23457E+12."""


def canonical_events(source: RawSource, columns: Mapping[str, str], notes: dict[str, Any]) -> Stored:
    """Return the events of a source in canonical columns, from its column for each field that it has.

    Values are checked here, where the row in the file is known: units or zones of time that are mixed, and times that
    are none, raise DataError. `notes` take what was noticed, such as how many rows are left out.
    """
    read = _Reading(source, columns, notes)
    rows, files = source.stored(piece for table in source.tables for piece in read.table(table))
    if "time" in columns:
        read.times.finish(source.label, columns["time"], notes)
    if not rows.select(pl.len()).collect(engine="streaming").item():
        raise DataError("no row names an item", path=source.label, column=columns["item"])
    notice(rows, source.label, notes)
    numbers = _order(rows, columns)
    added = [name for name in (FRACTION, ORDER) if name in rows.collect_schema().names()]
    if numbers is None:
        return rows.drop(added), files
    if source.small:
        return rows.drop(added).with_columns(row=pl.lit(pl.Series(numbers))), ()
    pieces = (
        rows.drop(added).slice(begin, PIECE_ROWS).collect().with_columns(row=pl.Series(numbers[begin:][:PIECE_ROWS]))
        for begin in range(0, len(numbers), PIECE_ROWS)
    )
    return source.stored(pieces)


class _Reading:
    """What the tables of one source have in common while their events are read."""

    def __init__(self, source: RawSource, columns: Mapping[str, str], notes: dict[str, Any]):
        self.times = TimeColumn(source.options)
        self._source, self._columns, self._notes = source, columns, notes
        self._rows = 0

    def table(self, table: RawTable) -> Iterator[pl.DataFrame]:
        """Yield the canonical events of one table, piece by piece, with FRACTION and ORDER where there are such."""
        columns, options = self._columns, self._source.options
        wanted = list(dict.fromkeys(columns.values()))
        faults = _faults(columns, self.times.right)
        ids = [_id(field, columns) for field in columns if field not in ("time", "order")]
        if "operation" not in columns:
            ids.append(pl.lit(ONE_OPERATION).alias("operation"))
        if "time" in columns:
            ids += [pl.col(SECONDS).alias("time"), pl.col(FRACTION)]
        if "order" in columns:
            ids.append(pl.col(ORDER))
        before, last = self._rows, -1

        def mark(piece: pl.DataFrame) -> pl.DataFrame:
            nonlocal last
            last = int(piece[ROW][-1]) if piece.height else last
            return self._checked(piece, table)

        for good in self._source.good_rows(table, wanted, faults, self._notes, mark):
            rows = pl.col(ROW) + before
            if table.several or options.item_separator is not None:
                rows = pl.int_range(self._rows, self._rows + pl.len(), dtype=pl.Int64)
                self._rows += good.height
            yield good.select(*ids, rows.alias("row"))
        self._rows = max(self._rows, before + last + 1)

    def _checked(self, piece: pl.DataFrame, table: RawTable) -> pl.DataFrame:
        """The raw columns as text, and SECONDS, FRACTION and ORDER where there are such."""
        columns, options = self._columns, self._source.options
        if options.item_separator is not None:
            piece = _with_items_apart(piece, columns["item"], options.item_separator)
        raw = {name: without_words(piece[name], options.missing) for name in dict.fromkeys(columns.values())}
        has_lists = isinstance(raw[columns["item"]].dtype, pl.List | pl.Array)
        texts = {
            name: as_text(raw[name], table.path, hint=LISTED if field == "item" and has_lists else "")
            for field, name in columns.items()
            if field not in ("time", "order")
        }
        lines = piece[ROW] + table.first_row
        _refuse_several_items(texts[columns["item"]], lines, table.path)
        checked = piece.with_columns(texts.values())
        if "time" in columns:
            time = raw[columns["time"]]
            time = time.fill_nan(None) if time.dtype.is_float() else time
            parsed = self.times.read(time, lines, table.path)
            if time.name not in texts:
                checked = checked.with_columns(time.cast(pl.String, strict=False))
            checked = checked.with_columns(parsed.seconds.alias(SECONDS), parsed.fraction.alias(FRACTION))
        if "order" in columns:
            order = as_text(raw[columns["order"]], table.path)
            numbers = order.str.strip_chars().cast(pl.Int64, strict=False)
            checked = checked.with_columns(order, numbers.alias(ORDER))
        return checked


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


def notice(events: pl.LazyFrame, label: str, notes: dict[str, Any]) -> None:
    """Write the counts into the notes. Of each event only hashes and the time are in memory, 24 bytes."""
    names = events.collect_schema().names()
    if {"session_id", "user_id"} <= set(names):
        notes["sessions_of_several_users"] = _shared_sessions(events, label)
    _count_fillers(events, names, label, notes)
    if "time" not in names:
        return
    owner = "session_id" if "session_id" in names else "user_id"
    numbers = events.select(
        "time", owner=pl.col(owner).hash(), event=pl.struct(owner, "item_id", "operation", "time").hash()
    ).collect(engine="streaming")
    event = np.sort(numbers["event"].to_numpy())
    if doubles := int(np.count_nonzero(event[1:] == event[:-1])):
        notes["duplicated_events"] = doubles
        logger.info("%s: %d events repeat an earlier one; --drop-duplicates keeps one of each", label, doubles)
    del event
    if backwards := _backwards(numbers["owner"].to_numpy(), numbers["time"].to_numpy()):
        notes["events_out_of_order"] = backwards
        logger.info("%s: %d events are older than the one before of their session; times decide", label, backwards)


def _count_fillers(events: pl.LazyFrame, names: list[str], label: str, notes: dict[str, Any]) -> None:
    """Counts ids and operations that are words for a missing value, or numbers as spreadsheets shorten them."""
    found = {}
    for name in (each for each in ("item_id", "user_id", "session_id", "operation") if each in names):
        text = pl.col(name)
        odd = events.filter(
            (text.str.len_bytes() <= LONGEST_FILLER) & text.is_in(FILLERS) | text.str.contains(SHORTENED)
        )
        words = odd.group_by(name).len().sort("len", name, descending=[True, False]).head(MOST_WORDS)
        if counts := dict(words.collect(engine="streaming").iter_rows()):
            found[name] = counts
            counted = ", ".join(f"{word!r} ({count:,})" for word, count in counts.items())
            if any(word not in FILLERS for word in counts):
                way_out = "a spreadsheet has shortened them; export them as text"
            else:
                way_out = "--missing WORDS takes words for missing values"
            logger.warning("%s: %s holds %s; %s", label, name, counted, way_out)
    if found:
        notes["filler_words"] = found


def _backwards(owner: NDArray[np.uint64], time: NDArray[np.int64]) -> int:
    """How many events are older than the one before them of the same owner."""
    if (time[1:] >= time[:-1]).all():
        return 0
    order = np.argsort(owner, kind="stable")
    owner, time = owner[order], time[order]
    return int(np.count_nonzero((owner[1:] == owner[:-1]) & (time[1:] < time[:-1])))


def _shared_sessions(events: pl.LazyFrame, label: str) -> int:
    """How many sessions hold events of more than one user: a login inside a session, or numbers that start again."""
    named = events.filter(pl.col("user_id").is_not_null())
    users = named.select(pl.col("session_id").hash(), user=pl.col("user_id").hash()).group_by("session_id")
    several = users.agg(several=pl.col("user").min() != pl.col("user").max()).select(pl.col("several").sum())
    count = int(several.collect(engine="streaming").item())
    if count:
        logger.warning(
            "%s: %d sessions hold events of several users; if session numbers start again with each user, "
            "make them distinct before, or leave the sessions to the gap (session= without a name)",
            label,
            count,
        )
    return count

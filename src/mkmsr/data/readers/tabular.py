"""The generic reader: any event table, with the columns that it happens to have."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.log import InteractionLog, LogSource
from mkmsr.data.readers.malformed import Fault, MalformedRows, empty, marks
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.raw_bytes import pieces
from mkmsr.data.readers.scan import EXTRA, scan_text
from mkmsr.data.readers.table import ROW, check_columns, header_names, parquet_files, read_table, separator_of
from mkmsr.data.readers.times import RIGHT, read_times
from mkmsr.data.scratch import Scratch
from mkmsr.errors import ConfigError, DataError, nearest

__all__ = ["FIELDS", "ONE_OPERATION", "read_events"]

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


def read_events(source: Path, options: ReadOptions) -> InteractionLog:
    """The log in one event table, with the attributes in another if there is one.

    Only items and one of sessions and users are required. Without operations all events have one; without times the
    order of the rows counts; without sessions preparation cuts them by gap. Ids are text and kept exactly as written.

    Raises:
        DataError: A file or column is missing or not as it should be; names the file, row and column.
        ConfigError: The column mapping names an unknown field.
    """
    malformed = MalformedRows(options)
    table = _table(source, options, malformed)
    columns = _mapping(table, options.columns, source)
    notes: dict[str, Any] = {"columns": columns}
    events = _events(table, columns, options, source, notes, malformed)
    _notice(events, source, notes)
    sources = [LogSource.of(path) for path in _files(source)]
    attributes = None
    if options.attributes is not None:
        attributes = _attributes(options.attributes, columns["item"], options, malformed)
        sources += [LogSource.of(path) for path in _files(options.attributes)]
    elif options.multi is not None:
        raise ConfigError("splits cells of an attribute table, but none is given", key="multi")
    return InteractionLog(
        events.lazy(),
        None if attributes is None else attributes.lazy(),
        name=source.name.split(".")[0],
        sources=tuple(sources),
        column_names={FIELDS[field]: column for field, column in columns.items()},
        notes={**notes, **malformed.notes()},
    )


def _files(source: Path) -> list[Path]:
    return parquet_files(source) if source.is_dir() else [source]


def _table(path: Path, options: ReadOptions, malformed: MalformedRows) -> pl.DataFrame:
    """The raw table; lines that are no rows of it are malformed rows."""
    try:
        return read_table(path)
    except DataError as error:
        if options.strict or error.row is None or error.row == 1:
            raise
        scratch = Scratch(options.scratch)
        separator = separator_of(path)
        names = header_names(b"".join(pieces(path)), separator, path)
        raw = scan_text(path, names, scratch, separator=separator)
        try:
            marked = raw.rows.select(pl.all().exclude(EXTRA), *marks(raw.faults())).collect().lazy()
            return malformed.drop(marked, raw.faults(), path).with_columns(pl.col(ROW).cast(pl.Int64)).collect()
        except (DataError, pl.exceptions.PolarsError):
            raise error from None  # it says more of the first one


def _mapping(table: pl.DataFrame, wanted: Mapping[str, str], path: Path) -> dict[str, str]:
    """The file's column of each field that it has.

    A field without a mapping is the column of its own name, if there is one; mapped to nothing, it is left out.
    """
    for field in wanted:
        if field not in FIELDS:
            raise ConfigError(
                f"unknown field{nearest(field, FIELDS)}; fields: {', '.join(FIELDS)}", key=f"columns.{field}"
            )
    own = {field: field for field in FIELDS if field in table.columns and field not in wanted}
    columns = {**own, **{field: column for field, column in wanted.items() if column}}
    check_columns(table, path, *columns.values())
    known = ", ".join(name for name in table.columns if name != ROW)
    if "item" not in columns:
        raise DataError(f"no column 'item'; say which one it is with item=NAME, one of {known}", path=path)
    if not {"session", "user"} & set(columns):
        raise DataError(f"no column 'session' or 'user'; say which one it is with user=NAME, one of {known}", path=path)
    return {field: columns[field] for field in FIELDS if field in columns}


def _events(
    table: pl.DataFrame,
    columns: Mapping[str, str],
    options: ReadOptions,
    path: Path,
    notes: dict[str, Any],
    malformed: MalformedRows,
) -> pl.DataFrame:
    """The canonical event table. Values are checked here, where the row in the file is known."""
    named = dict.fromkeys(column for field, column in columns.items() if field != "time")
    checked = table.select(ROW).with_columns(_text(table[column], path) for column in named)
    faults = [empty(column) for column in named]
    times: list[pl.Expr] = []
    if "time" in columns:
        raw = table[columns["time"]]
        parsed = read_times(raw, unit=options.time_unit, path=path, rows=table[ROW])
        notes["time_unit"] = UNITS[parsed.unit]
        logger.info("%s: column %r holds %s", path, columns["time"], UNITS[parsed.unit])
        checked = checked.with_columns(
            raw.cast(pl.String, strict=False), parsed.seconds.alias(SECONDS), parsed.fraction.alias(FRACTION)
        )
        faults.append(Fault(pl.lit(raw.is_null()), "the time is missing", columns["time"]))
        faults.append(Fault(pl.col(SECONDS).is_null(), f"cannot read {{value}} as a time; {RIGHT}", columns["time"]))
        times = [pl.col(SECONDS).alias("time"), pl.col(FRACTION)]
    rows = malformed.drop(checked.with_columns(marks(faults)).lazy(), faults, path).collect()
    operation = [] if "operation" in columns else [pl.lit(ONE_OPERATION).alias("operation")]
    ids = [pl.col(columns[field]).alias(FIELDS[field]) for field in columns if field != "time"]
    events = rows.select(*ids, *operation, pl.col(ROW).alias("row"), *times)
    if "time" not in columns:
        return events
    if (events[FRACTION] > 0).any():
        # Whole seconds cannot order events within one, so the row numbers take over what the fractions say.
        ordered = events.sort("time", FRACTION, "row")
        events = ordered.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    return events.drop(FRACTION)


def _text(values: pl.Series, path: Path) -> pl.Series:
    """A column as text."""
    if values.dtype.is_nested():
        raise DataError(f"has type {values.dtype}, should be one value a row", path=path, column=values.name)
    return values.cast(pl.String)


def _notice(events: pl.DataFrame, path: Path, notes: dict[str, Any]) -> None:
    """Counts what is odd in a log and no error: shared sessions, doubled events, times that run backwards."""
    if {"session_id", "user_id"} <= set(events.columns):
        notes["sessions_of_several_users"] = _shared_sessions(events, path)
    if "time" not in events.columns:
        return
    owner = "session_id" if "session_id" in events.columns else "user_id"
    numbers = events.select(
        "time", owner=pl.col(owner).hash(), event=pl.struct(owner, "item_id", "operation", "time").hash()
    )
    doubles = events.height - numbers["event"].n_unique()
    if doubles:
        notes["duplicated_events"] = doubles
        logger.info("%s: %d events repeat an earlier one; --drop-duplicates keeps one of each", path, doubles)
    if events["time"].is_sorted():
        return
    backwards = int(numbers.select((pl.col("time") < pl.col("time").shift(1).over("owner")).sum()).item())
    if backwards:
        notes["events_out_of_order"] = backwards
        logger.info("%s: %d events are older than the one before of their session; times decide", path, backwards)


def _shared_sessions(events: pl.DataFrame, path: Path) -> int:
    """How many sessions hold events of more than one user: a login inside a session, or numbers that start again."""
    users = events.lazy().select("session_id", user=pl.col("user_id").hash()).group_by("session_id")
    several = users.agg(several=pl.col("user").min() != pl.col("user").max()).select(pl.col("several").sum())
    count = int(several.collect().item())
    if count:
        logger.warning(
            "%s: %d sessions hold events of several users; if session numbers start again with each user, "
            "make them distinct before, or leave the sessions to the gap (session= without a name)",
            path,
            count,
        )
    return count


def _attributes(path: Path, item_column: str, options: ReadOptions, malformed: MalformedRows) -> pl.DataFrame:
    """`item_id`, `relation`, `value`, `row` from a long or wide table; empty values stay, preparation counts them."""
    table = _table(path, options, malformed)
    item = "item" if "item" in table.columns and item_column not in table.columns else item_column
    check_columns(table, path, item)
    names = [name for name in table.columns if name not in (item, ROW)]
    is_long = {"relation", "value"} <= set(names)
    keys = [item, "relation"] if is_long else [item]
    table = table.with_columns(_text(table[name], path) for name in keys)
    faults = [empty(name) for name in keys]
    table = malformed.drop(table.with_columns(marks(faults)).lazy(), faults, path).collect()
    if is_long:
        long = table.select(pl.col(item).alias("item_id"), pl.col("relation", "value").cast(pl.String))
    else:
        if not names:
            raise DataError(
                "has no column beside the item; give relation and value, or one column a relation", path=path
            )
        long = pl.concat([_relation(table, item, name) for name in names])
    if options.multi is not None:
        parts = pl.col("value").str.split(options.multi)
        long = long.with_columns(value=parts).explode("value").with_columns(pl.col("value").str.strip_chars())
    return long.select("item_id", "relation", "value", row=pl.int_range(pl.len(), dtype=pl.Int64))


def _relation(table: pl.DataFrame, item: str, name: str) -> pl.DataFrame:
    """One column of a wide table as rows; a list of Parquet is several values."""
    column = table.select(pl.col(item).alias("item_id"), pl.lit(name).alias("relation"), pl.col(name).alias("value"))
    if column.schema["value"] == pl.List:
        column = column.explode("value")
    return column.with_columns(pl.col("value").cast(pl.String))

"""The generic reader: any event table, with the columns that it happens to have."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.log import InteractionLog, LogSource
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.table import ROW, check_columns, read_table
from mkmsr.data.readers.times import parse_times
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

UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "text": "dates and times"}


def read_events(source: Path, options: ReadOptions) -> InteractionLog:
    """The log in one event table, with the attributes in another if there is one.

    Only items and one of sessions and users are required. Without operations all events have one; without times the
    order of the rows counts; without sessions preparation cuts them by gap. Ids are text and kept exactly as written.

    Raises:
        DataError: A file or column is missing or not as it should be; names the file, row and column.
        ConfigError: The column mapping names an unknown field.
    """
    table = read_table(source)
    columns = _mapping(table, options.columns, source)
    notes: dict[str, Any] = {"columns": columns}
    events = _events(table, columns, options, source, notes)
    if {"session", "user"} <= set(columns):
        notes["sessions_of_several_users"] = _shared_sessions(events, source)
    sources = [LogSource.of(source)]
    attributes = None
    if options.attributes is not None:
        attributes = _attributes(options.attributes, columns["item"], options.multi)
        sources.append(LogSource.of(options.attributes))
    elif options.multi is not None:
        raise ConfigError("splits cells of an attribute table, but none is given", key="multi")
    return InteractionLog(
        events.lazy(),
        None if attributes is None else attributes.lazy(),
        name=source.name.split(".")[0],
        sources=tuple(sources),
        column_names={FIELDS[field]: column for field, column in columns.items()},
        notes=notes,
    )


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
    table: pl.DataFrame, columns: Mapping[str, str], options: ReadOptions, path: Path, notes: dict[str, Any]
) -> pl.DataFrame:
    """The canonical event table. Ids are checked here, where the row in the file is known."""
    parts = [_text(table[columns[field]], path).alias(FIELDS[field]) for field in columns if field != "time"]
    if "operation" not in columns:
        parts.append(pl.Series("operation", [ONE_OPERATION]).new_from_index(0, len(table)))
    events = pl.DataFrame(parts).with_columns(row=table[ROW])
    if "time" not in columns:
        return events
    times = parse_times(table[columns["time"]], unit=options.time_unit, path=path)
    notes["time_unit"] = UNITS[times.unit]
    logger.info("%s: column %r holds %s", path, columns["time"], UNITS[times.unit])
    events = events.with_columns(time=times.seconds)
    if not (times.fraction > 0).any():
        return events
    # Whole seconds cannot order events within one, so the row numbers take over what the fractions say.
    ordered = events.with_columns(fraction=times.fraction).sort("time", "fraction", "row").drop("fraction")
    return ordered.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))


def _text(values: pl.Series, path: Path) -> pl.Series:
    """A column as text without empty values."""
    if values.dtype.is_nested():
        raise DataError(f"has type {values.dtype}, should be one value a row", path=path, column=values.name)
    text = values.cast(pl.String)
    empty = text.is_null() | (text == "")
    if empty.any():
        row, count = int(empty.arg_max() or 0), int(empty.sum())
        more = f" ({count} such rows)" if count > 1 else ""
        raise DataError(f"the value is empty{more}", path=path, row=row + 2, column=values.name)
    return text


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


def _attributes(path: Path, item_column: str, multi: str | None) -> pl.DataFrame:
    """`item_id`, `relation`, `value`, `row` from a long or wide table; empty values stay, preparation counts them."""
    table = read_table(path)
    item = "item" if "item" in table.columns and item_column not in table.columns else item_column
    check_columns(table, path, item)
    table = table.with_columns(_text(table[item], path))
    names = [name for name in table.columns if name not in (item, ROW)]
    if {"relation", "value"} <= set(names):
        _text(table["relation"], path)
        long = table.select(pl.col(item).alias("item_id"), pl.col("relation", "value").cast(pl.String))
    else:
        if not names:
            raise DataError(
                "has no column beside the item; give relation and value, or one column a relation", path=path
            )
        long = pl.concat([_relation(table, item, name) for name in names])
    if multi is not None:
        parts = pl.col("value").str.split(multi)
        long = long.with_columns(value=parts).explode("value").with_columns(pl.col("value").str.strip_chars())
    return long.select("item_id", "relation", "value", row=pl.int_range(pl.len(), dtype=pl.Int64))


def _relation(table: pl.DataFrame, item: str, name: str) -> pl.DataFrame:
    """One column of a wide table as rows; a list of Parquet is several values."""
    column = table.select(pl.col(item).alias("item_id"), pl.lit(name).alias("relation"), pl.col(name).alias("value"))
    if column.schema["value"] == pl.List:
        column = column.explode("value")
    return column.with_columns(pl.col("value").cast(pl.String))

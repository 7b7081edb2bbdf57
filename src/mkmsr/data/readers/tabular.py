"""The generic reader: any event table, in files, a database or memory, with the columns that it happens to have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.attributes import read_attributes
from mkmsr.data.readers.canonical import FIELDS, ONE_OPERATION, canonical_events
from mkmsr.data.readers.malformed import ROW
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.sources import RawSource, open_source
from mkmsr.data.readers.table import RawTable
from mkmsr.errors import ConfigError, DataError, nearest
from mkmsr.runtime.files import Scratch

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

_ABSENT = {
    "operation": f"every event has the one operation {ONE_OPERATION!r}",
    "time": "the order of the rows counts, and --gap counts rows",
}
"""What holds in a log without such a column."""

_PUBLIC_ONLY = {"relations"}
"""Options that say what to take from the files of a public data set."""

_ATTRIBUTES_ONLY = ("multi", "levels", "attribute_columns", "attribute_separator", "attributes_at")


def read_events(source: str | Path, options: ReadOptions) -> InteractionLog:
    """The log in one event table, with the attributes in another if there is one.

    Only items and one of sessions and users are required. Without operations all events have one; without times the
    order of the rows counts; without sessions preparation cuts them by gap. Ids are text and kept exactly as written.
    A DataError names the file, row and column that are not as they should be.
    """
    options.refuse("events", allowed=tuple(type(options).model_fields.keys() - _PUBLIC_ONLY))
    scratch, known = Scratch(options.scratch), None
    opened = open_source(source, options, scratch)
    if options.attributes is not None:
        separator = options.attribute_separator or options.separator
        known = open_source(options.attributes, options.model_copy(update={"separator": separator}), scratch)
    name = Path(opened.label.partition("?")[0]).name.split(".")[0]
    return read_opened(opened, known, name=name)


def read_opened(opened: RawSource, known: RawSource | None, *, name: str) -> InteractionLog:
    """Return the log in opened tables: one of events, and perhaps one of item attributes; see `read_events`."""
    options = opened.options
    columns = _mapping(opened, options.columns)
    notes: dict[str, Any] = {"columns": columns, **_not_used(opened, columns)}
    events, files = canonical_events(opened, columns, notes)
    sources, attributes, display = opened.sources, None, None
    if known is not None:
        attributes, display = read_attributes(known, events, columns["item"], notes)
        sources += known.sources
    elif unused := [each for each in _ATTRIBUTES_ONLY if getattr(options, each)]:
        raise ConfigError("is about an attribute table, but none is given", key=unused[0])
    return InteractionLog(
        events,
        attributes,
        name=name,
        sources=sources,
        column_names={FIELDS[field]: column for field, column in columns.items() if field != "order"},
        notes=notes,
        files=files,
        display=display,
        scratch=opened.scratch,
    )


def _mapping(source: RawSource, wanted: Mapping[str, str]) -> dict[str, str]:
    """The source's column of each field that it has.

    A field without a mapping is the column of its own name, if there is one; mapped to nothing, it is left out.
    """
    for field in wanted:
        if field not in FIELDS:
            raise ConfigError(
                f"unknown field{nearest(field, FIELDS)}; fields: {', '.join(FIELDS)}", key=f"columns.{field}"
            )
    names = source.columns
    if len(names) == 1 and (others := [each for each in ("\t", "::", *";,|") if each in names[0]]):
        raise DataError(
            f"the header is a single field, {names[0]!r}; fields stand between commas in .csv, tabs in .tsv and .txt, "
            f"others take --separator {others[0]!r}",
            path=source.tables[0].path,
            row=1,
        )
    own = {field: field for field in FIELDS if field in names and field not in wanted and field != "order"}
    columns = {**own, **{field: column for field, column in wanted.items() if column}}
    source.check(*columns.values())
    for needed in (("item",), ("session", "user")):
        if not set(needed) & set(columns):
            lacking = " or ".join(map(repr, needed))
            option = "" if source.frame else "--columns "
            way_out = f"say which one it is with {option}{needed[-1]}=NAME, one of {', '.join(names)}"
            raise DataError(f"no column {lacking}; {way_out}", path=source.label)
    return {field: columns[field] for field in FIELDS if field in columns}


def _not_used(source: RawSource, columns: Mapping[str, str]) -> dict[str, list[str]]:
    """Columns that no field is read from, and what holds instead of fields without a column: perhaps a slip."""
    unused = [name for name in source.columns if name not in columns.values()]
    assumed = [
        f"{field}: {meaning if field != 'time' or 'order' not in columns else 'the order column counts'}"
        for field, meaning in _ABSENT.items()
        if field not in columns
    ]
    return {key: each for key, each in (("unused_columns", unused), ("assumed", assumed)) if each}


def read_frames(
    events: IntoDataFrame, items: IntoDataFrame | None, options: ReadOptions, *, name: str = "frame"
) -> InteractionLog:
    """Return the log in a frame of events, with what another frame says of the items; read as files are, same errors.

    Frames are of pandas, polars or another library with eager frames that Narwhals knows. That of items has one row an
    item, or one row a value of a relation.
    """
    scratch = Scratch(options.scratch)
    known = None if items is None else _source(items, "the frame of items", options, scratch)
    return read_opened(_source(events, "the frame of events", options, scratch), known, name=name)


def _source(frame: Any, label: str, options: ReadOptions, scratch: Scratch) -> RawSource:
    table = _polars(frame, label).drop(ROW, strict=False)
    if table.is_empty():
        raise DataError("holds no rows", path=label)
    numbered = table.lazy().with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))
    raw = RawTable(
        label,
        tuple(table.columns),
        lambda columns: numbered.select(ROW, *dict.fromkeys(columns)),
        bytes=0,
        kind="Parquet",
    )
    return RawSource(label, (raw,), (), options.model_copy(update={"scratch": None}), scratch, frame=True)


def _polars(frame: Any, label: str) -> pl.DataFrame:
    """The frame as Polars; pandas' columns one by one, since its own way there needs another library."""
    import narwhals as nw

    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if hasattr(frame, "columns"):
        names = [str(name) for name in frame.columns]
        if doubled := [name for name in names if names.count(name) > 1]:
            raise DataError("this name stands twice; names must be distinct", path=label, column=doubled[0])
    try:
        known = nw.from_native(frame, eager_only=True)
    except TypeError:
        right = f"should be a frame of pandas, polars or the like, found {type(frame).__name__}"
        raise DataError(right, path=label) from None
    return pl.DataFrame([_column(column) for column in known.iter_columns()])


def _column(column: Any) -> pl.Series:
    """A column as Polars: numbers and times by way of NumPy, text value by value."""
    name = str(column.name)
    if column.dtype.is_numeric() or column.dtype.is_temporal():
        values = column.to_numpy()
        if values.dtype.kind in "mM" and np.datetime_data(values.dtype)[0] not in ("ms", "us", "ns"):
            values = values.astype(f"{values.dtype.kind}8[us]")
        return pl.Series(name, values)
    missing = column.is_null().to_list()
    values = [None if gone else each for each, gone in zip(column.to_list(), missing, strict=True)]
    kinds = {type(each) for each in values}
    if len(kinds) > 1 and kinds & {list, tuple, np.ndarray}:
        values = [each if isinstance(each, list | tuple | np.ndarray | None) else [each] for each in values]
    elif UUID in kinds or (float in kinds and str in kinds):
        values = [_text(each) for each in values]
    return pl.Series(name, values, strict=False)


def _text(value: Any) -> Any:
    """A value of a column that holds several types, or UUIDs: whole floats are written without a fraction."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return None if value is None else str(value)

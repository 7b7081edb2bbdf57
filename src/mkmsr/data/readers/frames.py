"""Events and item attributes of frames in memory, read as the same table in a file would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.malformed import ROW
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.sources import RawSource
from mkmsr.data.readers.table import RawTable
from mkmsr.data.readers.tabular import read_opened
from mkmsr.errors import DataError
from mkmsr.runtime.files import Scratch

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame


def read_frames(
    events: IntoDataFrame, items: IntoDataFrame | None, options: ReadOptions, *, name: str = "frame"
) -> InteractionLog:
    """Return the log in a frame of events, with what another frame says of the items; read as files are, same errors.

    Args:
        events: One row an event, of pandas, polars or another library with eager frames that Narwhals knows.
        items: One row an item, or one row a value of a relation; or None.
        options: As for files.
        name: What the log is called.
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

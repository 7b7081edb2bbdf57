"""InteractionLog: the canonical event table that every reader returns and preparation starts from, validated here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.errors import DataError
from mkmsr.runtime.files import sha256

EVENT_COLUMNS: Mapping[str, pl.DataType] = {
    "session_id": pl.String(),
    "user_id": pl.String(),
    "item_id": pl.String(),
    "operation": pl.String(),
    "time": pl.Int64(),
    "row": pl.Int64(),
    "split": pl.String(),
}
"""Every column that an event table may have, with its type."""

ATTRIBUTE_COLUMNS: Mapping[str, pl.DataType] = {
    "item_id": pl.String(),
    "relation": pl.String(),
    "value": pl.String(),
    "row": pl.Int64(),
}
"""The columns of an attribute table: one row for each value of a relation of an item."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class LogSource:
    """A file that a log was read from, with the SHA-256 of its bytes."""

    path: str
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> LogSource:
        """A file as it is now."""
        return cls(str(path), sha256(path))


@dataclass(frozen=True)
class InteractionLog:
    """Events in canonical columns, with item attributes where there are any.

    Args:
        events: Required columns: `item_id`, `operation`, `row`, and one of `session_id` and `user_id`. Optional: `time`
            (seconds since 1970, UTC; without it `row` is the order) and `split` ("train", "validation", "test") for a
            log that comes already split. `row` is the distinct number of the event in its file and breaks ties of time.
        attributes: Columns `item_id`, `relation`, `value` (the one that may be empty), `row`; or None.
        name: For tables and reports.
        sources: The files read.
        column_names: What the file calls a canonical column, for messages.
        notes: What the reader noticed and decided (time unit, skipped rows), kept in the prepared dataset's metadata.
        gap: The pause that ends a session in this kind of log, in seconds, or in rows where it has no times; None says
            nothing, and then preparation's own counts.
        files: Parquet files that hold `events`, columns and order alike, where it stands in files; engines read them.
        display: The same columns as `attributes`, of what is shown with an item and never learnt from; or None.
        scratch: What must live as long as the log can be read, such as a folder of temporary files.

    Raises:
        DataError: A column is missing, of another type, holds an empty value; or there are no events.
    """

    events: pl.LazyFrame
    attributes: pl.LazyFrame | None = None
    name: str = "log"
    sources: tuple[LogSource, ...] = ()
    column_names: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    gap: int | None = None
    files: tuple[Path, ...] = ()
    display: pl.LazyFrame | None = None
    scratch: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_schema(self.events, EVENT_COLUMNS, required={"item_id", "operation", "row"})
        if not {"session_id", "user_id"} & set(self.columns):
            raise DataError("needs a session or a user column to know which events belong together", path=self.path)
        if self.attributes is not None:
            self._check_schema(self.attributes, ATTRIBUTE_COLUMNS, required=set(ATTRIBUTE_COLUMNS))
        self._check_values()

    @property
    def columns(self) -> list[str]:
        """Names of the event columns."""
        return self.events.collect_schema().names()

    @property
    def has_time(self) -> bool:
        """Whether events carry a time; otherwise their row is the order."""
        return "time" in self.columns

    @property
    def has_split(self) -> bool:
        """Whether the log comes already split."""
        return "split" in self.columns

    @property
    def path(self) -> str | None:
        """The first file read, for messages."""
        return self.sources[0].path if self.sources else None

    def _check_schema(self, frame: pl.LazyFrame, known: Mapping[str, pl.DataType], *, required: set[str]) -> None:
        schema = frame.collect_schema()
        missing = sorted(required - set(schema.names()))
        if missing:
            raise DataError(f"lacks the canonical column {missing[0]!r}", path=self.path)
        for name, found in schema.items():
            if name not in known:
                raise DataError(f"unknown column; canonical ones are {', '.join(known)}", path=self.path, column=name)
            if found != known[name]:
                raise DataError(f"has type {found}, should be {known[name]}", path=self.path, column=name)

    def _check_values(self) -> None:
        """No event, or attribute, may lack what it needs; the value of an attribute may be empty."""
        strange = {name: pl.col(name).is_null() for name in self.columns}
        if "session_id" in strange:
            strange.pop("user_id", None)  # nobody needs to be logged in where sessions are known
        for name in {"session_id", "user_id", "item_id", "operation"} & set(strange):
            strange[name] |= pl.col(name) == ""
        if self.has_split:
            strange["split"] |= ~pl.col("split").is_in(SPLITS)
        if self._refuse(self.events, strange) == 0:
            raise DataError("holds no events", path=self.path)
        if self.attributes is not None:
            needed = ("item_id", "relation")
            strange = {name: pl.col(name).is_null() | (pl.col(name) == "") for name in needed}
            self._refuse(self.attributes, strange, place=" in the attribute table")

    def _refuse(self, table: pl.LazyFrame, strange: Mapping[str, pl.Expr], *, place: str = "") -> int:
        """Count the rows in one pass, and refuse the first one with a strange value."""
        counts = table.select(
            pl.len().alias("rows"), *(bad.sum().alias(f"bad_{name}") for name, bad in strange.items())
        )
        found = counts.collect(engine="streaming").row(0, named=True)
        for name, bad in strange.items():
            if count := found[f"bad_{name}"]:
                row, value = table.filter(bad).select("row", name).head(1).collect().row(0)
                text = "the value is empty" if value in (None, "") else f"found {value!r}, should be one of {SPLITS}"
                raise DataError(
                    text + place + (f" ({count} such rows)" if count > 1 else ""),
                    path=self.path,
                    row=None if row is None else row + 2,
                    column=self.column_names.get(name, name),
                )
        return int(found["rows"])

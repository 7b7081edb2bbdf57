"""What readers of public data sets share: raw tables in, checked rows out, and at the end an InteractionLog.

Small files are read into memory. Large ones stream through a temporary Parquet file, which lives as long as the log, so
that a log of any size needs only the memory of what is asked of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.log import ATTRIBUTE_COLUMNS, EVENT_COLUMNS, InteractionLog, LogSource
from mkmsr.data.readers.malformed import ROW, Fault, MalformedRows, marks
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.table import RawTable, scan_text
from mkmsr.data.scratch import Scratch
from mkmsr.errors import DataError

__all__ = ["SPILL_BYTES", "Intake", "folder_of"]

SPILL_BYTES = 256 << 20
"""Raw files above this size stream through a temporary file."""

COMMON = ("strict", "malformed_limit", "scratch")
"""Options that every reader of a public data set takes."""


class Intake:
    """The files of one log on their way in.

    Args:
        kind: Name of the reader.
        options: What the caller asked for.
        allowed: Options that this reader takes beside the common ones.
        spill_bytes: Size above which raw files stream through a temporary file; with `options.scratch`, all do.

    Raises:
        ConfigError: An option is set that the reader has no use for.
    """

    def __init__(
        self, kind: str, options: ReadOptions, *, allowed: tuple[str, ...] = (), spill_bytes: int = SPILL_BYTES
    ):
        options.refuse(kind, allowed=(*COMMON, *allowed))
        self.notes: dict[str, Any] = {}
        self.malformed = MalformedRows(options)
        self.scratch = Scratch(options.scratch)
        self._kind = kind
        self._spill_bytes = spill_bytes if options.scratch is None else 0
        self._sources: list[LogSource] = []
        self._bytes = 0

    def table(
        self,
        path: Path,
        *wanted: str,
        separator: str = ",",
        names: Sequence[str] | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> RawTable:
        """Some columns of one of the log's text files; see `scan_text`."""
        table = scan_text(path, wanted, self.scratch, separator=separator, names=names, rename=rename)
        self.source(path)
        self._bytes += table.bytes
        return table

    def source(self, path: Path) -> None:
        """Takes note of a file that the log is read from."""
        self._sources.append(LogSource.of(path))

    def rows(
        self, table: RawTable, values: Mapping[str, pl.Expr], faults: Sequence[Fault], *, only: pl.Expr | None = None
    ) -> pl.LazyFrame:
        """The good rows of a table, read once.

        Args:
            table: From `table`.
            values: Columns of the result, as expressions over the table's text.
            faults: What makes a row malformed, beside what does so in any file.
            only: Rows to take; the others are neither taken nor checked.

        Raises:
            DataError: A row is malformed and that is not allowed, or too many are; or the file cannot be read.
        """
        every = [*table.faults(table.wanted), *faults]
        raw = table.scan(table.wanted)
        if only is not None:
            raw = raw.filter(only.fill_null(False))
        marked = raw.select(ROW, *(value.alias(name) for name, value in values.items()), *marks(every))
        try:
            stored = self.store(marked, size=table.bytes)
        except pl.exceptions.PolarsError as error:
            raise table.unreadable(error) from None
        good = self.malformed.drop(
            stored, every, table.path, first_row=table.first_row, total=None if only is None else table.count_rows
        )
        return good.drop(ROW)

    def store(self, rows: pl.LazyFrame, *, size: int) -> pl.LazyFrame:
        """The same rows, computed now: in memory, or in a temporary file where the raw `size` in bytes is large."""
        if size <= self._spill_bytes:
            return rows.collect(engine="streaming").lazy()
        part = self.scratch.file(".parquet")
        rows.sink_parquet(part, compression="lz4")
        return pl.scan_parquet(part, glob=False)

    def log(
        self,
        events: pl.LazyFrame,
        attributes: Sequence[pl.LazyFrame] = (),
        *,
        gap: int | None = None,
        column_names: Mapping[str, str] | None = None,
    ) -> InteractionLog:
        """The log.

        Args:
            events: Canonical columns, and perhaps others, which are left out.
            attributes: `item_id`, `relation` and `value` of each relation, in their order.
            gap: Pause that ends a session in this data set, in seconds, or in rows where it has no times.
            column_names: What the file calls a canonical column, for messages.
        """
        known = [name for name in EVENT_COLUMNS if name in events.collect_schema().names()]
        table = None
        if attributes:
            named = pl.concat(list(attributes)).select("item_id", "relation", "value")
            given = named.filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
            numbered = given.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).select(list(ATTRIBUTE_COLUMNS))
            table = self.store(numbered, size=self._bytes)
        return InteractionLog(
            events.select(known),
            table,
            name=self._kind,
            sources=tuple(self._sources),
            column_names=column_names or {},
            notes={**self.notes, **self.malformed.notes()},
            gap=gap,
            scratch=self.scratch,
        )


def folder_of(source: Path) -> Path:
    """The folder of a data set.

    Raises:
        DataError: It is a file, or there is nothing.
    """
    if not source.is_dir():
        raise DataError(
            "should be a folder with the data set's files" if source.exists() else "no such folder", path=source
        )
    return source

"""A raw table of any size as it stands: whole where it is small, else piece by piece, with the rows numbered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from mkmsr.data.log import LogSource
from mkmsr.data.readers.malformed import MalformedRows, marks
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.raw_bytes import is_gzip, pieces
from mkmsr.data.readers.scan import EXTRA, scan_text
from mkmsr.data.readers.sql import SCHEMES, extract, is_address, masked
from mkmsr.data.readers.table import ROW, header_names, parquet_files, read_table, separator_of
from mkmsr.data.scratch import Scratch
from mkmsr.errors import ConfigError, DataError
from mkmsr.runtime.files import sha256

__all__ = ["RawPieces", "open_table"]

WHOLE_ROWS, WHOLE_BYTES = 3_000_000, 256 << 20
"""Tables of up to so many rows (Parquet), or so many bytes (text), are read whole."""
PIECE_ROWS = 1_000_000
GZIP_RATIO = 6
"""How much larger than its gzip a log is, about."""


@dataclass(frozen=True)
class RawPieces:
    """A raw table.

    Args:
        frame: The columns of the file.
        columns: Their names.
        label: What messages call the table: its path, or its address without a password.
        sources: The files that it consists of.
        rows: How many rows; None where the table is read whole, and then it has a column ROW.
        piece_rows: How many rows a piece has.
    """

    frame: pl.LazyFrame
    columns: tuple[str, ...]
    label: str
    sources: tuple[LogSource, ...]
    rows: int | None = None
    piece_rows: int = field(default_factory=lambda: PIECE_ROWS, kw_only=True)

    @property
    def is_whole(self) -> bool:
        """Whether all of it is read at once."""
        return self.rows is None

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """The pieces in order, with a column ROW of row numbers from 0; rows without any value are left out."""
        if self.rows is None:
            yield self.frame.collect()
            return
        numbered = ROW in self.columns
        for begin in range(0, self.rows, self.piece_rows):
            try:
                piece = self.frame.slice(begin, self.piece_rows).collect()
            except (pl.exceptions.PolarsError, OSError) as error:
                first = str(error).strip().partition("\n")[0]
                raise DataError(f"not readable from row {begin} on: {first}", path=self.label) from None
            if not numbered:
                piece = piece.with_columns(pl.int_range(begin, begin + pl.len(), dtype=pl.Int64).alias(ROW))
            yield piece.filter(~pl.all_horizontal(pl.all().exclude(ROW).is_null()))


def open_table(source: str | Path, options: ReadOptions, malformed: MalformedRows, scratch: Scratch) -> RawPieces:
    """The table in a file, a folder of Parquet files, or a database; with `options.scratch`, always in pieces.

    Lines of text that are no rows of the table are malformed rows.

    Raises:
        DataError: It is missing or not as it should be.
        ConfigError: The address of a database does not say enough, or is of another kind of database.
    """
    if is_address(source):
        content, label = extract(str(source), scratch), masked(str(source))
        sources = (LogSource(label, sha256(content)),)
        return _open_text(content, ",", options, malformed, scratch, label=label, sources=sources)
    if "://" in str(source):
        known = " or ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigError(f"no database that can be read; addresses begin with {known}", path=masked(str(source)))
    path = Path(source)
    if not path.exists():
        raise DataError("no such file", path=path)
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return _open_parquet(path, options)
    separator = options.separator or separator_of(path)
    return _open_text(path, separator, options, malformed, scratch, label=str(path), sources=(LogSource.of(path),))


def _open_parquet(path: Path, options: ReadOptions) -> RawPieces:
    files = parquet_files(path) if path.is_dir() else [path]
    sources = tuple(LogSource.of(file) for file in files)
    frame = pl.scan_parquet(files, glob=False, hive_partitioning=path.is_dir())
    try:
        rows = int(frame.select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError):
        rows = 0  # reading it whole says what is wrong
    if rows <= WHOLE_ROWS and (options.scratch is None or not rows):
        return _whole(read_table(path), str(path), sources)
    return RawPieces(frame, tuple(frame.collect_schema().names()), str(path), sources, rows)


def _open_text(
    path: Path,
    separator: str,
    options: ReadOptions,
    malformed: MalformedRows,
    scratch: Scratch,
    *,
    label: str,
    sources: tuple[LogSource, ...],
) -> RawPieces:
    size = path.stat().st_size * (GZIP_RATIO if is_gzip(path) else 1)
    if options.scratch is not None or size > WHOLE_BYTES:
        rows = _rows_of_text(path, separator, malformed, scratch, label)
        count = int(rows.select(pl.len()).collect().item())
        return RawPieces(rows, tuple(rows.collect_schema().names()), label, sources, count)
    try:
        return _whole(read_table(path, separator=separator), label, sources)
    except DataError as error:
        if options.strict or error.row is None or error.row == 1:
            raise
        try:
            return _whole(_rows_of_text(path, separator, malformed, scratch, label).collect(), label, sources)
        except DataError:
            raise error from None  # it says more of the first one


def _rows_of_text(path: Path, separator: str, malformed: MalformedRows, scratch: Scratch, label: str) -> pl.LazyFrame:
    """The rows of a text file in a temporary file, without those that are malformed as text."""
    names = header_names(next(pieces(path), b""), separator, path)
    raw = scan_text(path, names, scratch, separator=separator)
    marked, good = scratch.file(".parquet"), scratch.file(".parquet")
    rows = raw.rows.select(pl.all().exclude(EXTRA), *marks(raw.faults())).with_columns(pl.col(ROW).cast(pl.Int64))
    try:
        rows.sink_parquet(marked, compression="lz4")
    except pl.exceptions.PolarsError as error:
        raise raw.explain(error) from None
    malformed.drop(pl.scan_parquet(marked, glob=False), raw.faults(), label).sink_parquet(good, compression="lz4")
    return pl.scan_parquet(good, glob=False)


def _whole(table: pl.DataFrame, label: str, sources: tuple[LogSource, ...]) -> RawPieces:
    return RawPieces(table.lazy(), tuple(table.columns), label, sources)

"""The tables that a source names: a file, a folder, a pattern, a zip archive, or a table of a database."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from mkmsr.data.log import LogSource
from mkmsr.data.readers.cells import as_text
from mkmsr.data.readers.json_lines import scan_json_lines
from mkmsr.data.readers.malformed import ROW, Fault, RowCheck
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.raw_bytes import PACKED, unzip
from mkmsr.data.readers.sql import extract, is_address, masked
from mkmsr.data.readers.table import RawTable, scan_parquet, scan_text
from mkmsr.errors import DataError
from mkmsr.runtime.files import Scratch, sha256

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
PARQUET = (".parquet", ".pq")
JSON_LINES = (".jsonl", ".ndjson", ".json")
KNOWN = ".csv, .tsv, .txt, .jsonl (also .gz, .bz2, .xz, .zst, .zip) and .parquet"

SMALL_BYTES = 256 << 20
"""Sources up to this size are read at once."""


Stored: TypeAlias = tuple[pl.LazyFrame, tuple[Path, ...]]
"""Rows, and the Parquet files that hold them; none where they are in memory."""


@dataclass(frozen=True)
class RawSource:
    """The raw tables of one source, which follow each other, in the order of their paths.

    Messages call it by its label: its path, or its address without a password. `frame`: whether it is a frame of the
    caller's, whose messages name arguments and not options of the program. Pieces of large tables go into `scratch`.
    """

    label: str
    tables: tuple[RawTable, ...]
    sources: tuple[LogSource, ...]
    options: ReadOptions
    scratch: Scratch
    frame: bool = False

    @property
    def small(self) -> bool:
        """Whether the tables are read at once, and what becomes of them stays in memory."""
        return self.options.scratch is None and sum(table.bytes for table in self.tables) <= SMALL_BYTES

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of all tables."""
        return tuple(dict.fromkeys(name for table in self.tables for name in table.columns if name != ROW))

    @property
    def place(self) -> str:
        """What messages call that which has the columns."""
        return "the frame" if self.frame else "the file"

    def check(self, *names: str) -> None:
        """Raise DataError unless all tables have some columns, and they can be used."""
        for table in self.tables:
            table.check(*names, place=self.place)

    def good_rows(
        self,
        table: RawTable,
        wanted: Sequence[str],
        faults: Sequence[Fault],
        notes: dict[str, Any],
        mark: Callable[[pl.DataFrame], pl.DataFrame] = lambda piece: piece,
    ) -> Iterator[pl.DataFrame]:
        """Yield the good rows of a table, piece by piece; `mark` prepares a piece for the faults."""
        table.look_for_long_fields(strict=self.options.strict)
        every = [*table.faults(wanted), *faults]
        check = RowCheck(table.path, every, self.options, notes, table.first_row)
        for piece in table.pieces(wanted, self.scratch, small=self.small):
            yield check.good(mark(piece).lazy()).collect()
        check.close(may_be_empty=len(self.tables) > 1)

    def stored(self, pieces: Iterable[pl.DataFrame]) -> Stored:
        """Gather the pieces of what becomes of the tables: in memory, or where those are not small in files."""
        if self.small:
            return pl.concat([piece.lazy() for piece in pieces]), ()
        files = []
        for piece in pieces:
            files.append(self.scratch.file(".parquet"))
            piece.write_parquet(files[-1], compression="lz4")
        return pl.scan_parquet(files, glob=False), tuple(files)


def open_source(source: str | Path, options: ReadOptions, scratch: Scratch) -> RawSource:
    """Return the tables of a source, which must be there and readable, or an address that says enough."""
    if is_address(source):
        address = str(source)
        path, unusable = extract(address, scratch)
        label = masked(address)
        table = scan_text(path, scratch, label=label, unusable=unusable)
        return RawSource(label, (table,), (LogSource(label, sha256(path)),), options, scratch)
    files = _files(source)
    folder = Path(source) if Path(source).is_dir() else None
    filled = [file for file in files if len(files) == 1 or file.stat().st_size]  # a day without events
    tables = []
    for file in filled:
        if file.suffix.lower() == ".zip":
            tables += [_table(copy, f"{file}/{name}", None, options, scratch) for name, copy in unzip(file, scratch)]
        else:
            tables.append(_table(file, file, folder, options, scratch))
    return RawSource(str(source), tuple(tables), tuple(map(LogSource.of, files)), options, scratch)


def _files(source: str | Path) -> list[Path]:
    """The files that a source names. A pattern is one only where no file or folder is called so."""
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        return _in_folder(path)
    if glob.has_magic(str(source)):
        found = [Path(name) for name in sorted(glob.glob(str(source), recursive=True))]  # noqa: PTH207
        files = [file for file in found if file.is_file()]
        if files:
            return files
        raise DataError("no file matches this pattern", path=path)
    raise DataError("no such file", path=path)


def _in_folder(folder: Path) -> list[Path]:
    """The files below a folder that can be read, in the order of their paths; hidden ones are left out."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        kind = _kind(path.name)
        if path.is_file() and not hidden and kind in {*SEPARATORS, *PARQUET, *JSON_LINES, ".zip"}:
            files.setdefault(kind, []).append(path)
    if not files:
        raise DataError(f"holds no file that can be read: {KNOWN}", path=folder)
    if len(files) > 1:
        raise DataError(
            f"holds files of several kinds, {' and '.join(files)}; name those that are wanted by a pattern such as "
            f"{str(folder / f'*{next(iter(files))}')!r}",
            path=folder,
        )
    return next(iter(files.values()))


def _kind(name: str) -> str:
    """The ending that says what is in a file, without those of packing: ".csv" of "A.CSV.GZ"."""
    endings = [ending.lower() for ending in Path(name).suffixes]
    while len(endings) > 1 and endings[-1] in PACKED:
        endings.pop()
    return endings[-1] if endings else ""


def _table(path: Path, label: Path | str, folder: Path | None, options: ReadOptions, scratch: Scratch) -> RawTable:
    kind = _kind(str(label))
    if kind in PARQUET:
        return scan_parquet(path, folder=folder)
    if kind in JSON_LINES:
        return scan_json_lines(path, scratch, label=label)
    separator = options.separator or SEPARATORS.get(kind)
    if separator is None:
        raise DataError(f"unknown file type {kind!r}; known: {KNOWN}; --separator reads others as text", path=label)
    return scan_text(path, scratch, separator=separator, label=label, quote=options.quote, folder=folder)


def read_texts(path: Path) -> pl.DataFrame:
    """Return all cells of the table in a file as text; a malformed row raises DataError."""
    source = open_source(path, ReadOptions(malformed_limit=0), Scratch())
    parts = []
    for table in source.tables:
        for good in source.good_rows(table, table.columns, (), {}):
            parts.append(good.select(as_text(good[name], table.path) for name in table.columns))
    return pl.concat(parts, how="diagonal")

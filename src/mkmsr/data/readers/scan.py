"""Raw text files of any size as lazy tables of text, ready for the rules that tell good rows from malformed ones."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mkmsr.data.readers.malformed import Fault
from mkmsr.data.readers.raw_bytes import pieces, unpack
from mkmsr.data.readers.table import ROW, check_names, header_names
from mkmsr.data.scratch import Scratch
from mkmsr.errors import DataError

__all__ = ["EXTRA", "RawTable", "scan_text"]

EXTRA = " extra"
"""Name of a column one past the last: a row has something in it when it has too many fields."""

REPLACEMENT = "\ufffd"
"""What stands for a byte that is not UTF-8."""


@dataclass(frozen=True)
class RawTable:
    """A raw text file.

    Args:
        path: The file, as it was named.
        plain: The same file unpacked.
        rows: The wanted columns as text, ROW (from 0, blank lines counted and left out) and EXTRA.
        columns: The wanted columns.
        separator: Between fields.
        first_row: Line of the file that holds ROW 0, from 1.
    """

    path: Path
    plain: Path
    rows: pl.LazyFrame
    columns: tuple[str, ...]
    separator: str
    first_row: int

    @property
    def bytes(self) -> int:
        """Size of the unpacked file."""
        return self.plain.stat().st_size

    def faults(self) -> list[Fault]:
        """The faults that a row of any text file can have."""
        strange = pl.any_horizontal(pl.col(name).str.contains(REPLACEMENT, literal=True) for name in self.columns)
        return [
            Fault(pl.col(EXTRA).is_not_null(), "more fields than the file has columns"),
            Fault(strange.fill_null(False), "not UTF-8 text"),
        ]

    def count_rows(self) -> int:
        """Lines of the file without its header; a pass over its bytes."""
        return sum(piece.count(b"\n") for piece in pieces(self.plain)) - (self.first_row - 1)

    def explain(self, error: pl.exceptions.PolarsError) -> DataError:
        """What made reading fail as a whole: mostly a quote that nothing closes."""
        with self.plain.open(encoding="utf-8", errors="replace", newline="") as lines:
            rows = csv.reader(lines, delimiter=self.separator, strict=True)
            try:
                for _ in rows:
                    pass
            except csv.Error as fault:
                return DataError(f"a quotation mark is open or stray ({fault})", path=self.path, row=rows.line_num)
        return DataError(f"not readable as text: {str(error).strip().partition(chr(10))[0]}", path=self.path)


def scan_text(
    path: Path,
    wanted: Sequence[str],
    scratch: Scratch,
    *,
    separator: str = ",",
    names: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> RawTable:
    """Some columns of a text file, plain or gzipped.

    Args:
        path: The file.
        wanted: The columns to read.
        scratch: Where a gzipped file is unpacked.
        separator: Between fields.
        names: The columns of a file without a header; None reads them from its first line.
        rename: Other spellings of column names, and the one to use.

    Raises:
        DataError: The file is missing or empty, its gzip is damaged, or it lacks a wanted column.
    """
    plain = unpack(path, scratch)
    if plain.stat().st_size == 0:
        raise DataError("the file is empty", path=path)
    known = list(names) if names is not None else _header(plain, path, separator)
    known = [(rename or {}).get(name, name) for name in known]
    check_names(known, path, *wanted)
    rows = pl.scan_csv(
        plain,
        has_header=False,
        skip_lines=0 if names is not None else 1,
        schema={name: pl.String() for name in (*known, EXTRA)},
        separator=separator,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        missing_columns="insert",
        row_index_name=ROW,
        glob=False,
    )
    blank = pl.all_horizontal(pl.col(name).is_null() for name in known)
    return RawTable(
        path,
        plain,
        rows.filter(~blank).select(*wanted, ROW, EXTRA),
        tuple(wanted),
        separator,
        1 if names is not None else 2,
    )


def _header(plain: Path, path: Path, separator: str) -> list[str]:
    with plain.open("rb") as file:
        return header_names(file.readline(), separator, path)

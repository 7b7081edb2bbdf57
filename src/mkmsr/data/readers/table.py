"""Raw tables, each in one file: where it is, what its columns are, and its rows with their numbers.

Text of any size, Parquet and JSON lines come out alike: a lazy table of the wanted columns, ready for the rules that
tell good rows from malformed ones.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from mkmsr.data.readers.malformed import EXTRA, ROW, Fault
from mkmsr.data.readers.raw_bytes import BROKEN, LongFields, plain_text, unpack
from mkmsr.errors import DataError, nearest
from mkmsr.runtime.files import Scratch

logger = logging.getLogger(__name__)

REPLACEMENT = "\ufffd"
"""What stands for a byte that is not UTF-8."""

MOST_BLANK = 1000
"""So many blank lines may stand before a header."""

PIECE_ROWS = 1_000_000
"""Rows of a large table that are in memory at once."""

BYTES_OF_ROW = 85
"""What a row of Parquet counts for, so that about three million rows are as much as a text that is read at once."""

NAMELESS = "the header has no name of its own for this column"

NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""How a folder is called whose column has no value."""


@dataclass(frozen=True)
class RawTable:
    """A raw table.

    Args:
        path: What messages call it: the file as it was named, or the address of a database without a password.
        scan: The rows with some of the columns, and ROW (from 0); text has EXTRA too, and no blank lines.
        bytes: How large it is, about, unpacked.
        first_row: Line of the file that holds ROW 0, from 1.
        kind: "text", "JSON lines" or "Parquet".
        unusable: Why some of the columns cannot be used.
        several: Whether one line can give several rows, which then have the same ROW.
        header: How the file writes the names of its columns, where it does so.
    """

    path: Path | str
    columns: tuple[str, ...]
    scan: Callable[[Sequence[str]], pl.LazyFrame]
    bytes: int
    first_row: int = 1
    kind: str = "text"
    unusable: Mapping[str, str] = field(default_factory=dict)
    long_fields: LongFields | None = None
    several: bool = False
    header: Mapping[str, str] = field(default_factory=dict)

    def check(self, *names: str, place: str = "the file") -> None:
        """Raise DataError unless the table has some columns, and they can be used; `place` is what has them."""
        for name in names:
            if name not in self.columns:
                text = f"no such column{nearest(name, self.columns)}; {place} has {', '.join(self.columns)}"
                raise DataError(text, path=self.path, column=name)
            if name in self.unusable:
                row = self.first_row - 1 if self.kind == "text" else 0
                raise DataError(self.unusable[name], path=self.path, row=row or None, column=name)

    def faults(self, columns: Sequence[str]) -> list[Fault]:
        """The faults that a row can have before anybody asks what its columns mean."""
        if self.kind != "text":
            return [Fault(pl.col(EXTRA).is_not_null(), "not a JSON object")] if self.kind == "JSON lines" else []
        texts = [pl.col(name) for name in columns]
        strange = pl.any_horizontal(text.str.contains(REPLACEMENT, literal=True) for text in texts)
        faults = [
            Fault((pl.col(EXTRA) == BROKEN).fill_null(False), "a quotation mark is open or stray; --quote none reads "
                  "marks as characters"),
            Fault(pl.col(EXTRA).is_not_null(), "more fields than the file has columns"),
            Fault(strange.fill_null(False), "not UTF-8 text; convert the file to UTF-8"),
        ]  # fmt: skip
        if self.first_row > 1 and len(columns) > 1:
            begin = next(iter(self.header), None)  # before it stands the byte order mark of a file put after another
            written = {name: self.header.get(name, name) for name in columns}
            header = pl.all_horizontal(
                pl.col(name).str.ends_with(text) if name == begin else pl.col(name) == text
                for name, text in written.items()
            )
            faults.append(Fault(header.fill_null(False), "the header again", counted_as="repeated_headers"))
        return faults

    def pieces(self, columns: Sequence[str], scratch: Scratch, *, small: bool) -> Iterator[pl.DataFrame]:
        """Yield the rows in order: all at once, or where the table is not small, piece by piece."""
        try:
            rows = self.scan(columns)
            if small:
                yield rows.collect()
                return
            if self.kind == "text":
                part = scratch.file(".parquet")
                rows.sink_parquet(part, compression="lz4")
                rows = pl.scan_parquet(part, glob=False)
            for begin in range(0, rows.select(pl.len()).collect().item(), PIECE_ROWS):
                yield rows.slice(begin, PIECE_ROWS).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            first = str(error).strip().partition("\n")[0]
            is_disk = re.search("no space left|file too large|quota exceeded", first, re.IGNORECASE)
            said = "temporary files cannot be written" if is_disk else f"not readable as {self.kind}"
            raise DataError(f"{said}: {first}", path=self.path) from None

    def look_for_long_fields(self, *, strict: bool) -> None:
        """Warn of fields over several lines, or if strict refuse them: an open mark may have swallowed rows."""
        if (found := self.long_fields) is None:
            return
        text = (
            f"a field begins here that spans {found.lines} lines; if its quotation mark is only a character, --quote "
            "none reads marks as such"
        )
        if strict:
            raise DataError(text, path=self.path, row=found.row + 1)
        logger.warning("%s, row %d: %s (the longest of %d)", self.path, found.row + 1, text, found.count)


def scan_text(
    path: Path,
    scratch: Scratch,
    *,
    separator: str = ",",
    names: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    label: Path | str | None = None,
    quote: bool = True,
    folder: Path | None = None,
    unusable: Mapping[str, str] | None = None,
) -> RawTable:
    """Return the table in a text file, packed or not; one that is missing, empty or damaged raises DataError.

    `names` are the columns of a file without a header; others have them in their first line that is not blank, perhaps
    in spellings that `rename` maps. Folders named `column=value` between `folder` and the file are columns too, and
    `unusable` says why some cannot be used. Messages call the file by its label, else its path; `scratch` takes a copy
    that is unpacked or easier to read.
    """
    label = path if label is None else label
    unpacked = unpack(path, scratch)
    if unpacked.stat().st_size == 0:
        raise DataError("the file is empty", path=label)
    text = plain_text(unpacked, separator, scratch, quote=quote)
    skipped, found = 0, list(names or ())
    if names is None:
        skipped, found = _header(text.path, text.separator, label, quoted=text.quoted)
    known, doubtful = _distinct([(rename or {}).get(name, name) for name in found])
    folders = _partitions(path, folder)

    def scan(columns: Sequence[str]) -> pl.LazyFrame:
        rows = pl.scan_csv(
            text.path,
            has_header=False,
            skip_lines=skipped,
            schema={name: pl.String() for name in (*known, EXTRA)},
            separator=text.separator,
            quote_char='"' if text.quoted else None,
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
            extra_columns="ignore",
            missing_columns="insert",
            row_index_name=ROW,
            glob=False,
        )
        blank = pl.all_horizontal(pl.col(name).is_null() for name in (*known, EXTRA))
        return rows.filter(~blank).select(*_cells(columns, folders), pl.col(ROW).cast(pl.Int64), EXTRA)

    return RawTable(
        label,
        (*(name for name in known if name not in folders), *folders),
        scan,
        text.path.stat().st_size,
        first_row=skipped + 1,
        unusable={**doubtful, **(unusable or {})},
        long_fields=text.long_fields,
        header=dict(zip(known, found, strict=True)),
    )


def scan_parquet(path: Path, *, folder: Path | None = None) -> RawTable:
    """Return the table in a Parquet file; folders named `column=value` between it and `folder` are columns of text."""
    if not path.is_file():
        raise DataError("no such file", path=path)
    folders = _partitions(path, folder)
    try:
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False, row_index_name=ROW)
        known = rows.collect_schema().names()
        size = rows.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError, pl.exceptions.PanicException) as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"not a readable Parquet file: {first}", path=path) from None

    def scan(columns: Sequence[str]) -> pl.LazyFrame:
        return rows.select(*_cells(columns, folders), pl.col(ROW).cast(pl.Int64))

    columns = (*(name for name in known if name not in (ROW, *folders)), *folders)
    return RawTable(path, columns, scan, size * BYTES_OF_ROW, first_row=2, kind="Parquet")


def header_names(content: bytes, separator: str, path: Path | str, *, quoted: bool = True) -> list[str]:
    """Return the names in the first row of a text; one that is not UTF-8 raises DataError."""
    line = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError("not UTF-8 text; convert the file to UTF-8", path=path, row=1) from None
    lines = text.splitlines(keepends=True)
    return next(csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE), [])


def _header(plain: Path, separator: str, label: Path | str, *, quoted: bool) -> tuple[int, list[str]]:
    """How many lines end with the header, and the names in it."""
    with plain.open("rb") as file:
        for number, line in enumerate(islice(file, MOST_BLANK), start=1):
            if line.removeprefix(b"\xef\xbb\xbf").strip():
                whole = line
                while quoted and whole.count(b'"') % 2 and (more := file.readline()):
                    whole, number = whole + more, number + 1  # noqa: PLW2901
                return number, header_names(whole, separator, label, quoted=quoted)
    raise DataError("the file is empty", path=label)


def _distinct(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names that are all different, and what is wrong with those that were not, or were empty."""
    known: list[str] = []
    unusable = {}
    for place, name in enumerate(map(str.strip, names), start=1):
        unique = name or f"column {place}"
        if name and name in known:
            unusable[name] = "this name stands twice in the header; names must be distinct"
        while unique in known:
            unique += f" ({place})"
        if unique != name:
            unusable[unique] = NAMELESS
        known.append(unique)
    return known, unusable


def _partitions(path: Path, folder: Path | None) -> dict[str, str | None]:
    """Columns and values in the names of the folders between a folder and a file."""
    if folder is None:
        return {}
    named = (part.partition("=") for part in path.relative_to(folder).parts[:-1])
    return {name: None if value == NO_PARTITION else unquote(value) for name, equals, value in named if name and equals}


def _cells(columns: Sequence[str], folders: Mapping[str, str | None]) -> list[pl.Expr]:
    """The wanted columns, those of the folders as text."""
    return [pl.lit(folders[name], pl.String).alias(name) if name in folders else pl.col(name) for name in columns]

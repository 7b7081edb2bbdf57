"""One raw file as a table of text columns: CSV or TSV, gzip too, or Parquet; faults are located by file and row."""

from __future__ import annotations

import csv
import gzip
import zlib
from pathlib import Path

import polars as pl

from mkmsr.errors import DataError, nearest

__all__ = ["ROW", "check_columns", "find_file", "read_table"]

ROW = " row"
"""Name of the added column of row numbers, from 0; the blank keeps it apart from a file's own column `row`."""

SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
GZIP_MAGIC = b"\x1f\x8b"


def read_table(path: str | Path, *, separator: str | None = None) -> pl.DataFrame:
    """The table in a file; text formats give text columns, exactly as written, and an added column ROW.

    Blank lines are left out.

    Args:
        path: A .csv, .tsv, .txt or .parquet file; the text formats also with .gz.
        separator: Field separator of a text file of any name; None takes it from the name.

    Raises:
        DataError: The file is missing, empty, truncated, not UTF-8, not in its format, or a header name occurs twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file", path=path)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if separator is None and suffix == ".parquet":
        table = _read_parquet(path)
    elif separator is not None or suffix in SEPARATORS:
        table = _read_text(path, separator or SEPARATORS[suffix])
    else:
        raise DataError(f"unknown file type {suffix!r}; known: .csv, .tsv, .txt (also .gz) and .parquet", path=path)
    if table.is_empty():
        raise DataError("the file has a header but no rows", path=path)
    numbered = table.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW))
    return numbered.filter(~pl.all_horizontal(pl.all().exclude(ROW).is_null()))  # blank lines


def find_file(folder: Path, *names: str) -> Path:
    """The first of some relative names that exists in a folder, plain or with .gz.

    Raises:
        DataError: None of them exists.
    """
    for name in names:
        for found in (folder / name, folder / f"{name}.gz"):
            if found.is_file():
                return found
    raise DataError(f"lacks {' or '.join(names)} (also with .gz)", path=folder)


def check_columns(table: pl.DataFrame, path: Path, *names: str) -> pl.DataFrame:
    """The same table, if it has all these columns.

    Raises:
        DataError: One is missing; names the nearest and all that there are.
    """
    known = [name for name in table.columns if name != ROW]
    for name in names:
        if name not in known:
            raise DataError(
                f"no such column{nearest(name, known)}; the file has {', '.join(known)}", path=path, column=name
            )
    return table


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"not a readable Parquet file: {_first_line(error)}", path=path) from None


def _read_text(path: Path, separator: str) -> pl.DataFrame:
    content = _content(path)
    if not content.strip():
        raise DataError("the file is empty", path=path)
    _check_header(content, separator, path)
    try:
        return pl.read_csv(content, separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        _check_encoding(content, path)
        _check_widths(content, separator, path)
        raise DataError(f"not readable as text separated by {separator!r}: {_first_line(error)}", path=path) from None


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(GZIP_MAGIC):
        if path.name.endswith(".gz"):
            raise DataError("named .gz but not a gzip file" if content else "the file is empty", path=path)
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise DataError("the gzip file is truncated: it ends before its end mark; copy it again", path=path) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"the gzip file is damaged: {error}", path=path) from None


def _check_header(content: bytes, separator: str, path: Path) -> None:
    line = content.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].rstrip(b"\r")
    try:
        names = next(csv.reader([line.decode("utf-8")], delimiter=separator))
    except UnicodeDecodeError:
        raise DataError("not UTF-8 text; convert the file to UTF-8", path=path, row=1) from None
    doubles = [name for index, name in enumerate(names) if name in names[:index]]
    if doubles:
        raise DataError(
            "this name stands twice in the header; names must be distinct", path=path, row=1, column=doubles[0]
        )


def _check_encoding(content: bytes, path: Path) -> None:
    for row, line in enumerate(content.split(b"\n"), start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"not UTF-8 text (byte 0x{line[error.start]:02x}); convert the file to UTF-8", path=path, row=row
            ) from None


def _check_widths(content: bytes, separator: str, path: Path) -> None:
    rows = csv.reader(content.decode("utf-8").splitlines(), delimiter=separator)
    width = len(next(rows))
    for row, fields in enumerate(rows, start=2):
        if len(fields) > width:
            raise DataError(f"{len(fields)} fields where the header has {width}", path=path, row=row)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

"""One raw file as a table of text columns: CSV or TSV, gzip too, or Parquet; faults are located by file and row."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mkmsr.data.readers.raw_bytes import pieces
from mkmsr.errors import DataError, nearest

__all__ = [
    "ROW",
    "check_columns",
    "check_names",
    "find_file",
    "header_names",
    "parquet_files",
    "read_table",
    "separator_of",
]

ROW = " row"
"""Name of the added column of row numbers, from 0; the blank keeps it apart from a file's own column `row`."""

SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


def read_table(path: str | Path, *, separator: str | None = None) -> pl.DataFrame:
    """The table in a file; text formats give text columns, exactly as written, and an added column ROW.

    Blank lines are left out.

    Args:
        path: A .csv, .tsv, .txt or .parquet file; the text formats also with .gz. Or a folder of Parquet files, which
            are read in the order of their paths; folders named `column=value` are a column.
        separator: Field separator of a text file of any name; None takes it from the name.

    Raises:
        DataError: The file is missing, empty, truncated, not UTF-8, not in its format, or a header name occurs twice.
    """
    path = Path(path)
    if not path.is_dir() and not path.is_file():
        raise DataError("no such file", path=path)
    if path.is_dir():
        table = _read_folder(path)
    elif separator is None and path.suffix.lower() == ".parquet":
        table = _read_parquet(path)
    else:
        table = _read_text(path, separator or separator_of(path))
    if table.is_empty():
        raise DataError("the file has a header but no rows", path=path)
    numbered = table.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW))
    return numbered.filter(~pl.all_horizontal(pl.all().exclude(ROW).is_null()))  # blank lines


def separator_of(path: Path) -> str:
    """What the name of a text file says of its separator.

    Raises:
        DataError: It is the name of no known kind of file.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in SEPARATORS:
        raise DataError(f"unknown file type {suffix!r}; known: .csv, .tsv, .txt (also .gz) and .parquet", path=path)
    return SEPARATORS[suffix]


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files below a folder, in the order of their paths; hidden ones are left out.

    Raises:
        DataError: There is none.
    """
    files = sorted(
        path
        for path in folder.rglob("*.parquet")
        if not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    )
    if not files:
        raise DataError("holds no .parquet file", path=folder)
    return files


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


def check_columns(table: pl.DataFrame, path: Path | str, *names: str) -> pl.DataFrame:
    """The same table, if it has all these columns.

    Raises:
        DataError: One is missing; names the nearest and all that there are.
    """
    check_names([name for name in table.columns if name != ROW], path, *names)
    return table


def check_names(known: Sequence[str], path: Path | str, *names: str) -> None:
    """Makes sure that a file's columns have all these names among them.

    Raises:
        DataError: One is missing; names the nearest and all that there are.
    """
    for name in names:
        if name not in known:
            raise DataError(
                f"no such column{nearest(name, known)}; the file has {', '.join(known)}", path=path, column=name
            )


def header_names(content: bytes, separator: str, path: Path) -> list[str]:
    """The names in the first line of a text.

    Raises:
        DataError: A name occurs twice, or the line is not UTF-8.
    """
    end = content.find(b"\n")
    line = content[: end if end >= 0 else None].removeprefix(b"\xef\xbb\xbf").rstrip(b"\r")
    try:
        names = next(csv.reader([line.decode("utf-8")], delimiter=separator))
    except UnicodeDecodeError:
        raise DataError("not UTF-8 text; convert the file to UTF-8", path=path, row=1) from None
    doubles = [name for index, name in enumerate(names) if name in names[:index]]
    if doubles:
        raise DataError(
            "this name stands twice in the header; names must be distinct", path=path, row=1, column=doubles[0]
        )
    return names


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"not a readable Parquet file: {_first_line(error)}", path=path) from None


def _read_folder(folder: Path) -> pl.DataFrame:
    paths = parquet_files(folder)
    try:
        return pl.read_parquet(paths, hive_partitioning=True)
    except (pl.exceptions.PolarsError, OSError) as error:
        first = pl.Schema()
        for path in paths:
            schema = _read_parquet(path).schema
            if first and schema != first:
                raise DataError(
                    f"has other columns or types than {paths[0].name} in the same folder", path=path
                ) from None
            first = schema
        raise DataError(f"not a readable folder of Parquet files: {_first_line(error)}", path=folder) from None


def _read_text(path: Path, separator: str) -> pl.DataFrame:
    content = b"".join(pieces(path))
    if not content.strip():
        raise DataError("the file is empty", path=path)
    header_names(content, separator, path)
    try:
        return pl.read_csv(content, separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        _check_encoding(content, path)
        _check_widths(content, separator, path)
        raise DataError(f"not readable as text separated by {separator!r}: {_first_line(error)}", path=path) from None


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

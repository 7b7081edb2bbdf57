"""Read a Parquet file that somebody else may have made, and refuse one that unpacks to far more than its size.

A column of equal values packs into next to nothing: a file of a few kilobytes could fill the memory of its reader. The
sizes in a file's footer are not enough to tell, because a decoder takes those of the pages from their own headers, and
no library shows these. So the headers are walked through before anything is unpacked, and must agree with the footer.

Source: the Parquet format's `parquet.thrift` and Thrift's compact protocol.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import polars as pl

from mkmsr.errors import DataError

BYTES_A_VALUE = 16
"""Of memory that a value takes beside its page: a view of a text, or a number."""

_HARMLESS, _MOST_TIMES = 64 * 2**20, 1000
"""Bytes that any file may unpack to, and how many more for each of its own; those that we write come to 120."""

_MAGIC = b"PAR1"
_DATA_HEADERS, _DICTIONARY_HEADER = (5, 8), 7
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 12
_NOT_THRIFT = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def read_table(content: bytes, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the table in a Parquet file's bytes; other columns than these, or an empty cell, are a DataError."""
    try:
        unpacked = unpacked_bytes(content)
        _refuse_more(unpacked, content)
        table = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(f"not a Parquet file: {error}") from None
    # A long text that stands once in the file may be the value of many rows.
    _refuse_more(sum(int(each.str.len_bytes().sum()) for each in table if each.dtype == pl.String), content)
    found = dict(table.schema)
    if found != dict(columns):
        raise DataError(f"should have the columns {_named(columns)}, has {_named(found)}")
    if empty := [each.name for each in table if each.null_count()]:
        raise DataError("has empty cells", column=empty[0])
    return table


def unpacked_bytes(content: bytes) -> int:
    """Return the bytes of memory that the columns of a Parquet file need at most: its pages unpacked, and its values.

    Only flat columns are understood. What is no Parquet file, or contradicts itself, raises DataError.
    """
    end = len(content) - 8
    begin = end - int.from_bytes(content[end : end + 4], "little")
    if begin < len(_MAGIC) or not content.startswith(_MAGIC) or not content.endswith(_MAGIC):
        raise DataError("not a Parquet file: it does not begin and end as one does")
    file = io.BytesIO(content)
    try:
        file.seek(begin)
        footer = _structure(file)
        groups, rows = footer[4], footer[3]
        total = sum(_unpacked_chunk(file, chunk[3], group[3], begin) for group in groups for chunk in group[1])
        counted = sum(group[3] for group in groups)
    except _NOT_THRIFT as error:
        raise DataError(f"not a Parquet file: its footer or the header of a page is damaged ({error!r})") from None
    if counted != rows:
        raise DataError(f"not a Parquet file: its footer counts {rows} rows, and the parts of it {counted}")
    return total


def _refuse_more(unpacked: int, content: bytes) -> None:
    most = _HARMLESS + _MOST_TIMES * len(content)
    if unpacked > most:
        raise DataError(f"unpacks to far more than its {len(content):,} bytes: to {unpacked:,}, allowed are {most:,}")


def _named(columns: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items())


def _unpacked_chunk(file: io.BytesIO, chunk: dict[int, Any], rows: int, footer: int) -> int:
    """Return the same of one column of one group of rows, whose pages lie one after the other."""
    place = chunk.get(11, chunk[9])  # A page of distinct values, if there is one, goes before those that refer to it.
    end, total, values = place + chunk[7], 0, 0
    if not len(_MAGIC) <= place <= end <= footer:
        raise ValueError(f"a column stands at bytes {place} to {end}")
    while place < end:
        file.seek(place)
        page = _structure(file)
        unpacked, packed = page[2], page[3]
        counts = [page[number][1] for number in (*_DATA_HEADERS, _DICTIONARY_HEADER) if number in page]
        place = file.tell() + packed
        if min(unpacked, packed, *counts) < 0 or place > end:
            raise ValueError("a page does not fit into its column")
        total += unpacked + BYTES_A_VALUE * sum(counts)
        values += sum(page[number][1] for number in _DATA_HEADERS if number in page)
    if not values == chunk[5] == rows:
        raise ValueError(f"a column of {rows} rows says that it has {chunk[5]} values, and its pages have {values}")
    return total


def _structure(file: io.BytesIO) -> dict[int, Any]:
    """Return what the fields of the structure at the file's place hold, by their numbers; texts are passed over."""
    fields: dict[int, Any] = {}
    number = 0
    while head := file.read(1)[0]:
        number = number + (head >> 4) if head >> 4 else _integer(file)
        kind = head & 15
        fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else _value(file, kind)
    return fields


def _value(file: io.BytesIO, kind: int) -> Any:
    if kind in _INTEGERS:
        return _integer(file)
    if kind == _BYTE:
        return file.read(1)[0]
    if kind in (_BINARY, _DOUBLE):
        file.seek(_natural(file) if kind == _BINARY else 8, io.SEEK_CUR)
        return None
    if kind in _LISTS:
        head = file.read(1)[0]
        length = _natural(file) if head >> 4 == 15 else head >> 4
        return [_value(file, head & 15) for _ in range(length)]
    if kind == _STRUCT:
        return _structure(file)
    raise ValueError(f"a field is of the unknown kind {kind}")


def _integer(file: io.BytesIO) -> int:
    natural = _natural(file)
    return (natural >> 1) ^ -(natural & 1)


def _natural(file: io.BytesIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a number has more than 64 bits")

"""The text of a raw table made plain for the parser: lines end in line feeds, separators are one byte, quotes close.

Polars finds rows by counting quotation marks, so a mark that only stands for inches would swallow the rest of a file.
Files whose marks all open or close a field are read as they are; the rows of others are written anew, one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mkmsr.data.readers.raw_bytes import pieces
from mkmsr.data.scratch import Scratch

__all__ = ["BROKEN", "LongFields", "PlainText", "plain_text"]

BROKEN = "\x00quote"
"""What stands one column past the last in a row whose quotation marks are open or stray."""

UNIT_SEPARATOR = "\x1f"
"""What takes the place of a separator of several bytes."""

QUOTE, LINE_FEED, RETURN = b'"\n\r'
MARK = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8."""

WINDOW = 1 << 26
MOST_LINES = 500
"""A field that spans more lines than this is taken for one whose quotation mark is open, where marks are stray."""


@dataclass(frozen=True)
class LongFields:
    """Fields that span several lines: how many there are, and of the longest its row (from 0) and its lines."""

    count: int
    row: int
    lines: int


@dataclass(frozen=True)
class PlainText:
    """A text that the parser reads rightly.

    Args:
        path: Where it is: the file itself, or a copy.
        separator: Between fields, one byte.
        quoted: Whether fields may stand in quotation marks.
        long_fields: Those of several lines, if there are any; rows count from the first line of the file.
    """

    path: Path
    separator: str
    quoted: bool
    long_fields: LongFields | None = None


def plain_text(path: Path, separator: str, scratch: Scratch, *, quote: bool = True) -> PlainText:
    """The text in a file that is not packed.

    Args:
        path: The file.
        separator: Between fields, one character or several.
        scratch: Where a copy goes that differs from the file.
        quote: Whether quotation marks enclose fields; if not, they are characters like others.
    """
    has = dict.fromkeys((b"\n", b"\r", b'"'), False)
    for piece in pieces(path):
        for mark in has:
            has[mark] = has[mark] or mark in piece
    replaced = {}
    if has[b"\r"] and not has[b"\n"]:
        replaced[b"\r"] = b"\n"
    if len(separator.encode()) > 1:
        replaced[separator.encode()] = UNIT_SEPARATOR.encode()
        separator = UNIT_SEPARATOR
    if replaced:
        path = _copy(_replaced(path, replaced), scratch)
    if not quote or not has[b'"']:
        return PlainText(path, separator, quoted=False)
    close, fields = _long_fields(path, separator)
    if not close:
        with path.open("rb") as lines:
            path = _copy(_mended(lines, separator.encode()), scratch)
        _, fields = _long_fields(path, separator)
    return PlainText(path, separator, quoted=True, long_fields=fields)


def _copy(content: Iterable[bytes], scratch: Scratch) -> Path:
    path = scratch.file(".txt")
    with path.open("wb") as file:
        file.writelines(content)
    return path


def _replaced(path: Path, replaced: dict[bytes, bytes]) -> Iterator[bytes]:
    """The content with some bytes for others; what may be cut between two pieces is kept for the next one."""
    longest, left = max(map(len, replaced)), b""
    for piece in pieces(path):
        content = left + piece
        keep = longest - 1
        # Replace before the cut: whatever of an old separator remains at the end is completed by the next piece.
        for old, new in replaced.items():
            content = content.replace(old, new)
        left = content[len(content) - keep :] if keep else b""
        yield content[: len(content) - keep] if keep else content
    yield left


def _long_fields(path: Path, separator: str) -> tuple[bool, LongFields | None]:
    """Whether all quotation marks open or close a field; and if so, the fields of several lines."""
    size = path.stat().st_size
    content = np.memmap(path, np.uint8, mode="r")
    begin = len(MARK) if content[: len(MARK)].tobytes() == MARK else 0
    before = np.frombuffer(b'"\n' + separator.encode(), np.uint8)
    after = np.frombuffer(b'"\r\n' + separator.encode(), np.uint8)
    marks, rows, found = 0, 0, list[tuple[int, int, int]]()
    for start in range(begin, size, WINDOW):
        window = content[start : start + WINDOW]
        place = np.flatnonzero(window == QUOTE)
        opens = (marks + np.arange(len(place))) % 2 == 0
        first, last = place[opens] + start, place[~opens] + start
        left, right = content[np.maximum(first - 1, begin)], content[np.minimum(last + 1, size - 1)]
        if (
            not ((first == begin) | np.isin(left, before)).all()
            or not ((last == size - 1) | np.isin(right, after)).all()
        ):
            return False, None
        lines = np.flatnonzero(window == LINE_FEED)
        field = marks + np.searchsorted(place, lines)
        inside = field % 2 == 1
        if inside.any():
            row = rows + np.cumsum(~inside)
            numbers, at, counts = np.unique(field[inside], return_index=True, return_counts=True)
            found += zip(numbers.tolist(), row[inside][at].tolist(), counts.tolist(), strict=True)
        marks, rows = marks + len(place), rows + int(np.count_nonzero(~inside))
    if marks % 2:
        return False, None
    if not found:
        return True, None
    longest = max(found, key=lambda each: each[2])
    return True, LongFields(len({number for number, *_ in found}), longest[1], longest[2] + 1)


def _mended(lines: Iterator[bytes], separator: bytes) -> Iterator[bytes]:
    """The rows of a file, with marks doubled and fields quoted where they must be; a broken row gives BROKEN.

    A mark opens a field only where the field begins, and closes it only where the field ends. A mark elsewhere in a
    field that is not quoted is a character; inside a quoted one, the row is broken, and the next line begins a new one.
    """
    width: int | None = None
    waiting: list[bytes] = []
    while True:
        line = waiting.pop(0) if waiting else next(lines, None)
        if line is None:
            return
        line = line.removeprefix(MARK) if width is None else line
        if b'"' not in line and width is not None:
            yield line
            continue
        row, fields = line, _fields(line, separator)
        taken = 0
        while fields is None and taken < MOST_LINES:
            if taken == len(waiting):
                waiting += islice(lines, 1)
            if taken == len(waiting):
                break
            row, taken = row + waiting[taken], taken + 1
            fields = _fields(row, separator)
        if fields:
            del waiting[:taken]
            yield separator.join(_quoted(each, separator) for each in fields) + b"\n"
        else:
            yield separator * (width or 1) + BROKEN.encode() + b"\n"
        if width is None and line.strip():
            width = len(fields or [b""])


def _fields(row: bytes, separator: bytes) -> list[bytes] | None:
    """The fields of a row; empty if a mark is stray, None if the last field is still open."""
    end = len(row.rstrip(b"\r\n"))
    fields, at = [], 0
    while at <= end:
        if row[at : at + 1] != b'"':
            stop = row.find(separator, at, end)
            stop = end if stop < 0 else stop
            fields.append(row[at:stop])
        else:
            stop = row.find(b'"', at + 1)
            while stop >= 0 and row[stop + 1 : stop + 2] == b'"':
                stop = row.find(b'"', stop + 2)
            if stop < 0:
                return None
            fields.append(row[at + 1 : stop].replace(b'""', b'"'))
            stop += 1
            if stop < end and row[stop : stop + 1] != separator:
                return []
        at = stop + 1
    return fields


def _quoted(field: bytes, separator: bytes) -> bytes:
    if b'"' in field or b"\n" in field or separator in field:
        return b'"' + field.replace(b'"', b'""') + b'"'
    return field

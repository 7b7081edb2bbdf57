"""The text of a raw table made plain for the parser: lines end in line feeds, separators are one byte, quotes close.

Polars finds rows by counting quotation marks, so a mark that only stands for inches would swallow the rest of a file.
Files whose marks all open or close a field are read as they are; the rows of others are written anew, one by one.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mkmsr.data.readers.raw_bytes import pieces
from mkmsr.runtime.files import Scratch

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
    """A text that the parser reads rightly: the file itself or a copy, with a separator of one byte.

    `long_fields` are those of several lines, if there are any; rows count from the first line of the file.
    """

    path: Path
    separator: str
    quoted: bool
    long_fields: LongFields | None = None


def plain_text(path: Path, separator: str, scratch: Scratch, *, quote: bool = True) -> PlainText:
    """Return the text in a file that is not packed; `scratch` takes a copy that differs from the file."""
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
        copy = scratch.file(".txt")
        with copy.open("wb") as file:
            file.writelines(_replaced(path, replaced))
        path = copy
    if not quote or not has[b'"']:
        return PlainText(path, separator, quoted=False)
    close, fields = _long_fields(path, separator)
    if not close:
        path = _mended(path, separator, scratch)
        _, fields = _long_fields(path, separator)
    return PlainText(path, separator, quoted=True, long_fields=fields)


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


def _mended(path: Path, separator: str, scratch: Scratch) -> Path:
    """A copy with marks doubled and fields quoted where they must be; BROKEN ends a row with an open or stray mark.

    A mark opens a field only where the field begins, and closes it only where the field ends. After a broken row the
    next line begins a new one.
    """
    mended = scratch.file(".txt")
    width, waiting = 0, deque[str]()
    # Latin-1 gives every byte a character, so that bytes that are no UTF-8 stay as they are.
    with path.open(encoding="latin-1", newline="\n") as lines, mended.open("w", encoding="latin-1", newline="") as copy:
        rows = csv.writer(copy, delimiter=separator, lineterminator="\n")
        while line := waiting.popleft() if waiting else lines.readline():
            line = line if width else line.removeprefix(MARK.decode("latin-1"))
            if '"' not in line:
                copy.write(line)
                width = width or (line.count(separator) + 1 if line.strip() else 0)
                continue
            ahead: list[str] = []
            fields = _fields([line], separator)
            while fields is None and len(ahead) < MOST_LINES:
                if not (more := waiting.popleft() if waiting else lines.readline()):
                    break
                ahead.append(more)
                fields = _fields([line, *ahead], separator)
            if fields:
                rows.writerow(fields)
            else:
                copy.write(separator * max(width, 1) + BROKEN + "\n")
                waiting.extendleft(reversed(ahead))
            width = width or len(fields or [""])
    return mended


def _fields(lines: Sequence[str], separator: str) -> list[str] | None:
    """The fields of a row over some lines; empty if a mark is stray, None if the last field is still open."""
    try:
        return next(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error as error:
        return None if "unexpected end of data" in str(error) else []

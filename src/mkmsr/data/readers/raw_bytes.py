"""The bytes of a raw file, plain or packed, piece by piece; and text made plain for the parser.

In plain text lines end in line feeds, separators are one byte, quotes close. Polars finds rows by counting quotation
marks, so a mark that only stands for inches would swallow the rest of a file. Files whose marks all open or close a
field are read as they are; the rows of others are written anew, one by one.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mkmsr.errors import ConfigError, DataError
from mkmsr.runtime.files import Scratch

MAGIC = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd", ".xz": b"\xfd7zXZ\x00"}
"""How packed files begin."""
PACKED = (*MAGIC, ".zip")
PIECE = 1 << 20

NAMES = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd", ".xz": "xz", ".zip": "zip"}

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


def is_packed(path: Path) -> str | None:
    """Return how a file is packed, as the usual ending such as ".gz", whatever its name; None where it is not."""
    if not path.is_file():
        raise DataError("no such file", path=path)
    with path.open("rb") as file:
        begin = file.read(6)
    found = next((ending for ending, magic in MAGIC.items() if begin.startswith(magic)), None)
    named = path.suffix.lower()
    if named in MAGIC and found is None:
        text = f"named {named} but not a {NAMES[named]} file" if begin else "the file is empty"
        raise DataError(text, path=path)
    return found if found != ".bz2" or named == ".bz2" else None  # a table may well begin with the letters BZh


def pieces(path: Path, *, size: int = PIECE) -> Iterator[bytes]:
    """Yield the content of a file, unpacked, in pieces of at most `size` bytes; a damaged file raises DataError."""
    packed = is_packed(path)
    name = NAMES.get(packed or "")
    opened, wrong = _opener(packed, path)
    with opened(path, "rb") as file:
        try:
            while piece := file.read(size):
                yield piece
        except EOFError:
            raise DataError(
                f"the {name} file is truncated: it ends before its end mark; copy it again", path=path
            ) from None
        except (zlib.error, OSError, ValueError, wrong) as error:
            if packed is None:
                raise
            raise DataError(f"the {name} file is damaged: {error}", path=path) from None


def unpack(path: Path, scratch: Scratch) -> Path:
    """Return the same file if it is plain, else an unpacked copy of it; a damaged one raises DataError."""
    if is_packed(path) is None:
        return path
    plain = scratch.file(".txt")
    with plain.open("wb") as file:
        file.writelines(pieces(path))
    return plain


def unzip(path: Path, scratch: Scratch) -> list[tuple[str, Path]]:
    """Unpack a zip archive: name and copy of each file, in the order of names; hidden ones are left out."""
    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(each.filename for each in archive.infolist() if not each.is_dir()):
                if any(part.startswith((".", "_")) for part in Path(name).parts):
                    continue
                copy = scratch.file("".join(Path(name).suffixes[-2:]).lower())
                with archive.open(name) as packed, copy.open("wb") as file:
                    while piece := packed.read(PIECE):
                        file.write(piece)
                found.append((name, copy))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"the zip file is damaged or locked: {error}", path=path) from None
    if not found:
        raise DataError("the zip file holds no file", path=path)
    return found


def _opener(packed: str | None, path: Path) -> tuple[Callable[[Path, str], IO[bytes]], type[Exception]]:
    """What opens a file that is packed in some way, and what it raises where the file is damaged."""
    if packed == ".zst":
        try:
            from backports import zstd
        except ModuleNotFoundError:
            raise ConfigError("needs a library for zstd: pip install 'mkmsr[zstd]'", path=path) from None
        opener: Any = zstd.open
        return opener, zstd.ZstdError
    openers: dict[str | None, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return openers.get(packed, open), lzma.LZMAError


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

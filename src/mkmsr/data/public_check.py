"""Whether a copy of a public data set is whole: names, columns, sizes and, where known, contents of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mkmsr.data.public import PublicDataset, PublicFile
from mkmsr.data.readers.raw_bytes import pieces
from mkmsr.data.readers.table import header_names
from mkmsr.errors import DataError

__all__ = ["FileCheck", "check_files"]


@dataclass(frozen=True)
class FileCheck:
    """What a file of a public data set looks like here.

    Args:
        file: What it should be.
        path: Where it was found, or None.
        bytes: Size of the unpacked content.
        rows: Lines of the unpacked content without the header and without a line end after the last.
        problems: What is not as it should be; empty if all is well.
    """

    file: PublicFile
    path: Path | None
    bytes: int
    rows: int
    problems: tuple[str, ...]


def check_files(
    dataset: PublicDataset, folder: Path, *, progress: Callable[[int], None] | None = None
) -> Iterator[FileCheck]:
    """Compares what lies in a folder with what a data set should be, one file after the other.

    Args:
        dataset: The data set.
        folder: Where its files were unpacked.
        progress: Called with the number of bytes read since the last call.

    Raises:
        DataError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataError("no such folder", path=folder)
    for file in dataset.files:
        path = next((each for each in (folder / file.name, folder / f"{file.name}.gz") if each.is_file()), None)
        if path is None:
            missing = ("the file is missing",) if file.needed else ()
            yield FileCheck(file, None, 0, 0, missing)
        else:
            yield _check(file, path, progress)


def _check(file: PublicFile, path: Path, progress: Callable[[int], None] | None) -> FileCheck:
    """One pass over a file."""
    digest, size, lines, start, last = hashlib.sha256(), 0, 0, b"", b""
    try:
        for piece in pieces(path):
            start = start or piece
            size, lines, last = size + len(piece), lines + piece.count(b"\n"), piece[-1:]
            digest.update(piece)
            if progress is not None:
                progress(len(piece))
        problems = _wrong_start(file, start, path)
    except DataError as error:
        return FileCheck(file, path, size, lines, (str(error),))
    lines += last not in {b"\n", b""}
    rows = max(lines - file.header, 0)
    for what, wanted, found in (("bytes", file.bytes, size), ("rows", file.rows, rows)):
        if wanted is not None and wanted != found:
            problems.append(f"{found:,} {what}, should be {wanted:,}")
    if not problems and file.sha256 not in {None, digest.hexdigest()}:
        problems.append("other content than the owner's file (SHA-256 differs)")
    return FileCheck(file, path, size, rows, tuple(problems))


def _wrong_start(file: PublicFile, start: bytes, path: Path) -> list[str]:
    """What is wrong with the first line."""
    if not start:
        return ["the file is empty"]
    line = start.partition(b"\n")[0]
    if not file.separator:
        try:
            keys = dict(json.loads(line))
        except (ValueError, TypeError):
            return ["the first line is no JSON object"]
        return [f"the first line lacks {key!r}" for key in file.columns if key not in keys]
    if not file.header:
        fields = line.count(file.separator.encode()) + 1
        wanted = len(file.columns)
        return [] if fields == wanted else [f"the first line has {fields} fields, should have {wanted}"]
    found = {_plain(name) for name in header_names(line, file.separator, path)}
    return [f"lacks the column {name!r}" for name in file.columns if _plain(name) not in found]


def _plain(name: str) -> str:
    """A column's name without what copies spell in their own way."""
    return name.replace("_", "").lower()

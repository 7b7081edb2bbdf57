"""The public data sets that have a reader: whether a copy is whole, and downloads where that is open.

A copy is compared by names, columns, sizes and, where known, contents of its files.
"""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from mkmsr.data.readers import PUBLIC_DATASETS
from mkmsr.data.readers.public import PublicDataset, PublicFile
from mkmsr.data.readers.raw_bytes import pieces
from mkmsr.data.readers.table import header_names
from mkmsr.errors import ConfigError, DataError, nearest
from mkmsr.runtime.files import atomic_file
from mkmsr.runtime.files import sha256 as sha256_of

PIECE = 1 << 16
TIMEOUT = 30.0
"""Seconds without an answer after which a connection counts as lost."""


def public_dataset(name: str) -> PublicDataset:
    """Return the data set of this name; an unknown one raises ConfigError."""
    if name not in PUBLIC_DATASETS:
        known = ", ".join(PUBLIC_DATASETS)
        raise ConfigError(f"no public data set {name!r}{nearest(name, PUBLIC_DATASETS)}; known: {known}")
    return PUBLIC_DATASETS[name]


@dataclass(frozen=True)
class FileCheck:
    """What a file of a public data set looks like here, with its unpacked bytes and rows, and what is wrong with it.

    A line end after the last row makes no row; a file that is missing has no path.
    """

    file: PublicFile
    path: Path | None
    bytes: int
    rows: int
    problems: tuple[str, ...]


def check_files(
    dataset: PublicDataset, folder: Path, *, progress: Callable[[int], None] | None = None
) -> Iterator[FileCheck]:
    """Compare the files in a folder with what they should be; `progress` takes the bytes read since its last call."""
    if not folder.is_dir():
        raise DataError("no such folder", path=folder)
    for file in dataset.files:
        path = next((each for each in (folder / file.name, folder / f"{file.name}.gz") if each.is_file()), None)
        if path is None:
            missing = ("the file is missing",) if file.needed else ()
            yield FileCheck(file, None, 0, 0, missing)
        else:
            yield _check(file, path, progress)


def download(
    address: str,
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> bool:
    """Fetch a file from the web, unless it is there already with the right content, and return whether that was needed.

    Size and checksum are those that it should have, where known. `progress` takes the number of bytes found here or
    arrived since its last call. Where the server refuses, the connection breaks or other content arrives, DataError is
    raised and an old file stays.
    """
    if urlsplit(address).scheme not in {"http", "https"}:
        raise DataError(f"{address!r} is not an address of the web", path=path)
    if path.is_file() and sha256 is not None and sha256_of(path) == sha256:
        progress(path.stat().st_size)
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_file(path) as part:
            with part.open("wb") as file, urlopen(address, timeout=TIMEOUT) as answer:
                while piece := answer.read(PIECE):
                    file.write(piece)
                    progress(len(piece))
            arrived, found = part.stat().st_size, sha256_of(part)
            if arrived != (size or arrived):
                raise DataError(f"{arrived:,} bytes arrived, should be {size:,}; not kept", path=path)
            if found != (sha256 or found):
                raise DataError(f"another content arrived: SHA-256 {found}, should be {sha256}; not kept", path=path)
    except HTTPError as error:
        raise DataError(f"{address} answers {error.code} {error.reason}", path=path) from None
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"cannot fetch {address}: {error}; try again", path=path) from None
    return True


def _check(file: PublicFile, path: Path, progress: Callable[[int], None] | None) -> FileCheck:
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
    if not start:
        return ["the file is empty"]
    line = start.partition(b"\n")[0]
    if not file.separator:
        try:
            keys = dict(json.loads(line))
        except (ValueError, TypeError, RecursionError):
            return ["the first line is no JSON object"]
        return [f"the first line lacks {key!r}" for key in file.columns.split(",") if key not in keys]
    if not file.header:
        fields = line.count(file.separator.encode()) + 1
        wanted = file.columns.count(",") + 1
        return [] if fields == wanted else [f"the first line has {fields} fields, should have {wanted}"]
    found = {_plain(name) for name in header_names(line, file.separator, path)}
    return [f"lacks the column {name!r}" for name in file.columns.split(",") if _plain(name) not in found]


def _plain(name: str) -> str:
    """A column's name without what copies spell in their own way."""
    return name.replace("_", "").lower()

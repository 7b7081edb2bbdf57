"""Download a file whole, check it, and only then put it in its place."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from mkmsr.errors import DataError
from mkmsr.runtime.files import atomic_file
from mkmsr.runtime.files import sha256 as sha256_of

__all__ = ["download"]

PIECE = 1 << 16
TIMEOUT = 30.0
"""Seconds without an answer after which a connection counts as lost."""


def download(
    address: str,
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> bool:
    """Fetch a file, unless it is there already with the right content.

    Args:
        address: http or https.
        path: Where the file goes; folders are made.
        size: Bytes that it should have, where known.
        sha256: Checksum that it should have, where known.
        progress: Called with the number of bytes that were found here or arrived since the last call.

    Returns:
        Whether anything was fetched.

    Raises:
        DataError: The server refuses, the connection breaks, or the content is another one; an old file stays.
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

"""Downloads that can be interrupted: what has arrived is kept, the rest is asked for, the whole is checked."""

from __future__ import annotations

import http.client
import logging
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from mkmsr.errors import DataError
from mkmsr.runtime.files import sha256 as sha256_of

__all__ = ["download"]

logger = logging.getLogger(__name__)

PIECE = 1 << 16
TIMEOUT = 30.0
"""Seconds without an answer after which a connection counts as lost."""
ATTEMPTS = 4
RANGE_BEYOND_END = 416


def download(
    address: str,
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> bool:
    """Fetches a file, unless it is there already with the right content.

    What arrives lies beside the path under its name with `.part` and takes its place when it is complete and right. A
    lost connection is taken up again where it broke, in this call and in a later one.

    Args:
        address: http or https.
        path: Where the file goes; folders are made.
        size: Bytes that it should have.
        sha256: Checksum that it should have.
        progress: Called with the number of bytes that were found here or arrived since the last call; negative where
            the server cannot take up a download and begins again.

    Returns:
        Whether anything was fetched.

    Raises:
        DataError: The server says no, the connection breaks again and again, or the content is another one.
    """
    if urlsplit(address).scheme not in {"http", "https"}:
        raise DataError(f"{address!r} is not an address of the web", path=path)
    progress = progress or (lambda count: None)
    if path.is_file() and sha256 is not None and sha256_of(path) == sha256:
        progress(path.stat().st_size)
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    if part.exists():
        progress(part.stat().st_size)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _receive(address, part, progress)
            break
        except HTTPError as error:
            raise DataError(f"{address} answers {error.code} {error.reason}", path=path) from None
        except (URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if attempt == ATTEMPTS:
                raise DataError(
                    f"cannot fetch {address}: {error}; the same command goes on from here", path=path
                ) from None
            logger.info("%s: %s; trying again", address, error)
    _check(part, path, size, sha256)
    part.replace(path)
    return True


def _receive(address: str, part: Path, progress: Callable[[int], None]) -> None:
    """The rest of a file, or all of it where the server cannot begin in the middle."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if have and error.code == RANGE_BEYOND_END:
            return  # it is all here; the checks will tell whether it is right
        raise
    with answer:
        goes_on = have and answer.status == http.HTTPStatus.PARTIAL_CONTENT
        if have and not goes_on:
            progress(-have)
        announced, arrived = answer.headers.get("Content-Length"), 0
        with part.open("ab" if goes_on else "wb") as file:
            while piece := answer.read(PIECE):
                file.write(piece)
                arrived += len(piece)
                progress(len(piece))
    if announced is not None and arrived < int(announced):
        raise ConnectionError(f"the connection ended after {arrived:,} of {int(announced):,} bytes")


def _check(part: Path, path: Path, size: int | None, sha256: str | None) -> None:
    """Makes sure that a complete download is what it should be; a wrong one is removed."""
    arrived = part.stat().st_size
    if size is not None and arrived != size:
        wrong = f"{arrived:,} bytes arrived, should be {size:,}"
    elif sha256 is not None and (found := sha256_of(part)) != sha256:
        wrong = f"the content is another one than expected (SHA-256 {found}, should be {sha256})"
    else:
        return
    part.unlink()
    raise DataError(f"{wrong}; nothing was kept", path=path)

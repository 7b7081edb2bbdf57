"""The bytes of a raw file, plain or gzipped, piece by piece."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from mkmsr.data.scratch import Scratch
from mkmsr.errors import DataError

__all__ = ["is_gzip", "pieces", "unpack"]

GZIP_MAGIC = b"\x1f\x8b"
PIECE = 1 << 20


def is_gzip(path: Path) -> bool:
    """Whether a file's content is gzip, whatever its name.

    Raises:
        DataError: There is no such file, or it is named .gz and is something else.
    """
    if not path.is_file():
        raise DataError("no such file", path=path)
    with path.open("rb") as file:
        magic = file.read(2)
    if magic != GZIP_MAGIC and path.name.endswith(".gz"):
        raise DataError("named .gz but not a gzip file" if magic else "the file is empty", path=path)
    return magic == GZIP_MAGIC


def pieces(path: Path, *, size: int = PIECE) -> Iterator[bytes]:
    """The content of a file, unpacked if it is gzip, in pieces of at most `size` bytes.

    Raises:
        DataError: The file is missing, or its gzip is truncated or damaged.
    """
    with gzip.open(path, "rb") if is_gzip(path) else path.open("rb") as file:
        try:
            while piece := file.read(size):
                yield piece
        except EOFError:
            raise DataError(
                "the gzip file is truncated: it ends before its end mark; copy it again", path=path
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"the gzip file is damaged: {error}", path=path) from None


def unpack(path: Path, scratch: Scratch) -> Path:
    """The same file if it is plain, else an unpacked copy of it.

    Raises:
        DataError: The file is missing, or its gzip is truncated or damaged.
    """
    if not is_gzip(path):
        return path
    plain = scratch.file(Path(path.name.removesuffix(".gz")).suffix)
    with plain.open("wb") as file:
        for piece in pieces(path):
            file.write(piece)
    return plain

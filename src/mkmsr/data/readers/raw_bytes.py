"""The bytes of a raw file, plain or packed, piece by piece."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from mkmsr.errors import ConfigError, DataError
from mkmsr.runtime.files import Scratch

MAGIC = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd", ".xz": b"\xfd7zXZ\x00"}
"""How packed files begin."""
PACKED = (*MAGIC, ".zip")
PIECE = 1 << 20

NAMES = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd", ".xz": "xz", ".zip": "zip"}


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
        for piece in pieces(path):
            file.write(piece)
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

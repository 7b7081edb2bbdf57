"""Writing so that nothing is lost: into a temporary name first, then moved into place; and checksums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "atomic_file",
    "atomic_folder",
    "atomic_write",
    "is_signed",
    "may_replace",
    "sha256",
    "signed_json",
    "unshared",
]

_NO_DIGEST = "0" * 64


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signed_json(entries: Mapping[str, Any]) -> str:
    """Return entries as JSON with one more, `sha256`: the digest of the text with zeros in the place of the digest."""
    text = json.dumps({**entries, "sha256": _NO_DIGEST}, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    return text.replace(_NO_DIGEST, hashlib.sha256(text.encode()).hexdigest())


def is_signed(content: bytes, digest: object) -> bool:
    """Return whether a file that `signed_json` made is as it was written; `digest` is its entry `sha256`."""
    if not isinstance(digest, str) or len(digest) != len(_NO_DIGEST):
        return False
    unsigned = content.replace(digest.encode(), _NO_DIGEST.encode())
    return hashlib.sha256(unsigned).hexdigest() == digest


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, none sharing memory with another (tied weights do), which safetensors refuses."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        result[name] = value.clone() if place in seen else value
        seen.add(place)
    return result


def may_replace(path: str | Path, marker: str) -> bool:
    """Whether a folder may take the place of what is there: nothing, an empty folder, or one with the marker file."""
    path = Path(path)
    return not path.exists() or (path / marker).is_file() or (path.is_dir() and not any(path.iterdir()))


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Write a whole file or leave the old one untouched, whatever happens (a full disk, a kill)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A hidden name for a library to write to; the file takes the place of `path` when the block ends well."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A new empty folder that takes the place of `path` when the block ends well; until then the old one stays.

    The files in it, which has no folders, are on the disk before the old one goes. On an error the new folder is
    removed and the old one is intact.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    new.chmod(0o755)
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        yield new
        for file in new.iterdir():
            _flush(file)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if old.is_file():
        old.unlink()
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until a file is on its disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())

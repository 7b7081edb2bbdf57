"""Writing so that nothing is lost: files and folders whole or not at all, one writer a folder; and checksums."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from mkmsr.errors import ConfigError, DataError, MkmsrError, shown

if TYPE_CHECKING:
    from torch import Tensor

ContentT = TypeVar("ContentT", bound=BaseModel)
Wrong: TypeAlias = Callable[[str, Path], MkmsrError]
"""Makes the error of a file that is not as it was written, from what is wrong and its path."""

_NO_DIGEST = "0" * 64

_SECONDS_TO_LET_GO = 2.0
"""How long a folder's lock is waited for: the worker processes of a run that was killed take a moment to end."""

_SCRATCH_PREFIX = "mkmsr-scratch-"


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
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


def read_signed(
    file: Path, kind: type[ContentT], *, form: str, versions: Sequence[int], unsigned: Sequence[int] = (), wrong: Wrong
) -> ContentT:
    """Return what a file that `signed_json` made says, or raise what `wrong` makes of an altered or another one.

    Its entry `format` should be `form` and its `format_version` one of `versions`; those of `unsigned` had no digest.
    """
    content = file.read_bytes()
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise wrong(f"not JSON any more: {error}", file) from None
    found = entries.get("format") if isinstance(entries, dict) else type(entries).__name__
    if found != form:
        raise wrong(f"of another format (expected {form}, found {shown(found)})", file)
    version, digest = entries.get("format_version"), entries.get("sha256")
    if version not in versions:
        known = " or ".join(map(str, versions))
        advice = "use the release of mkmsr that wrote it, or make it anew"
        raise wrong(f"of another format version: {advice} (expected {known}, found {shown(version)})", file)
    if (version not in unsigned or digest is not None) and not is_signed(content, digest):
        raise wrong("altered since it was written: its text does not match its entry sha256", file)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise wrong(f"entry {name!r} is wrong: {first['msg']}, found {shown(first['input'])}", file) from None


def read_verified(file: Path, digest: str, wrong: Wrong) -> bytes:
    """Return the bytes of a file whose SHA-256 is stated elsewhere; of one that differs, raise what `wrong` makes."""
    if not file.is_file():
        raise wrong("missing", file)
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise wrong(f"altered since it was written (expected sha256 {digest}, found {found})", file)
    return content


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
    """Return whether a folder may replace what is there: nothing, an empty folder, or one with the marker file."""
    path = Path(path)
    if not path.exists() or (path / marker).is_file():
        return True
    return path.is_dir() and all(each.name == ".lock" for each in path.iterdir())


@contextmanager
def locked(path: str | Path | None) -> Iterator[None]:
    """Keep every other process from writing to a folder (or file) while the block lasts; this one may lock it again.

    What a run left that was killed while it wrote there is put right: unfinished parts are removed, and an old folder
    that had made room for a new one comes back if the new one did not arrive. None locks nothing. Where another
    process holds the lock, a `ConfigError` says which.
    """
    if path is None:
        yield
        return
    from filelock import FileLock, Timeout

    folder = Path(os.path.realpath(path))
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = os.access(folder.parent, os.W_OK)  # A mounted folder may stand where nothing else can be written.
    place = folder.with_name(f".{folder.name}.lock") if beside else folder / ".lock"
    lock = FileLock(place, timeout=_SECONDS_TO_LET_GO, is_singleton=True)
    if lock.is_locked:
        yield
        return
    try:
        lock.acquire()
    except Timeout:
        holder = ""
        with suppress(OSError):
            holder = place.read_text(encoding="utf-8")
        what = f"in use by {holder or 'another process'}; wait for it to end, or choose another place"
        raise ConfigError(what, path=path) from None
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # Windows lets nobody write to a locked file.
            place.write_text(f"process {os.getpid()} on {platform.node()} since {since}", encoding="utf-8")
        _put_right(folder)
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; there the empty file stays.
            place.unlink(missing_ok=True)
        lock.release()


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Write a whole file or leave the old one untouched, whatever happens (a full disk, a kill)."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a hidden name for a library to write to; the file takes the place of `path` when the block ends well.

    Where `path` is a link, the file that it points to is replaced.
    """
    path = Path(os.path.realpath(path))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        _flush(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new empty folder that takes the place of `path` when the block ends well; until then the old one stays.

    The files in it, which has no folders, are on the disk before the old one goes. On an error the new folder is
    removed and the old one is intact. Where `path` is a link, the folder that it points to is replaced. While another
    process writes there, ConfigError is raised.
    """
    path = Path(os.path.realpath(path))
    new, old = _names_beside(path)
    with locked(path):
        try:
            new.mkdir()
            yield new
            for file in new.iterdir():
                _flush(file)
            if path.exists():
                path.rename(old)
            new.rename(path)
        except BaseException:
            _put_right(path)
            raise
        shutil.rmtree(old, ignore_errors=True)


class Scratch:
    """A folder of temporary files, made when it is first needed and removed when nothing refers to it any more.

    It is made in `parent`; None is the system's place for temporary files.
    """

    def __init__(self, parent: Path | None = None):
        self._parent, self._files = parent, 0

    @cached_property
    def folder(self) -> Path:
        """The folder; if the place for it does not exist, DataError is raised."""
        if self._parent is not None and not self._parent.is_dir():
            raise DataError("no such folder; it was named for temporary files", path=self._parent)
        stack = ExitStack()
        weakref.finalize(self, stack.close)
        return stack.enter_context(scratch_folder(self._parent))

    def file(self, suffix: str) -> Path:
        """Return the path of a new file."""
        self._files += 1
        return self.folder / f"{self._files:04d}{suffix}"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder for temporary files, removed when the block ends; leftovers of killed processes go first.

    It is made in `parent`; None is the system's place for temporary files.
    """
    from filelock import FileLock

    parent = Path(parent or tempfile.gettempdir())
    for other in parent.glob(f"{_SCRATCH_PREFIX}*"):
        with suppress(OSError), FileLock(other / ".lock", timeout=0):  # Its process lives, or is not ours.
            shutil.rmtree(other, ignore_errors=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=parent))
        lock = FileLock(folder / ".lock")
        with suppress(FileNotFoundError):  # Another process took the new folder for a leftover.
            lock.acquire()
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _names_beside(path: Path) -> tuple[Path, Path]:
    """Where a folder is written before it takes the place of an old one, and where that one goes then."""
    return path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")


def _put_right(folder: Path) -> None:
    """Remove what unfinished writes to a folder left; its lock must be held."""
    new, old = _names_beside(folder)
    shutil.rmtree(new, ignore_errors=True)
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:  # Windows flushes only what is open for writing.
        os.fsync(file.fileno())

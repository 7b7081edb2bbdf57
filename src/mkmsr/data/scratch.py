"""A folder for temporary files that cleans up after itself."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

from mkmsr.errors import DataError

__all__ = ["Scratch"]


class Scratch:
    """A folder of temporary files, made when it is first needed and removed when nothing refers to it any more.

    Args:
        parent: Where to make it; None is the system's place for temporary files.
    """

    def __init__(self, parent: Path | None = None):
        self._parent = parent
        self._folder: Path | None = None
        self._files = 0

    @property
    def folder(self) -> Path:
        """The folder.

        Raises:
            DataError: The place for it does not exist.
        """
        if self._folder is None:
            if self._parent is not None and not self._parent.is_dir():
                raise DataError("no such folder; it was named for temporary files", path=self._parent)
            self._folder = Path(tempfile.mkdtemp(prefix="mkmsr-", dir=self._parent))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def file(self, suffix: str) -> Path:
        """The path of a new file."""
        self._files += 1
        return self.folder / f"{self._files:04d}{suffix}"

"""A folder for temporary files that cleans up after itself."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from pathlib import Path

from mkmsr.errors import DataError
from mkmsr.runtime.files import scratch_folder

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
        """The folder; if the place for it does not exist, DataError is raised."""
        if self._folder is None:
            if self._parent is not None and not self._parent.is_dir():
                raise DataError("no such folder; it was named for temporary files", path=self._parent)
            stack = ExitStack()
            self._folder = stack.enter_context(scratch_folder(self._parent))
            weakref.finalize(self, stack.close)
        return self._folder

    def file(self, suffix: str) -> Path:
        """The path of a new file."""
        self._files += 1
        return self.folder / f"{self._files:04d}{suffix}"

"""What is said of a public data set beside its reader: who offers it, under which terms, and how its files should look.

Nothing here is part of this project. Sizes and row counts are those of copies in circulation; where a file has neither,
only its name and columns can be checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.options import ReadOptions

__all__ = ["PublicDataset", "PublicFile"]


@dataclass(frozen=True)
class PublicFile:
    """A file of a public data set.

    Args:
        name: Its name below the data set's folder; a copy with .gz will do.
        columns: Names that its first line should hold, with commas between; of a file without a header, its fields.
        separator: Between fields; empty for JSON lines, whose columns are the keys of a line.
        header: Whether the first line holds the names.
        needed: Whether the reader cannot do without.
        bytes: Size of the unpacked file, where known.
        rows: Rows without the header, where known.
        sha256: Of the unpacked content, where known.
    """

    name: str
    columns: str
    separator: str = ","
    header: bool = True
    needed: bool = True
    bytes: int | None = None
    rows: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class PublicDataset:
    """A public data set.

    Args:
        name: What `mkmsr prepare` and `mkmsr fetch` call it.
        read: Its reader.
        title: What it is.
        owner: Who offers it.
        page: Where.
        terms: Under which terms, as far as known; the owner's page decides.
        files: What the reader reads.
        address: The address below which each file can be had directly, or None where the owner asks for an account.
    """

    name: str
    read: Callable[[Path, ReadOptions], InteractionLog]
    title: str
    owner: str
    page: str
    terms: str
    files: tuple[PublicFile, ...]
    address: str | None = None

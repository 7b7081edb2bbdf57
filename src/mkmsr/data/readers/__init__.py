"""Readers: raw files to an InteractionLog. READERS is the table of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.jdata_demo import read_jdata_demo
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.tabular import read_events
from mkmsr.errors import ConfigError, nearest

__all__ = ["READERS", "ReadOptions", "Reader", "read_log"]


@dataclass(frozen=True)
class Reader:
    """One kind of raw log: what it is, and the function that reads it."""

    summary: str
    read: Callable[[Path, ReadOptions], InteractionLog]


READERS = {
    "events": Reader("any event table: CSV, TSV or Parquet, gzip too", read_events),
    "jdata-demo": Reader("the paper's Demo sample of JDATA (a folder, as its authors publish it)", read_jdata_demo),
}


def read_log(kind: str, source: str | Path, options: ReadOptions | None = None) -> InteractionLog:
    """The log in a file or folder of a given kind.

    Raises:
        ConfigError: The kind is unknown, or an option does not fit it.
        DataError: A file is missing or not as it should be.
    """
    if kind not in READERS:
        raise ConfigError(f"unknown kind of log {kind!r}{nearest(kind, READERS)}; known: {', '.join(READERS)}")
    return READERS[kind].read(Path(source), options or ReadOptions())

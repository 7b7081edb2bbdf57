"""Readers: raw files to an InteractionLog, one file a format. READERS is the table of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers import diginetica, jdata, kkbox, otto, rees46, retailrocket, trivago, yoochoose
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.presplit import read_presplit
from mkmsr.data.readers.public import PublicDataset
from mkmsr.data.readers.sql import is_address, masked
from mkmsr.data.readers.tabular import read_events
from mkmsr.errors import ConfigError, nearest

__all__ = ["PUBLIC_DATASETS", "READERS", "ReadOptions", "Reader", "read_log"]

_MODULES = (jdata, kkbox, retailrocket, trivago, rees46, yoochoose, diginetica, otto)

PUBLIC_DATASETS: dict[str, PublicDataset] = {
    each.name: each for each in (jdata.DEMO, *(module.DATASET for module in _MODULES))
}
"""The public data sets that have a reader, by name."""


@dataclass(frozen=True)
class Reader:
    """One kind of raw log: what it is, and the function that reads it."""

    summary: str
    read: Callable[[Path, ReadOptions], InteractionLog]


READERS = {
    "events": Reader(
        "any event table: CSV, TSV, Parquet, JSON lines, a folder of them, or a table of a database", read_events
    ),
    "presplit": Reader(
        "examples already split: RecBole's .inter files, or SR-GNN's pickled lists (a folder)", read_presplit
    ),
    **{name: Reader(each.title, each.read) for name, each in PUBLIC_DATASETS.items()},
}


def read_log(kind: str, source: str | Path, options: ReadOptions | None = None) -> InteractionLog:
    """The log in a file or folder of a given kind, or in a table of a database.

    Raises:
        ConfigError: The kind is unknown, or an option does not fit it.
        DataError: A file is missing or not as it should be.
    """
    if kind not in READERS:
        raise ConfigError(f"unknown kind of log {kind!r}{nearest(kind, READERS)}; known: {', '.join(READERS)}")
    if kind == "events":
        return read_events(source, options or ReadOptions())
    if is_address(source):
        raise ConfigError(f"a table of a database is of the kind 'events', not {kind!r}", path=masked(str(source)))
    return READERS[kind].read(Path(source), options or ReadOptions())

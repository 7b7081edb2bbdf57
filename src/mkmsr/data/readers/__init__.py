"""Readers: raw files to an InteractionLog. READERS is the table of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.diginetica import read_diginetica
from mkmsr.data.readers.jdata import read_jdata
from mkmsr.data.readers.jdata_demo import read_jdata_demo
from mkmsr.data.readers.kkbox import read_kkbox
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.otto import read_otto
from mkmsr.data.readers.rees46 import read_rees46
from mkmsr.data.readers.retailrocket import read_retailrocket
from mkmsr.data.readers.sql import is_address, masked
from mkmsr.data.readers.tabular import read_events
from mkmsr.data.readers.trivago import read_trivago
from mkmsr.data.readers.yoochoose import read_yoochoose
from mkmsr.errors import ConfigError, nearest

__all__ = ["READERS", "ReadOptions", "Reader", "read_log"]


@dataclass(frozen=True)
class Reader:
    """One kind of raw log: what it is, and the function that reads it."""

    summary: str
    read: Callable[[Path, ReadOptions], InteractionLog]


READERS = {
    "events": Reader("any event table: CSV, TSV, Parquet or a folder of it, or a table of a database", read_events),
    "jdata-demo": Reader("the paper's Demo sample of JDATA (a folder, as its authors publish it)", read_jdata_demo),
    "jdata": Reader("JD's competition of 2019 (a folder)", read_jdata),
    "kkbox": Reader("KKBOX, the WSDM Cup of 2018 (a folder)", read_kkbox),
    "retailrocket": Reader("RetailRocket's shop log (a folder)", read_retailrocket),
    "trivago": Reader("trivago, the RecSys Challenge of 2019 (a folder)", read_trivago),
    "rees46": Reader("shop logs of REES46's Open CDP, such as the cosmetics shop (a file or a folder)", read_rees46),
    "yoochoose": Reader("YooChoose, the RecSys Challenge of 2015 (a folder)", read_yoochoose),
    "diginetica": Reader("Diginetica, the CIKM Cup of 2016 (a folder)", read_diginetica),
    "otto": Reader("OTTO's competition of 2022 (a .jsonl file or a folder)", read_otto),
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

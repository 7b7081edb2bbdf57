"""The events of many sessions in Parquet, one row an event, read a stretch of whole sessions at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from mkmsr.data.readers.cells import as_text
from mkmsr.errors import DataError, nearest
from mkmsr.runtime.files import atomic_file, sha256

FIELDS: Mapping[str, tuple[str, ...]] = {
    "session": ("session", "session_id"),
    "item": ("item", "item_id"),
    "operation": ("operation",),
    "time": ("time",),
}
"""Fields of an event, and what a column is called that holds one unless the caller says otherwise."""

_REQUIRED = ("session", "item")


@dataclass(frozen=True)
class Stretch:
    """Neighbouring rows that hold whole sessions.

    `number` is its place among the stretches, and `end` the row after the last.
    """

    number: int
    begin: int
    end: int
    sessions: int


@dataclass(frozen=True)
class SessionFile:
    """A Parquet file, or a folder of them, in which the rows of a session stand together.

    Args:
        path: The file or folder.
        columns: Column of each field; `operation` and `time` may be missing. Events of a session are in the order of
            their times, or without times in that of their rows.
    """

    path: Path
    columns: Mapping[str, str]

    def stretches(self, sessions: int) -> list[Stretch]:
        """Return stretches of so many sessions each; the last one may have fewer."""
        runs = self._session_ids().rle_id().to_numpy()
        starts = np.flatnonzero(np.diff(runs, prepend=-1))
        cuts = np.append(starts[::sessions], len(runs)).tolist()
        return [
            Stretch(number, begin, end, min(sessions, len(starts) - number * sessions))
            for number, (begin, end) in enumerate(pairwise(cuts))
        ]

    def read(self, stretch: Stretch) -> pl.DataFrame:
        """Return the events of a stretch, oldest first within each session: columns session, run, item, operation.

        `run` numbers the sessions of the stretch from 0; `operation` is null where it is not known.
        """
        fields = [pl.col(name).alias(field) for field, name in self.columns.items()]
        events = self._collect(_scan(self.path).slice(stretch.begin, stretch.end - stretch.begin).select(fields))
        events = events.with_columns(as_text(events["item"], self.path), run=pl.col("session").rle_id())
        if "time" in self.columns:
            events = events.sort("run", "time", maintain_order=True)
        if "operation" not in self.columns:
            return events.with_columns(operation=pl.lit(None, pl.String))
        return events.with_columns(as_text(events["operation"], self.path))

    def grouped(self, into: Path) -> SessionFile:
        """Return this file, which `check` has seen, or a copy in which no rows of a session stand apart."""
        ids = self._session_ids()
        if ids.n_unique() == ids.rle_id()[-1] + 1:
            return self
        order = [self.columns["session"], *([self.columns["time"]] if "time" in self.columns else [])]
        with atomic_file(into) as part:
            _scan(self.path).select(*self.columns.values()).sort(order, maintain_order=True).sink_parquet(part)
        return SessionFile(into, self.columns)

    def check(self) -> None:
        """Make sure that every event has a session and an item, and that there are events; else DataError is raised."""
        if self._collect(_scan(self.path).select(pl.len())).item() == 0:
            raise DataError("holds no events", path=self.path)
        for field in _REQUIRED:
            values = self._collect(_scan(self.path).select(self.columns[field])).to_series()
            rows = (values.is_nan().fill_null(True) if values.dtype.is_float() else values.is_null()).arg_true()
            if len(rows):
                raise DataError(
                    f"the {field} is missing; every event needs one",
                    path=self.path,
                    row=int(rows[0]) + 1,
                    column=self.columns[field],
                )

    def checksum(self) -> list[str]:
        """Return the SHA-256 of each file."""
        return [sha256(each) for each in _files(self.path)]

    def _session_ids(self) -> pl.Series:
        return self._collect(_scan(self.path).select(self.columns["session"])).to_series()

    def _collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        try:
            return rows.collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"the Parquet file is damaged: {reason}", path=self.path) from None


def find_columns(path: Path, given: Mapping[str, str]) -> SessionFile:
    """Return the session file at a path, with its columns as the caller names them or as they are usually called.

    A file that is not there, is not Parquet or lacks a column raises DataError.
    """
    known = _scan(path).collect_schema().names()
    columns = {}
    for field, usual in FIELDS.items():
        name = given.get(field) or next((each for each in usual if each in known), None)
        if name in known and name is not None:
            columns[field] = name
        elif name is not None or field in _REQUIRED:
            wanted = name or usual[0]
            hint = nearest(wanted, known)
            raise DataError(
                f"no such column{hint}; the file has {', '.join(known)}: name the column of the field {field!r} with "
                f"--columns {field}=...",
                path=path,
                column=wanted,
            )
    return SessionFile(path, columns)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    hidden = (".", "_")
    return sorted(each for each in path.glob("*.parquet") if not each.name.startswith(hidden))


def _scan(path: Path) -> pl.LazyFrame:
    files = _files(path)
    if not files:
        raise DataError("holds no .parquet file" if path.is_dir() else "no such file", path=path)
    frame = pl.scan_parquet(files, glob=False)
    try:
        frame.collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(
            f"not Parquet: {error}; sessions are read from Parquet here, and from JSON lines with --session", path=path
        ) from None
    return frame

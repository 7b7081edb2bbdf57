"""The files of a bulk job: sessions in Parquet, read a stretch of whole sessions at a time, and the folder of lists.

Sessions have one row an event. The folder has one file a stretch, and notes that let a job go on:

    part-00000.parquet ...   session, rank, item, score
    _job.json                what the lists are: model, sessions, settings
    _shards.jsonl            one line a finished file, with its counts
    _summary.json            written last: a folder that has it is finished

Names that begin with _ are passed over by readers of Parquet folders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mkmsr.config import differences
from mkmsr.data.readers.cells import as_text
from mkmsr.errors import DataError, nearest
from mkmsr.runtime.files import atomic_file, atomic_write, sha256

JOB_FILE, SHARDS_FILE, SUMMARY_FILE, GROUPED_FILE = "_job.json", "_shards.jsonl", "_summary.json", "_grouped.parquet"

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


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What lists hold, and what was done with the events of their sessions.

    `rows` are recommended items. `skipped` events have an unknown item; `replaced` ones an unknown operation, which
    counts as the most common one; sessions without a known event got the most popular items, `by_popularity`.
    """

    sessions: int
    events: int
    rows: int
    skipped: int
    replaced: int
    by_popularity: int


@dataclass(frozen=True, kw_only=True)
class ShardCounts(Counts):
    """The counts of one finished file, and its number."""

    shard: int


class ShardFolder:
    """The output folder of one job.

    `begin` makes it; `depends_on` is what the lists depend on, as JSON values.
    """

    def __init__(self, path: Path, depends_on: Mapping[str, Any]):
        self.path = path
        self._depends_on = json.loads(json.dumps(depends_on))

    def begin(self, *, resume: bool) -> dict[int, ShardCounts]:
        """Make the folder ready, and return the shards that an earlier call finished; none without `resume`.

        Lists of another model, other sessions or other settings raise DataError.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        done = self._finished() if resume and (self.path / JOB_FILE).is_file() else {}
        kept = {self.shard_path(each).name for each in done}
        for pattern in (SUMMARY_FILE, "part-*.parquet", ".*.part"):  # First of all the folder is no longer finished.
            for file in self.path.glob(pattern):
                if file.name not in kept:
                    file.unlink()
        # First what says that the folder is ours: should the disk be full, the next call may still write here.
        atomic_write(self.path / JOB_FILE, json.dumps(self._depends_on, indent=1, ensure_ascii=False) + "\n")
        lines = "".join(json.dumps(asdict(each)) + "\n" for each in done.values())
        atomic_write(self.path / SHARDS_FILE, lines)  # Without half a line at the end, should a kill have left one.
        return done

    def shard_path(self, number: int) -> Path:
        """The file of a shard."""
        return self.path / f"part-{number:05d}.parquet"

    @property
    def grouped_path(self) -> Path:
        """Where a copy of the sessions goes whose rows stood apart, while the job lasts."""
        return self.path / GROUPED_FILE

    def write(self, lists: pl.DataFrame, number: int) -> None:
        """Write a whole shard or nothing."""
        with atomic_file(self.shard_path(number)) as part:
            lists.write_parquet(part)

    def note(self, counts: ShardCounts) -> None:
        """Take note of a shard whose file stands."""
        with (self.path / SHARDS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(counts)) + "\n")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary; from then on the folder is finished."""
        self.grouped_path.unlink(missing_ok=True)
        atomic_write(self.path / SUMMARY_FILE, json.dumps(summary, indent=1) + "\n")

    def _finished(self) -> dict[int, ShardCounts]:
        path = self.path / JOB_FILE
        try:
            other = differences(json.loads(path.read_text(encoding="utf-8")), self._depends_on)
        except ValueError as error:
            raise DataError(f"not the notes of a job ({error}); start over without resume", path=path) from None
        if other:
            raise DataError(
                f"the folder holds lists of another job: {'; '.join(other[:5])}. Choose another folder, or start over "
                "without resume",
                path=path,
            )
        done = {}
        notes = self.path / SHARDS_FILE
        for line in notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else ():
            try:
                counts = ShardCounts(**json.loads(line))
            except (ValueError, TypeError):
                break  # The line that a kill cut short.
            if self.shard_path(counts.shard).is_file():
                done[counts.shard] = counts
        return done

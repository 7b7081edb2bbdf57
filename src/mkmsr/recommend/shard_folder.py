"""Where lists for many sessions go: one Parquet file a stretch of sessions, and notes that let a job go on.

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
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.config import differences
from mkmsr.errors import DataError
from mkmsr.runtime.files import atomic_file, atomic_write

JOB_FILE, SHARDS_FILE, SUMMARY_FILE, GROUPED_FILE = "_job.json", "_shards.jsonl", "_summary.json", "_grouped.parquet"


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

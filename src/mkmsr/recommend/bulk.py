"""Lists for all sessions of a Parquet file, shard by shard, by one process, by several or by Spark, and resumable."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from mkmsr.data.engines import SparkEngine
from mkmsr.errors import BundleError, ConfigError, EvaluationError
from mkmsr.recommend.bulk_files import Counts, SessionFile, ShardCounts, ShardFolder, Stretch
from mkmsr.recommend.filters import NO_FILTERS, Filters, Values, read_facts
from mkmsr.recommend.recommender import Recommender
from mkmsr.recommend.sessions import EventColumns, SessionEncoder
from mkmsr.runtime.compute import keep_freed_memory, torch_threads
from mkmsr.runtime.environment import peak_mib
from mkmsr.runtime.events import Listener, RankingDone, ignore
from mkmsr.runtime.files import Scratch, locked, scratch_folder, sha256
from mkmsr.runtime.workers import Line, Task, run_tasks

FORMAT_VERSION = 1

_STRETCHES_A_CORE = 4
"""Stretches in one job of Spark: when they are done they are noted, and a later call goes on behind them."""

_GOES_ON = "the files that are finished stay, and resume goes on from there"


@dataclass(frozen=True)
class BulkJob:
    """Which lists to make.

    A shard of `shard_sessions` sessions is a file of the output, and a piece of work of a process. `facts` are as
    `Recommender.set_facts` takes them; `operation` is what the next event is to have, None for any.
    """

    bundle: Path
    sessions: SessionFile
    out: Path
    k: int = 20
    filters: Filters = NO_FILTERS
    facts: Mapping[str, Mapping[str, Values]] | None = None
    operation: str | None = None
    shard_sessions: int = 20_000
    device: str = "cpu"

    def depends_on(self) -> dict[str, Any]:
        """Return what the lists depend on, as JSON values."""
        filters = self.filters
        conditions = [
            [each.relation, each.kind, sorted(each.values), str(each.low), str(each.high)] for each in filters.where
        ]
        return {
            "format_version": FORMAT_VERSION,
            "bundle": sha256(self.bundle / "bundle.json"),
            "sessions": {"columns": dict(self.sessions.columns), "sha256": self.sessions.checksum()},
            "k": self.k,
            "exclude": sorted(filters.exclude),
            "exclude_session": filters.exclude_session or None,
            "exclude_operations": sorted(filters.exclude_operations) or None,
            "only": None if filters.only is None else sorted(filters.only),
            "where": conditions,
            "at_most": dict(filters.at_most),
            "facts": None if self.facts is None else _digest(self.facts),
            "operation": self.operation,
            "shard_sessions": self.shard_sessions,
        }


@dataclass(frozen=True, kw_only=True)
class BulkResult(Counts):
    """What a job came to; the inherited counts are those of the whole output folder.

    Of its shards, which are files, an earlier call had finished `done_before`. Seconds and sessions a second are of
    this call, the start of processes included; `peak_mib` is of the largest process, None where the system does not
    tell.
    """

    shards: int
    done_before: int
    seconds: float
    sessions_per_second: float
    peak_mib: float | None
    workers: int


def recommend_in_bulk(
    job: BulkJob,
    *,
    workers: int = 1,
    spark_master: str | None = None,
    resume: bool = False,
    listener: Listener = ignore,
) -> BulkResult:
    """Make the lists of a job and write them to its folder, one file after the other.

    Files do not depend on the number of processes, nor on kills in between.

    With `spark_master`, the address of a Spark cluster, that does the work. With `resume` files of an earlier call
    stay; otherwise the folder's lists are replaced. The listener is told `RankingDone`, in sessions.

    Raises:
        BundleError: The bundle is incomplete, altered or of another format.
        ConfigError: A filter or a setting is wrong, or several processes are to share a device.
        DataError: The sessions cannot be read, or the folder holds lists of another job.
        EvaluationError: The model gave scores that are not numbers, or a process failed.
    """
    if workers > 1 and job.device != "cpu":
        raise ConfigError(f"processes share the cores of a processor, not the device {job.device!r}", key="workers")
    if spark_master is not None and (workers > 1 or job.device != "cpu"):
        raise ConfigError("on Spark the cluster says how many processes work, on processors", key="workers")
    began = time.perf_counter()
    job.sessions.check()
    with torch_threads(1):  # As in the other processes: sums are bit for bit the same only with as many threads.
        ranking = _Ranking(job)  # What is wrong with sessions, bundle or filters shows before older lists are replaced.
    with locked(job.out):
        folder = ShardFolder(job.out, job.depends_on())
        done = folder.begin(resume=resume)
        source = job.sessions.grouped(folder.grouped_path)
        stretches = source.stretches(job.shard_sessions)
        left = [each for each in stretches if each.number not in done]
        total, before = sum(each.sessions for each in stretches), sum(each.sessions for each in done.values())
        progress = _Progress(before, total, listener)
        peaks: list[float | None] = []
        processes = min(workers, len(left))
        if spark_master is not None:
            finished = _on_spark(job, ranking.bundle, source, left, spark_master)
        elif processes > 1:
            bundle = ranking.bundle
            del ranking  # Each process has its own.
            finished = _in_processes(job, bundle, source, left, processes, progress, peaks)
        else:
            finished = _here(ranking, source, left, progress, peaks)
        for counts in finished:
            folder.note(counts)
            done[counts.shard] = counts
            progress.settle(sum(each.sessions for each in done.values()))
        seconds = time.perf_counter() - began
        sums = {each.name: sum(getattr(one, each.name) for one in done.values()) for each in fields(Counts)}
        result = BulkResult(
            **sums,
            shards=len(done),
            done_before=len(done) - len(left),
            seconds=seconds,
            sessions_per_second=(total - before) / seconds,
            peak_mib=max((each for each in peaks if each is not None), default=peak_mib()),
            workers=max(processes, 1),
        )
        folder.finish(sums)
        return result


class _Progress:
    """How many sessions are done: exactly after each shard, about in between."""

    def __init__(self, done: int, total: int, listener: Listener):
        self._done, self._total, self._listener = done, total, listener
        self.settle(done)

    def add(self, sessions: int) -> None:
        self.settle(self._done + sessions)

    def settle(self, done: int) -> None:
        self._done = done
        self._listener(RankingDone(min(done, self._total), self._total))


class _Ranking:
    """A process's model and what it ranks with, loaded once; `bundle` says which, by its SHA-256."""

    loaded: ClassVar[tuple[BulkJob, _Ranking] | None] = None
    """That of a worker of Spark, and the job that it is for."""

    def __init__(self, job: BulkJob):
        keep_freed_memory()
        recommender = Recommender.load(job.bundle, device=job.device)
        self.bundle = str(recommender.bundle.metadata["sha256"])
        recommender.set_facts(job.facts or {})
        self._ranker = recommender.ranker(job.k, filters=job.filters, operation=job.operation)
        self._encoder = SessionEncoder(recommender.bundle)
        self._item_ids = pl.Series(recommender.bundle.items.ids, dtype=pl.String)
        self._folder = ShardFolder(job.out, {})

    def carry_out(self, source: SessionFile, stretch: Stretch, listener: Callable[[int], None]) -> ShardCounts:
        """Write the lists of a stretch, and return what they hold."""
        events = source.read(stretch)
        ids = events.filter(pl.col("run").is_first_distinct())["session"]
        columns = EventColumns(events["run"].to_list(), events["item"].to_list(), events["operation"].to_list())
        sessions = self._encoder.encode_columns(len(ids), columns)
        items_SK, scores_SK = self._ranker.rank(sessions, listener)
        owner, place = np.nonzero(items_SK)
        lists = pl.DataFrame(
            {
                "session": ids.gather(owner),
                "rank": pl.Series(place + 1, dtype=pl.Int32),
                "item": self._item_ids.gather(items_SK[owner, place] - 1),
                "score": pl.Series(scores_SK[owner, place], dtype=pl.Float32),
            }
        )
        self._folder.write(lists, stretch.number)
        return ShardCounts(
            shard=stretch.number,
            sessions=len(ids),
            events=stretch.end - stretch.begin,
            rows=lists.height,
            skipped=int(sessions.skipped.sum()),
            replaced=int(sessions.replaced.sum()),
            by_popularity=int(sessions.is_empty.sum()),
        )


def _here(
    ranking: _Ranking, source: SessionFile, stretches: Sequence[Stretch], progress: _Progress, peaks: list[float | None]
) -> Iterator[ShardCounts]:
    if not stretches:
        return
    with torch_threads(1):
        for stretch in stretches:
            yield ranking.carry_out(source, stretch, progress.add)
    peaks.append(peak_mib())


def _in_processes(
    job: BulkJob,
    bundle: str,
    source: SessionFile,
    stretches: Sequence[Stretch],
    workers: int,
    progress: _Progress,
    peaks: list[float | None],
) -> Iterator[ShardCounts]:
    """Counts of the shards in the order in which processes finish them; each asks for the next when it is free."""
    waiting = iter(stretches)
    with scratch_folder() as logs:
        tasks = [
            Task(f"process {number}", _work, (job, bundle, source), logs / f"{number}.log") for number in range(workers)
        ]
        for event in run_tasks(tasks, workers=workers):
            if event.kind == "failed":
                raise EvaluationError(f"a process that ranked sessions failed: {event.content}; {_GOES_ON}")
            if event.kind == "asked":
                event.answer(next(waiting, None))
            elif event.kind == "done":
                peaks.append(event.content)
            elif event.kind == "sent" and isinstance(event.content, ShardCounts):
                yield event.content
            elif event.kind == "sent":
                progress.add(event.content)


def _on_spark(
    job: BulkJob, bundle: str, source: SessionFile, stretches: Sequence[Stretch], master: str
) -> Iterator[ShardCounts]:
    """Counts of the shards that a Spark cluster makes.

    Sessions and lists are on a file system that all workers see, so that no event passes through Spark; the bundle is
    shipped once to each worker.
    """
    job = replace(job, bundle=job.bundle.resolve(), out=job.out.resolve())
    rank = partial(_on_worker, job, bundle, replace(source, path=source.path.resolve()))
    engine = SparkEngine(master=master, memory=None, scratch=Scratch())
    with engine:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        context = engine.session.sparkContext
        context.addFile(str(job.bundle), recursive=True)
        wave = _STRETCHES_A_CORE * context.defaultParallelism
        for first in range(0, len(stretches), wave):
            part = stretches[first : first + wave]
            try:
                yield from context.parallelize(part, len(part)).map(rank).collect()
            except (Py4JError, PySparkException) as error:
                line = next((each for each in str(error).splitlines() if "mkmsr.errors" in each), str(error)[:200])
                raise EvaluationError(f"Spark could not rank sessions: {line.strip()}; {_GOES_ON}") from None


def _on_worker(job: BulkJob, bundle: str, source: SessionFile, stretch: Stretch) -> ShardCounts:
    """What a worker of Spark does with a stretch; its model stays loaded for the next one."""
    from pyspark import SparkFiles

    shipped = replace(job, bundle=Path(SparkFiles.get(job.bundle.name)))
    with torch_threads(1):
        if _Ranking.loaded is None or _Ranking.loaded[0] != shipped:
            _Ranking.loaded = shipped, _same(shipped, bundle)
        return _Ranking.loaded[1].carry_out(source, stretch, lambda sessions: None)


def _same(job: BulkJob, bundle: str) -> _Ranking:
    """What ranks on another process, which must be the same bundle."""
    ranking = _Ranking(job)
    if ranking.bundle != bundle:
        raise BundleError("replaced by another bundle since the job began; begin again", path=job.bundle)
    return ranking


def _work(line: Line, job: BulkJob, bundle: str, source: SessionFile) -> float | None:
    """What a process does: shard after shard until there is none; the peak of its memory."""
    ranking = _same(job, bundle)
    while (stretch := line.ask("the next shard")) is not None:
        line.send(ranking.carry_out(source, stretch, line.send))
    return peak_mib()


def _digest(facts: Mapping[str, Mapping[str, Values]]) -> str:
    return hashlib.sha256(json.dumps(read_facts(facts), sort_keys=True).encode()).hexdigest()

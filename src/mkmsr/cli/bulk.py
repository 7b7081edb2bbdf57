"""`mkmsr recommend --sessions`: lists for all sessions of a Parquet file, into a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import Terminal, WrongCall, counted, output_folder
from mkmsr.cli.progress import duration, progress_bars
from mkmsr.cli.reading import named_columns

if TYPE_CHECKING:
    from mkmsr.recommend import Filters
    from mkmsr.recommend.facts import Values

__all__ = ["BULK", "Bulk", "recommend_file"]

_GROUP = Group("Many sessions", sort_key=40)


@Parameter(name="*")
@dataclass(frozen=True)
class Bulk:
    """Lists for all sessions of a file.

    Args:
        sessions: Parquet file, or folder of them, one row an event: columns session, item, and perhaps operation and
            time (also session_id, item_id, as in events.parquet). Each stands by itself: visitors' earlier sessions are
            not looked for.
        out: Folder for the lists: Parquet files with the columns session, rank, item, score.
        columns: What the file calls its fields: session=sid,item=sku,operation=type,time=ts
        workers: Processes of one thread that share the work.
        shard_sessions: Sessions a file of the output.
        resume: Keep the files that an earlier call finished, and go on.
    """

    sessions: Annotated[Path | None, Parameter(group=_GROUP)] = None
    out: Annotated[Path | None, Parameter(group=_GROUP)] = None
    columns: Annotated[str, Parameter(group=_GROUP)] = ""
    workers: Annotated[int, Parameter(group=_GROUP, validator=Number(gte=1))] = 1
    shard_sessions: Annotated[int, Parameter(group=_GROUP, validator=Number(gte=1))] = 20_000
    resume: Annotated[bool, Parameter(group=_GROUP, negative=())] = False


BULK = Bulk()
"""The flags as they are when none is given."""


def recommend_file(
    screen: Terminal,
    bundle: Path,
    bulk: Bulk,
    *,
    k: int,
    filters: Filters,
    facts: Mapping[str, Mapping[str, Values]] | None,
    operation: str | None,
    device: str,
) -> None:
    """Make the lists, with progress on standard error, and say what they hold.

    Raises:
        WrongCall: There is no output folder.
    """
    if bulk.sessions is None or bulk.out is None:
        raise WrongCall("lists for a file of sessions need a folder: --sessions FILE --out FOLDER")
    from mkmsr.recommend.bulk import BulkJob, recommend_in_bulk
    from mkmsr.recommend.session_file import FIELDS, find_columns
    from mkmsr.recommend.shard_folder import JOB_FILE

    job = BulkJob(
        bundle=bundle,
        sessions=find_columns(bulk.sessions, named_columns("--columns", bulk.columns, tuple(FIELDS))),
        out=bulk.out,
        k=k,
        filters=filters,
        facts=facts,
        operation=operation,
        shard_sessions=bulk.shard_sessions,
        device=device,
    )
    with output_folder(bulk.out, JOB_FILE), progress_bars(screen.progress) as listener:
        result = recommend_in_bulk(job, workers=bulk.workers, resume=bulk.resume, listener=listener)
    screen.document({"out": str(bulk.out), "k": k, **asdict(result)})
    files = counted(result.shards, "file")
    screen.print(f"{counted(result.rows, 'item')} for {counted(result.sessions, 'session')}: {bulk.out} ({files})")
    if result.done_before:
        screen.print(f"finished before: {counted(result.done_before, 'file')}")
    screen.print(
        f"events of unknown items, skipped: {result.skipped:,} of {result.events:,}; unknown operations, replaced: "
        f"{result.replaced:,}; sessions of no known item, which got the most popular ones: {result.by_popularity:,}"
    )
    memory = "" if result.peak_mib is None else f", {result.peak_mib:,.0f} MiB at most in one"
    processes = counted(result.workers, "process", "processes")
    screen.print(f"{duration(result.seconds)} in {processes}: {result.sessions_per_second:,.0f} sessions/s{memory}")

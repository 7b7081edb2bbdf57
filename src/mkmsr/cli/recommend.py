"""`mkmsr recommend`: ranked items for sessions given as JSON lines, or for all sessions of a Parquet file.

The flags of `Filtering` say which items a list may hold.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Container, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import COMMON, Common, Device, WrongCall, counted, output_folder, terminal
from mkmsr.cli.progress import duration, progress_bars
from mkmsr.cli.reading import named_columns
from mkmsr.cli.results import show_recommendations
from mkmsr.errors import DataError
from mkmsr.runtime.files import locked

if TYPE_CHECKING:
    from mkmsr.cli.console import Terminal
    from mkmsr.data.storage import Display
    from mkmsr.recommend import Explanation, Filters, Recommendations, Recommender

_LINES_AT_ONCE = 256
_RIGHT = 'should be {"events": [{"item": .., "operation": ..}, ...]} in one line, perhaps with "earlier" of that form'
_GROUP = Group("Many sessions", sort_key=40)
_FILTERS = Group("Filters", sort_key=50)
_MANY = Parameter(consume_multiple=True, negative=(), group=_FILTERS)


@Parameter(name="*")
@dataclass(frozen=True)
class Filtering:
    """Which items a list may hold.

    Args:
        exclude: Item ids that must not be recommended.
        exclude_session: Leave the items of each session out of its own list.
        exclude_operation: Leave out what the visitor did one of these operations with: order for what was bought.
        only: The only item ids that may appear.
        where: Conditions on attributes and facts: category=shoes,boots brand!=acme price=10..50
        at_most: How many items of a list may share a value: brand=2
        facts: Table (CSV or Parquet) of what the model does not know: a column item, and one for each fact, such as
            price or in_stock.
    """

    exclude: Annotated[tuple[str, ...], _MANY] = ()
    exclude_session: Annotated[bool, Parameter(negative=(), group=_FILTERS)] = False
    exclude_operation: Annotated[tuple[str, ...], _MANY] = ()
    only: Annotated[tuple[str, ...], _MANY] = ()
    where: Annotated[tuple[str, ...], _MANY] = ()
    at_most: Annotated[tuple[str, ...], _MANY] = ()
    facts: Annotated[Path | None, Parameter(group=_FILTERS)] = None

    def filters(self) -> Filters:
        """Return the same for the library; a flag of another form is a `WrongCall` or a `ConfigError`."""
        from mkmsr.recommend import Filters, parse_condition

        return Filters(
            exclude=self.exclude,
            exclude_session=self.exclude_session,
            exclude_operations=self.exclude_operation,
            only=self.only or None,
            where=[parse_condition(each) for each in self.where],
            at_most=dict(_cap(each) for each in self.at_most),
        )

    def unknown_ids(self, known: Container[str]) -> Iterator[str]:
        """Say, for each flag, which of its ids the catalogue lacks."""
        for flag, ids in (("--only", self.only), ("--exclude", self.exclude)):
            if unknown := [each for each in ids if each not in known]:
                yield f"{flag}: no such {'item' if len(unknown) == 1 else 'items'}: {', '.join(map(repr, unknown))}"


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
        engine: processes of this machine, or spark: then --sessions and --out are on a file system of all its workers.
        spark_master: Address of a Spark cluster, like spark://host:7077; local[N] is N processes of this machine.
        shard_sessions: Sessions a file of the output.
        resume: Keep the files that an earlier call finished, and go on.
    """

    sessions: Annotated[Path | None, Parameter(group=_GROUP)] = None
    out: Annotated[Path | None, Parameter(group=_GROUP)] = None
    columns: Annotated[str, Parameter(group=_GROUP)] = ""
    workers: Annotated[int, Parameter(group=_GROUP, validator=Number(gte=1))] = 1
    engine: Annotated[Literal["processes", "spark"], Parameter(group=_GROUP)] = "processes"
    spark_master: Annotated[str, Parameter(group=_GROUP)] = "local[*]"
    shard_sessions: Annotated[int, Parameter(group=_GROUP, validator=Number(gte=1))] = 20_000
    resume: Annotated[bool, Parameter(group=_GROUP, negative=())] = False


def recommend(
    bundle: Path,
    /,
    *,
    session: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    k: Annotated[int, Parameter(name=["-k", "--k"], validator=Number(gte=1))] = 20,
    filtering: Filtering = Filtering(),
    bulk: Bulk = Bulk(),
    operation: str | None = None,
    explain: Annotated[bool, Parameter(negative=())] = False,
    device: Device = "cpu",
    common: Common = COMMON,
) -> None:
    """Rank the items most likely to come next, for sessions given as JSON lines or for all sessions of a Parquet file.

    A line is {"events": [{"item": "..", "operation": ".."}, ...]}, oldest event first; "earlier" beside it may hold the
    events of the visitor's earlier sessions, and "exclude" items to be left out. Unknown items are skipped and counted.
    With --json there is one line of output a session; with --sessions one of totals.

    Args:
        bundle: A saved model, for example runs/shop/bundle.
        session: File of JSON lines, or - for standard input. Either this or --sessions.
        k: Items a session.
        operation: Operation that the next event is to have, as in "what will be ordered next"; for a model trained with
            model.target_operation=true.
        explain: Say why, for each item (compass): in a sentence, with --json also in numbers.
    """
    if (session is None) == (bulk.sessions is None):
        raise WrongCall("give the sessions once: --session FILE (JSON lines, or -) or --sessions FILE (Parquet)")
    with terminal(common) as out:
        filters = filtering.filters()
        facts = None if filtering.facts is None else read_facts(filtering.facts)
        if session is None:
            if explain:
                raise WrongCall("--explain explains sessions given with --session; ask for some of them there")
            asked = {"k": k, "filters": filters, "facts": facts, "operation": operation, "device": device}
            _recommend_file(out, bundle, bulk, **asked)
            return
        if bulk != Bulk():
            raise WrongCall("--out, --columns, --workers, --engine, --shard-sessions and --resume belong to --sessions")
        from mkmsr.recommend import Recommender

        recommender = Recommender.load(bundle, device=device)
        if explain:
            recommender.check_explains()
        for remark in filtering.unknown_ids(recommender.bundle.items):
            out.note(remark)
        if strangers := recommender.set_facts(facts or {}):
            lacking = "1 of its items is" if len(strangers) == 1 else f"{len(strangers):,} of its items are"
            out.note(f"{filtering.facts}: {lacking} not in the catalogue, the first is {strangers[0]!r}")
        _recommend_lines(out, recommender, session, filters, k=k, operation=operation, explain=explain)


def export(
    bundle: Path,
    /,
    *,
    out: Path,
    format_: Annotated[Literal["onnx"], Parameter(name="--format")] = "onnx",
    common: Common = COMMON,
) -> None:
    """Write a saved model as a graph for runtimes without Python.

    Inputs of the graph are items and operations of sessions, as indexes from 1 into the bundle's items.parquet and
    operations.json, padded with 0 at the end; for COMPASS also the votes of neighbours. Output: a score for each item.

    Args:
        bundle: A saved model: mkm-sr, m-sr, km-sr or compass.
        out: The file to write.
        format_: Kind of graph.
    """
    with terminal(common) as screen, locked(out):
        from mkmsr.bundle.model_bundle import load_bundle
        from mkmsr.bundle.onnx_graph import export_onnx

        loaded = load_bundle(bundle)
        export_onnx(loaded, out)
        size = out.stat().st_size
        screen.document({"out": str(out), "format": format_, "model": loaded.name, "bytes": size})
        screen.print(f"{loaded.name} as an ONNX graph of {size / 2**20:,.1f} MiB: {out}")


def _recommend_file(screen: Terminal, bundle: Path, bulk: Bulk, **asked: Any) -> None:
    """Make the lists, with progress on standard error, and say what they hold."""
    if bulk.sessions is None or bulk.out is None:
        raise WrongCall("lists for a file of sessions need a folder: --sessions FILE --out FOLDER")
    from mkmsr.recommend.bulk import BulkJob, recommend_in_bulk
    from mkmsr.recommend.bulk_files import FIELDS, JOB_FILE, find_columns

    sessions = find_columns(bulk.sessions, named_columns("--columns", bulk.columns, tuple(FIELDS)))
    job = BulkJob(bundle=bundle, sessions=sessions, out=bulk.out, shard_sessions=bulk.shard_sessions, **asked)
    with output_folder(bulk.out, JOB_FILE), progress_bars(screen.progress) as listener:
        master = bulk.spark_master if bulk.engine == "spark" else None
        result = recommend_in_bulk(
            job, workers=bulk.workers, spark_master=master, resume=bulk.resume, listener=listener
        )
    screen.document({"out": str(bulk.out), "k": job.k, **asdict(result)})
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


def _recommend_lines(
    out: Terminal,
    recommender: Recommender,
    session: str,
    filters: Filters,
    *,
    k: int,
    operation: str | None,
    explain: bool,
) -> None:
    """Print the items for each line of a file of sessions; why there are none is said once."""
    row, is_explained = 0, False
    every = _lines(session)
    batches = iter(lambda: list(islice(every, _LINES_AT_ONCE)), [])
    for number, lines in enumerate(batches):
        found = recommender.recommend_many(lines, k=k, filters=filters, operation=operation)
        for row, (line, ranked) in enumerate(zip(lines, found, strict=True), start=1 + number * _LINES_AT_ONCE):
            known = explain and ranked.ranked_by == "model"
            listed = [each.item for each in ranked.items]
            reasons = recommender.explain(line, listed, operation=operation) if known else []
            out.document(_as_json(ranked, reasons, recommender.bundle.display))
            if not out.json_mode:
                show_recommendations(out, recommender, line["events"], ranked, title=f"Session {row}")
                for reason in reasons:
                    out.print(reason.sentence)
            if not ranked.items and not is_explained:
                out.note(recommender.why_nothing(filters))
                is_explained = True
    if row == 0:
        out.note(f"no session in {_name(session)}")


def _as_json(ranked: Recommendations, reasons: Sequence[Explanation], display: Display) -> dict[str, Any]:
    items: list[dict[str, Any]] = [asdict(each) for each in ranked.items]
    for item, reason in zip(items, reasons, strict=False):  # no reasons unless asked for
        item["explanation"] = reason.document()
    for item in items:
        if item["item"] in display:
            item["display"] = dict(display[item["item"]])
    return {**vars(ranked), "items": items}


def _lines(session: str) -> Iterator[dict[str, Any]]:
    from mkmsr.recommend.sessions import check_session

    name = _name(session)
    if session != "-" and not Path(session).is_file():
        raise DataError("no such file", path=session)
    with nullcontext(sys.stdin.buffer) if session == "-" else Path(session).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"not JSON: {error}; {_RIGHT}", path=name, row=number) from None
            if not isinstance(value, dict):
                raise DataError(f"{_RIGHT}; found {line.decode(errors='replace').strip():.100}", path=name, row=number)
            try:
                check_session(value)
            except DataError as error:
                raise DataError(f"{_RIGHT}; {error}", path=name, row=number) from None
            yield value


def _name(session: str) -> str:
    return "standard input" if session == "-" else session


def read_facts(path: Path) -> dict[str, dict[str, Sequence[str]]]:
    """Return values by fact and item id; empty cells are no values, and an item may stand in several rows.

    A file that is missing, cannot be read, or lacks the column of items raises DataError.
    """
    import polars as pl

    from mkmsr.data.readers.sources import read_texts

    table = read_texts(path)
    if "item" not in table.columns:
        raise DataError(f"lacks the column 'item'; found {', '.join(table.columns)}", path=path, column="item")
    facts: dict[str, dict[str, Sequence[str]]] = {}
    for name in table.columns:
        if name != "item":
            filled = table.select("item", name).drop_nulls()
            grouped = filled.group_by("item").agg(pl.col(name).unique(maintain_order=True))
            facts[name] = dict(grouped.iter_rows())
    return facts


def _cap(text: str) -> tuple[str, int]:
    relation, _, most = text.rpartition("=")
    if not relation or not re.fullmatch(r"\d{1,9}", most):
        raise WrongCall(f"--at-most: {text!r} should read relation=number, for example brand=2")
    return relation, int(most)

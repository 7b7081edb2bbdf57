"""`mkmsr recommend`: ranked items for sessions given as JSON lines, or for all sessions of a Parquet file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.cli.bulk import BULK, Bulk, recommend_file
from mkmsr.cli.console import COMMON, Common, Device, WrongCall, terminal
from mkmsr.cli.filtering import FILTERING, Filtering, read_facts
from mkmsr.cli.results import show_recommendations
from mkmsr.errors import DataError

if TYPE_CHECKING:
    from mkmsr.cli.console import Terminal
    from mkmsr.data.storage import Display
    from mkmsr.recommend import Explanation, Filters, Recommendations, Recommender

__all__ = ["recommend"]

_LINES_AT_ONCE = 256
_RIGHT = 'should be {"events": [{"item": .., "operation": ..}, ...]} in one line, perhaps with "earlier" of that form'


def recommend(
    bundle: Path,
    /,
    *,
    session: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    k: Annotated[int, Parameter(name=["-k", "--k"], validator=Number(gte=1))] = 20,
    filtering: Filtering = FILTERING,
    bulk: Bulk = BULK,
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
        device: Where the model computes: cpu, cuda.
    """
    if (session is None) == (bulk.sessions is None):
        raise WrongCall("give the sessions once: --session FILE (JSON lines, or -) or --sessions FILE (Parquet)")
    with terminal(common) as out:
        filters = filtering.filters()
        facts = None if filtering.facts is None else read_facts(filtering.facts)
        if session is None:
            if explain:
                raise WrongCall("--explain explains sessions given with --session; ask for some of them there")
            recommend_file(out, bundle, bulk, k=k, filters=filters, facts=facts, operation=operation, device=device)
            return
        if bulk != BULK:
            raise WrongCall("--out, --columns, --workers, --shard-sessions and --resume belong to --sessions")
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
    for number, lines in enumerate(_batches(session)):
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
    items: list[dict[str, Any]] = [{"item": each.item, "score": each.score, "rank": each.rank} for each in ranked.items]
    for item, reason in zip(items, reasons, strict=False):  # no reasons unless asked for
        item["explanation"] = reason.document()
    for item in items:
        if item["item"] in display:
            item["display"] = dict(display[item["item"]])
    return {
        "items": items,
        "skipped": ranked.skipped,
        "replaced": ranked.replaced,
        "ranked_by": ranked.ranked_by,
    }


def _batches(session: str) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for line in _lines(session):
        batch.append(line)
        if len(batch) == _LINES_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


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

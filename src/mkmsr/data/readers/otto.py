"""OTTO's shop log as given out for its 2022 competition: JSON lines, one session a line.

{"session": 0, "events": [{"aid": 1517085, "ts": 1659304800025, "type": "clicks"}, ...]}

Sessions are the log's own; they hold all that a visitor did in the weeks of the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from mkmsr.data.readers.malformed import EXAMPLES, ROW, BadRow, report
from mkmsr.data.readers.public import SECOND, Intake, PublicDataset, PublicFile, event_row
from mkmsr.data.readers.raw_bytes import pieces
from mkmsr.errors import DataError

EVENT = pl.Struct({"aid": pl.Int64(), "ts": pl.Int64(), "type": pl.String()})
SCHEMA = {"session": pl.Int64(), "events": pl.List(EVENT)}
RIGHT = '{"session": 0, "events": [{"aid": 1517085, "ts": 1659304800025, "type": "clicks"}, ...]}'

BATCH = 32 << 20
"""Bytes of whole lines that are parsed at once."""


def _events(intake: Intake) -> pl.LazyFrame:
    """The events in a .jsonl file (also .gz), or in a folder that holds one."""
    source = intake.source
    path = intake.find("otto-recsys-train.jsonl", "train.jsonl") if source.is_dir() else source
    parts, bad, lines, events = [], list[BadRow](), 0, 0
    for batch in _batches(path):
        good = []
        for number, found in _sessions(batch, lines + 1):
            if isinstance(found, bytes):
                bad.append(BadRow(number, None, f"should be like {RIGHT}, found {found[:60]!r}"))
            else:
                good.append(found)
        rows = _rows(pl.concat(good or [pl.DataFrame(schema=SCHEMA)]), events)
        events += rows.height
        lines += len(batch)
        parts.append(intake.store(rows.lazy(), size=path.stat().st_size))
    if not lines:
        raise DataError("the file is empty", path=path)
    if bad:
        report(path, bad[:EXAMPLES], intake.options, intake.notes, bad=len(bad), total=lines)
    intake.take_note(path)
    return pl.concat(parts)


def _batches(path: Path) -> Iterator[list[bytes]]:
    """The lines of a file, some megabytes at a time."""
    left = b""
    for piece in pieces(path, size=BATCH):
        *whole, left = (left + piece).split(b"\n")
        if whole:
            yield whole
    if left:
        yield [left]


def _sessions(lines: Sequence[bytes], number: int) -> Iterator[tuple[int, pl.DataFrame | bytes]]:
    """The sessions in lines of which the first has this number, and each malformed line, found by halving."""
    found = _parsed(lines)
    if found is not None:
        yield number, found
    elif len(lines) == 1:
        yield number, lines[0]
    else:
        half = len(lines) // 2
        yield from _sessions(lines[:half], number)
        yield from _sessions(lines[half:], number + half)


def _parsed(lines: Sequence[bytes]) -> pl.DataFrame | None:
    """The sessions in some lines, blank ones left out; None if a line is malformed."""
    content = b"\n".join(lines)
    if not content.strip():
        return pl.DataFrame(schema=SCHEMA)
    try:
        sessions = pl.read_ndjson(content, schema=SCHEMA)
    except pl.exceptions.PolarsError:
        return None
    events = sessions.select(pl.col("events").explode(empty_as_null=False)).unnest("events")
    nulls = [table.null_count().select(pl.sum_horizontal(pl.all())).item() for table in (sessions, events)]
    known = events["type"].is_in(("clicks", "carts", "orders")).all()
    return sessions if sum(nulls) == 0 and known else None


def _rows(sessions: pl.DataFrame, before: int) -> pl.DataFrame:
    """Canonical events of some sessions; `before` events came earlier."""
    events = sessions.explode("events", empty_as_null=False).unnest("events")
    micros = pl.col("ts") * 1000
    return events.with_columns((pl.int_range(pl.len(), dtype=pl.Int64) + before).alias(ROW)).select(
        session_id=pl.col("session").cast(pl.String),
        item_id=pl.col("aid").cast(pl.String),
        operation="type",
        time=micros // SECOND,
        row=event_row(micros=micros),
    )


DATASET = PublicDataset(
    name="otto",
    title="clicks, carts and orders in OTTO's shop, August 2022 (216,716,096 events)",
    owner="OTTO, on GitHub and Kaggle",
    page="https://github.com/otto-de/recsys-dataset",
    terms="CC BY 4.0",
    files=(
        PublicFile(
            "otto-recsys-train.jsonl", "session,events", "", header=False, bytes=11_307_535_945, rows=12_899_779
        ),
    ),
    events=_events,
)

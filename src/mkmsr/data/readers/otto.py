"""Reader of OTTO's shop log as given out for its 2022 competition: JSON lines, one session a line.

{"session": 0, "events": [{"aid": 1517085, "ts": 1659304800025, "type": "clicks"}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.intake import Intake
from mkmsr.data.readers.malformed import EXAMPLES, ROW, BadRow
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.parsing import event_row, seconds
from mkmsr.data.readers.public import PublicDataset, PublicFile
from mkmsr.data.readers.raw_bytes import pieces
from mkmsr.data.readers.table import find_file
from mkmsr.errors import DataError

__all__ = ["DATASET"]

KIND = "otto"
OPERATIONS = ("clicks", "carts", "orders")
EVENT = pl.Struct({"aid": pl.Int64(), "ts": pl.Int64(), "type": pl.String()})
SCHEMA = {"session": pl.Int64(), "events": pl.List(EVENT)}

BATCH = 32 << 20
"""Bytes of whole lines that are parsed at once."""


def read_otto(source: Path, options: ReadOptions) -> InteractionLog:
    """The log in a .jsonl file (also .gz), or in a folder with `otto-recsys-train.jsonl` or `train.jsonl`.

    Sessions are the log's own; they hold all that a visitor did in the weeks of the log.

    Raises:
        DataError: The file is missing, or too many lines are malformed.
        ConfigError: An option is none of this reader's.
    """
    intake = Intake(KIND, options)
    path = find_file(source, "otto-recsys-train.jsonl", "train.jsonl") if source.is_dir() else source
    parts, examples, bad, lines, events = [], list[BadRow](), 0, 0, 0
    for batch in _batches(path):
        good = _quick(batch)
        if good is None:
            good, found = _careful(batch, lines)
            bad, examples = bad + len(found), (examples + found)[:EXAMPLES]
        rows = _rows(good, events)
        events += rows.height
        lines += len(batch)
        parts.append(intake.store(rows.lazy(), size=path.stat().st_size))
    if not lines:
        raise DataError("the file is empty", path=path)
    if bad:
        intake.malformed.report(path, examples, bad=bad, total=lines)
    intake.source(path)
    return intake.log(pl.concat(parts), column_names={"session_id": "session", "item_id": "aid", "operation": "type"})


def _batches(path: Path) -> Iterator[list[bytes]]:
    """The lines of a file, some megabytes at a time."""
    left = b""
    for piece in pieces(path, size=BATCH):
        *whole, left = (left + piece).split(b"\n")
        if whole:
            yield whole
    if left:
        yield [left]


def _quick(batch: list[bytes]) -> pl.DataFrame | None:
    """The sessions of a batch without a fault; None if something is strange."""
    content = b"\n".join(batch)
    if not content.strip():
        return pl.DataFrame(schema=SCHEMA)
    try:
        sessions = pl.read_ndjson(content, schema=SCHEMA)
    except pl.exceptions.PolarsError:
        return None
    if sessions.null_count().select(pl.sum_horizontal(pl.all())).item():
        return None
    events = sessions.select(pl.col("events").explode(empty_as_null=False)).unnest("events")
    nulls = events.null_count().select(pl.sum_horizontal(pl.all())).item()
    return sessions if nulls == 0 and events["type"].is_in(OPERATIONS).all() else None


def _careful(batch: list[bytes], before: int) -> tuple[pl.DataFrame, list[BadRow]]:
    """The good sessions of a batch, and the bad lines; `before` lines came earlier."""
    good, bad = [], []
    for number, line in enumerate(batch, start=before + 1):
        if not line.strip():
            continue
        fault = _fault(line)
        if fault is None:
            good.append(line)
        else:
            bad.append(BadRow(number, None, fault))
    sessions = pl.read_ndjson(b"\n".join(good), schema=SCHEMA) if good else pl.DataFrame(schema=SCHEMA)
    return sessions, bad


def _fault(line: bytes) -> str | None:
    try:
        session = json.loads(line)
    except UnicodeDecodeError:
        return "not UTF-8 text"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    if not isinstance(session, dict) or not isinstance(session.get("events"), list):
        return 'should be like {"session": 0, "events": [...]}'
    if type(session.get("session")) is not int:
        return f"the session is {session.get('session')!r}, should be a whole number"
    for event in session["events"]:
        if (
            not isinstance(event, dict)
            or type(event.get("aid")) is not int
            or type(event.get("ts")) is not int
            or event.get("type") not in OPERATIONS
        ):
            return f"the event {event!r} should be like {{'aid': 1517085, 'ts': 1659304800025, 'type': 'clicks'}}"
    return None


def _rows(sessions: pl.DataFrame, before: int) -> pl.DataFrame:
    """Canonical events of some sessions; `before` events came earlier."""
    events = sessions.explode("events", empty_as_null=False).unnest("events")
    micros = pl.col("ts") * 1000
    return events.with_columns((pl.int_range(pl.len(), dtype=pl.Int64) + before).alias(ROW)).select(
        session_id=pl.col("session").cast(pl.String),
        item_id=pl.col("aid").cast(pl.String),
        operation="type",
        time=seconds(micros),
        row=event_row(micros=micros),
    )


DATASET = PublicDataset(
    name=KIND,
    read=read_otto,
    title="clicks, carts and orders in OTTO's shop, August 2022 (216,716,096 events)",
    owner="OTTO, on GitHub and Kaggle",
    page="https://github.com/otto-de/recsys-dataset",
    terms="CC BY 4.0",
    files=(
        PublicFile(
            "otto-recsys-train.jsonl", "session,events", "", header=False, bytes=11_307_535_945, rows=12_899_779
        ),
    ),
)

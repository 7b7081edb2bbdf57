"""Writing small raw files, and reading logs back as plain tuples."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

from mkmsr.data.log import InteractionLog

Event = tuple[str, str, str, int | None]
Triple = tuple[str, str, str]


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Writes files by name; those that end in .gz are gzipped."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def events_of(log: InteractionLog, owner: str = "session_id") -> list[Event]:
    """(session or user, item, operation, time) of each event, in the order in which preparation takes them."""
    events = log.events.collect()
    if not log.has_time:
        events = events.with_columns(time=None)
    return [*events.sort("time", "row").select(owner, "item_id", "operation", "time").iter_rows()]


def triples_of(log: InteractionLog) -> list[Triple]:
    """(item, relation, value) of each row of the attribute table, in its order."""
    assert log.attributes is not None
    return [*log.attributes.collect().sort("row").select("item_id", "relation", "value").iter_rows()]

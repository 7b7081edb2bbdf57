"""What each epoch gave: one record an epoch, kept as JSON lines in `history.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from mkmsr.errors import TrainingError
from mkmsr.runtime.events import EpochRecord
from mkmsr.runtime.files import atomic_write

__all__ = ["append_record", "read_history", "write_history"]


def append_record(path: Path, record: EpochRecord) -> None:
    """Add one line to a history file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record.to_json()) + "\n")


def write_history(path: Path, records: Iterable[EpochRecord]) -> None:
    """Write a whole history file, so that it holds exactly these records."""
    atomic_write(path, "".join(json.dumps(each.to_json()) + "\n" for each in records))


def read_history(path: str | Path) -> tuple[EpochRecord, ...]:
    """The records of a history file.

    Raises:
        TrainingError: The file is missing, or a line is not a record.
    """
    path = Path(path)
    if not path.is_file():
        raise TrainingError(f"{path}: no such history file")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            records.append(EpochRecord(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise TrainingError(f"{path}, line {number}: not an epoch's record: {error}") from None
    return tuple(records)

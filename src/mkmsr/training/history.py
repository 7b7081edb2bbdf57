"""What each epoch gave: one record an epoch, kept as JSON lines in `history.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mkmsr.errors import TrainingError
from mkmsr.runtime.files import atomic_write

__all__ = ["EpochRecord", "append_record", "read_history", "write_history"]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Args:
        epoch: From 1.
        phase: "sessions", or "knowledge" for an epoch that saw triples alone (strategy "pretrain").
        train_loss: Mean session loss over the epoch's examples, while the weights moved; None without sessions.
        knowledge_loss: Mean knowledge loss over the epoch's triples, before lambda_1; None without triples.
        validation: Metrics on the validation split after the epoch, 0..1; empty if there was no validation.
        seconds: Wall time of the epoch without its validation.
        examples_per_second: Examples (phase "knowledge": triples) by those seconds.
        learning_rate: Of the epoch's last step.
    """

    epoch: int
    phase: Literal["sessions", "knowledge"]
    train_loss: float | None
    knowledge_loss: float | None
    validation: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    examples_per_second: float = 0.0
    learning_rate: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The record as plain values."""
        return asdict(self)


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

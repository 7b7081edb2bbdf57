"""Sessions as callers write them, in external ids, turned into the indexes that a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.data.batching import EarlierBatch, SessionBatch
from mkmsr.data.earlier_visits import MOST_EARLIER_ITEMS
from mkmsr.errors import ConfigError, DataError
from mkmsr.models.capabilities import answers_wanted

__all__ = [
    "Event",
    "ReadSession",
    "Session",
    "as_batch",
    "default_operation",
    "read_session",
    "wanted_operation",
]

Event: TypeAlias = "str | int | Sequence[str | int | None] | Mapping[str, Any]"
"""An item id; an (item id, operation) pair; or a mapping with "item" and perhaps "operation"."""

Session: TypeAlias = "Sequence[Event] | Mapping[str, Any]"
"""Events, oldest first; or a mapping that holds them under "events", and perhaps those of the visitor's earlier
sessions under "earlier", oldest first too."""


@dataclass(frozen=True)
class ReadSession:
    """A session in indexes.

    Args:
        items: Item indexes, oldest first; empty where no event was of a known item.
        operations: Operation index of each event.
        skipped: Events left out because their item is not in the catalogue.
        replaced: Events whose operation is unknown, and was taken for the most common one.
        earlier: Item and operation index of what the visitor touched in earlier sessions: distinct items, newest first.
    """

    items: list[int]
    operations: list[int]
    skipped: int
    replaced: int
    earlier: tuple[tuple[int, int], ...] = ()


def default_operation(bundle: ModelBundle) -> int:
    """Index of the operation that training saw most often."""
    return int(bundle.operation_counts[1:].argmax()) + 1


def read_session(bundle: ModelBundle, session: Session, name: str) -> ReadSession:
    """A session as indexes: unknown items skipped, unknown operations replaced, the newest events kept.

    Args:
        bundle: The model with its vocabularies.
        session: The session.
        name: What messages call it: "the session" or "session 3".

    Raises:
        DataError: The session or one of its events is of another form.
    """
    items, operations, skipped, replaced = _indexes(bundle, _events(session, name), f"{name}, event")
    newest = bundle.max_session_events - 1
    read = ReadSession(items[-newest:], operations[-newest:], skipped, replaced)
    if not isinstance(session, Mapping) or "earlier" not in session:
        return read
    before = session["earlier"]
    if isinstance(before, str | bytes | Mapping) or not isinstance(before, Sequence):
        raise DataError(f"{name} should have a list of events under 'earlier'; found {before!r:.100}")
    touched, how, _, _ = _indexes(bundle, before, f"{name}, earlier event")
    distinct: dict[int, int] = {}
    for item, operation in zip(reversed(touched), reversed(how), strict=True):
        distinct.setdefault(item, operation)
    return replace(read, earlier=tuple(distinct.items())[:MOST_EARLIER_ITEMS])


def _indexes(bundle: ModelBundle, events: Sequence[Event], where: str) -> tuple[list[int], list[int], int, int]:
    """Items and operations of the events of known items, how many were left out, and how many operations replaced."""
    items, operations, skipped, replaced = [], [], 0, 0
    default = default_operation(bundle)
    for number, event in enumerate(events, start=1):
        item, operation = _item_and_operation(event, f"{where} {number}")
        if item not in bundle.items:
            skipped += 1
            continue
        known = operation is None or operation in bundle.operations
        replaced += not known
        items.append(bundle.items.index(item))
        operations.append(bundle.operations.index(operation) if operation is not None and known else default)
    return items, operations, skipped, replaced


def wanted_operation(bundle: ModelBundle, operation: str | None) -> int | None:
    """Index of the operation that the next event is to have; None for any.

    Raises:
        ConfigError: The model takes none.
        UnknownIdError: There is no such operation.
    """
    if operation is None:
        return None
    if not answers_wanted(bundle.model):
        raise ConfigError(
            f"{bundle.name!r} as trained predicts the next event whatever its operation; train compass with "
            "model.target_operation=true",
            key="operation",
        )
    return bundle.operations.index(operation)


def as_batch(sessions: Sequence[ReadSession], wanted: int | None) -> SessionBatch:
    """What the model reads: sessions, none of them empty, and the operation that is asked for."""
    batch = SessionBatch.from_sequences([(each.items, each.operations) for each in sessions])
    if any(each.earlier for each in sessions):
        batch = replace(batch, earlier=EarlierBatch.from_pairs([each.earlier for each in sessions]))
    return batch if wanted is None else replace(batch, wanted=torch.full((len(batch),), wanted))


def _events(session: Session, name: str) -> Sequence[Event]:
    events: object = session["events"] if isinstance(session, Mapping) and "events" in session else session
    if isinstance(events, str | bytes | Mapping) or not isinstance(events, Sequence):
        raise DataError(f"{name} should be a list of events, or have one under 'events'; found {session!r:.100}")
    return events


def _item_and_operation(event: Event, where: str) -> tuple[str, str | None]:
    item: object = event
    operation: object = None
    if isinstance(event, Mapping):
        item, operation = event.get("item"), event.get("operation")
    elif isinstance(event, list | tuple) and len(event) == 2:
        item, operation = event
    if isinstance(item, bool) or not isinstance(item, str | int):
        raise DataError(
            f"{where} should be an item id, an (item, operation) pair or "
            f'{{"item": ..., "operation": ...}}; found {event!r:.100} (recommend_many takes several sessions)'
        )
    return str(item), None if operation is None else str(operation)

"""Recommender: sessions in external ids go in, ranked item ids come out. What a service or a notebook uses.

Dimension letters: B sessions, V catalogue + 1, K list length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np
import torch
from torch import Tensor

from mkmsr.bundle import ModelBundle, load_bundle
from mkmsr.data.batching import SessionBatch
from mkmsr.errors import ConfigError, DataError, EvaluationError

__all__ = ["Event", "Recommendations", "RecommendedItem", "Recommender", "Session"]

Event: TypeAlias = "str | int | tuple[str | int, str | None] | Mapping[str, Any]"
"""An item id; an (item id, operation) tuple; or a mapping with "item" and perhaps "operation"."""

Session: TypeAlias = "Sequence[Event] | Mapping[str, Any]"
"""Events, oldest first; or a mapping that holds them under "events"."""

Ranking = Literal["model", "popularity"]

_SCORES_AT_ONCE = 16_000_000
_MOST_SESSIONS_AT_ONCE = 256


@dataclass(frozen=True)
class RecommendedItem:
    """One item of a list.

    Args:
        item: External id.
        score: The model's score, higher is likelier; the training share of the item where popularity ranked.
        rank: 1 for the first.
    """

    item: str
    score: float
    rank: int


@dataclass(frozen=True)
class Recommendations:
    """The ranked items for one session, and what was done with its events.

    Args:
        items: Best first.
        skipped: Events left out because their item is not in the catalogue.
        replaced: Events whose operation is unknown, and was taken for the most common one.
        ranked_by: "popularity" where no event was left to go by, else "model".
    """

    items: tuple[RecommendedItem, ...]
    skipped: int = 0
    replaced: int = 0
    ranked_by: Ranking = "model"


class Recommender:
    """Recommendations from a model bundle.

    Policies: an event of an unknown item is skipped and counted. An unknown operation counts as the most common one of
    training, and so does a missing one. Of the events left the newest `max_events` are used. A session of which none
    is left gets the items that training saw most often. Equal scores keep the order of the catalogue.

    Args:
        bundle: The model with its vocabularies.
        device: Where it computes.
    """

    def __init__(self, bundle: ModelBundle, *, device: torch.device | str = "cpu"):
        self.bundle = bundle
        self.device = torch.device(device)
        self.default_operation = int(bundle.operation_counts[1:].argmax()) + 1
        with torch.inference_mode():
            self._score = bundle.model.to(self.device).eval().scorer()

    @classmethod
    def load(cls, path: str | Path, *, device: torch.device | str = "cpu") -> Recommender:
        """The recommender of a saved bundle.

        Raises:
            BundleError: The bundle is incomplete, altered or of another format.
        """
        return cls(load_bundle(path, device=device), device=device)

    @property
    def max_events(self) -> int:
        """How many events of a session the model looks at."""
        return self.bundle.max_session_events - 1

    @overload  # an empty list fits both: it is one session without events
    def recommend(  # type: ignore[overload-overlap]
        self, session: Session, k: int = 20, exclude: Iterable[str] = ()
    ) -> Recommendations: ...
    @overload
    def recommend(
        self, session: Sequence[Session], k: int = 20, exclude: Iterable[str] = ()
    ) -> list[Recommendations]: ...

    def recommend(
        self, session: Session | Sequence[Session], k: int = 20, exclude: Iterable[str] = ()
    ) -> Recommendations | list[Recommendations]:
        """The items most likely to come next, for one session or for each of many.

        Args:
            session: Events, oldest first; or a list of sessions, each a list of events or {"events": [...]}. An event
                is an item id, an (item, operation) tuple, or {"item": ..., "operation": ...}: lists hold events or
                sessions, tuples are events.
            k: How many items; fewer come back where the catalogue holds fewer.
            exclude: Item ids that must not be recommended; unknown ones change nothing.

        Raises:
            ConfigError: k is below 1.
            DataError: A session or an event is of another form.
            EvaluationError: The model gave scores that are not numbers.
        """
        if k < 1:
            raise ConfigError(f"must be at least 1, found {k}", key="k")
        many = _is_many(session)
        sessions = cast(Sequence[Session], session) if many else [cast(Session, session)]
        read = [self._read(each, row) for row, each in enumerate(sessions)]
        excluded = self.bundle.items.indexes(map(str, exclude), missing="zero")
        lists: list[tuple[RecommendedItem, ...]] = [()] * len(read)
        known = [row for row, each in enumerate(read) if each.items]
        for rows in _chunks(known, self._sessions_at_once):
            for row, ranked in zip(rows, self._rank([read[row] for row in rows], k, excluded), strict=True):
                lists[row] = ranked
        if len(known) < len(read):
            popular = self._popular(k, excluded)
            lists = [ranked if each.items else popular for ranked, each in zip(lists, read, strict=True)]
        found = [
            Recommendations(ranked, each.skipped, each.replaced, "model" if each.items else "popularity")
            for ranked, each in zip(lists, read, strict=True)
        ]
        return found if many else found[0]

    def attributes(self, item: str) -> dict[str, list[str]]:
        """What is known about an item: its attribute values by relation name.

        Raises:
            UnknownIdError: The item is not in the catalogue.
        """
        return self.bundle.knowledge.describe_item(self.bundle.items.index(item))

    @property
    def _sessions_at_once(self) -> int:
        return max(1, min(_MOST_SESSIONS_AT_ONCE, _SCORES_AT_ONCE // (len(self.bundle.items) + 1)))

    def _read(self, session: Session, row: int) -> _ReadSession:
        """A session as indexes: unknown items skipped, unknown operations replaced, the newest events kept."""
        items, operations, skipped, replaced = [], [], 0, 0
        for number, event in enumerate(_events(session, row), start=1):
            item, operation = _item_and_operation(event, row, number)
            if item not in self.bundle.items:
                skipped += 1
                continue
            known = operation is None or operation in self.bundle.operations
            replaced += not known
            items.append(self.bundle.items.index(item))
            operations.append(
                self.bundle.operations.index(operation) if operation is not None and known else self.default_operation
            )
        return _ReadSession(items[-self.max_events :], operations[-self.max_events :], skipped, replaced)

    def _rank(
        self, sessions: Sequence[_ReadSession], k: int, excluded: np.typing.NDArray[np.int64]
    ) -> list[tuple[RecommendedItem, ...]]:
        batch = SessionBatch.from_sequences([(each.items, each.operations) for each in sessions]).to(self.device)
        with torch.inference_mode():
            scores_BV = self._score(batch).float()
            if bool(scores_BV.isnan().any()):
                raise EvaluationError(f"the model {self.bundle.name!r} gave scores that are not numbers")
            scores_BV = scores_BV.index_fill(1, torch.from_numpy(excluded).to(self.device), float("-inf"))
            scores_BV[:, 0] = float("-inf")
            order_BK = _top(scores_BV, k).cpu()
            chosen_BK = scores_BV.cpu().gather(1, order_BK)
        return [self._named(*row) for row in zip(order_BK.tolist(), chosen_BK.tolist(), strict=True)]

    def _popular(self, k: int, excluded: np.typing.NDArray[np.int64]) -> tuple[RecommendedItem, ...]:
        counts = self.bundle.item_counts.astype(np.float64)
        shares = counts / max(counts.sum(), 1.0)
        shares[excluded] = -np.inf
        shares[0] = -np.inf
        order = np.argsort(-shares, kind="stable")[:k]
        return self._named(order.tolist(), shares[order].tolist())

    def _named(self, indexes: Sequence[int], scores: Sequence[float]) -> tuple[RecommendedItem, ...]:
        """Indexes as ids; what is at -inf is padding or excluded."""
        pairs = [(index, score) for index, score in zip(indexes, scores, strict=True) if score != float("-inf")]
        return tuple(
            RecommendedItem(self.bundle.items.id(index), score, rank) for rank, (index, score) in enumerate(pairs, 1)
        )


@dataclass(frozen=True)
class _ReadSession:
    items: list[int]
    operations: list[int]
    skipped: int
    replaced: int


def _is_many(session: object) -> bool:
    """Whether this is a list of sessions: its first entry is a list, or a mapping that holds events."""
    if not isinstance(session, Sequence) or isinstance(session, str) or not session:
        return False
    first = session[0]
    return isinstance(first, list) or (isinstance(first, Mapping) and "events" in first)


def _events(session: Session, row: int) -> Sequence[Event]:
    events: object = session["events"] if isinstance(session, Mapping) and "events" in session else session
    if isinstance(events, str | bytes | Mapping) or not isinstance(events, Sequence):
        raise DataError(f"session {row} should be a list of events, or have one under 'events'; found {session!r:.100}")
    return events


def _item_and_operation(event: Event, row: int, number: int) -> tuple[str, str | None]:
    item: object = event
    operation: object = None
    if isinstance(event, Mapping):
        item, operation = event.get("item"), event.get("operation")
    elif isinstance(event, tuple) and len(event) == 2:
        item, operation = event
    if isinstance(item, bool) or not isinstance(item, str | int):
        raise DataError(
            f"session {row}, event {number} should be an item id, an (item, operation) tuple or "
            f'{{"item": ..., "operation": ...}}; found {event!r:.100}'
        )
    return str(item), None if operation is None else str(operation)


def _chunks(rows: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (rows[begin : begin + size] for begin in range(0, len(rows), size))


def _top(scores_BV: Tensor, k: int) -> Tensor:
    """Columns of the k best scores of each row, best first, equal scores in the order of columns. Shape [B, K].

    `torch.topk` leaves the order of equal scores open, so a row whose k-th score occurs again is cut by hand.
    """
    k = min(k, scores_BV.shape[1])
    values_BK, columns_BK = scores_BV.topk(k)
    columns_BK = columns_BK.sort(dim=1).values
    tied = (scores_BV >= values_BK[:, -1:]).sum(dim=1) > k
    for row in tied.nonzero().flatten().tolist():
        threshold = values_BK[row, -1]
        above = (scores_BV[row] > threshold).nonzero().flatten()
        level = (scores_BV[row] == threshold).nonzero().flatten()[: k - len(above)]
        columns_BK[row] = torch.cat([above, level]).sort().values
    order = scores_BV.gather(1, columns_BK).argsort(dim=1, descending=True, stable=True)
    return columns_BK.gather(1, order)

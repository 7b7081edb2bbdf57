"""Recommender: sessions in external ids go in, ranked item ids come out. What a service or a notebook uses.

Dimension letters: S sessions, K list length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mkmsr.bundle.model_bundle import ModelBundle, load_bundle, save_bundle
from mkmsr.errors import DataError, shown
from mkmsr.layers.fast.shortlist import ItemCodes, Shortlist
from mkmsr.models.base import Scorer, SessionModel, ShortScorer
from mkmsr.models.capabilities import makes_shortlists
from mkmsr.recommend.explanation import Explanation, check_explains, explain
from mkmsr.recommend.filters import (
    NO_FILTERS,
    Facts,
    Filters,
    Values,
    allowed_items,
    item_ids,
    positive_integer,
    read_facts,
    why_nothing,
)
from mkmsr.recommend.live_catalogue import Attributes, CatalogueChange, with_items, with_retired, without_retired
from mkmsr.recommend.ranker import Ranker, wanted_operation
from mkmsr.recommend.sessions import Session, SessionEncoder
from mkmsr.runtime.compute import torch_threads

if TYPE_CHECKING:
    import polars as pl

Ranking = Literal["model", "popularity"]
_Serving: TypeAlias = tuple[ModelBundle, Scorer, ShortScorer | None]


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

    def to_frame(self) -> pl.DataFrame:
        """Return the list as a frame of `rank`, `item` and `score`."""
        import polars as pl

        rows = [(each.rank, each.item, each.score) for each in self.items]
        return pl.DataFrame(rows, {"rank": pl.Int64(), "item": pl.String(), "score": pl.Float64()}, orient="row")


class Recommender:
    """Recommendations from a model bundle.

    Policies: an event of an unknown item is skipped and counted. An unknown operation counts as the most common one of
    training, and so does a missing one. Of the events left the newest `max_events` are used. A session with no
    known items gets the items that training saw most often. Equal scores keep the order of the catalogue.

    Threads may share one: a call sees the catalogue before a change or after it, and changes follow one another.

    Args:
        bundle: The model with its vocabularies.
        device: Where it computes.
        threads: Processor threads of PyTorch for a list; more gain little with sessions one by one.
        compiled: Whether Numba's loops score on a processor, where it is installed; its compiler may take seconds once.
    """

    def __init__(
        self, bundle: ModelBundle, *, device: torch.device | str = "cpu", threads: int = 1, compiled: bool = False
    ):
        self.device, self.threads, self._compiled = torch.device(device), threads, compiled
        self._serving: _Serving
        self._proposals = 0
        self._codes: ItemCodes | None = None
        self._facts: Facts = {}
        # Conditions are looked up in the whole catalogue, and most calls have those of the call before.
        self._last_ranker: tuple[_Serving | None, Facts, tuple[int, Filters, str | None], Ranker | None]
        self._last_ranker = None, {}, (0, NO_FILTERS, None), None
        self._changing = Lock()
        self._use(bundle)

    @classmethod
    def load(
        cls, path: str | Path, *, device: torch.device | str = "cpu", share: Path | None = None, compiled: bool = False
    ) -> Recommender:
        """The recommender of a saved bundle; `share` as in `load_bundle`, the rest as in the constructor.

        Raises:
            BundleError: The bundle is incomplete, altered or of another format.
        """
        return cls(load_bundle(path, device=device, share=share), device=device, compiled=compiled)

    @property
    def bundle(self) -> ModelBundle:
        """The model with its vocabularies, as the catalogue is now."""
        return self._serving[0]

    @property
    def max_events(self) -> int:
        """How many events of a session the model looks at."""
        return self.bundle.max_session_events - 1

    def recommend(
        self,
        session: Session,
        k: int = 20,
        exclude: Iterable[str] = (),
        *,
        exclude_session: bool = False,
        filters: Filters = NO_FILTERS,
        operation: str | None = None,
    ) -> Recommendations:
        """Return the items most likely to come next in one session.

        Args:
            session: Events, oldest first; or {"events": [...]}, perhaps with the events of the visitor's earlier
                sessions under "earlier" and ids that must not be recommended under "exclude". An event is an item id,
                an (item, operation) pair, or {"item": ..., "operation": ...}; a pair may be a list, as JSON writes it.
            k: How many items; fewer come back where fewer are left.
            exclude: Item ids that must not be recommended; unknown ones change nothing.
            exclude_session: Whether to leave out the items of the session.
            filters: What else the list may hold.
            operation: Operation that the next event is to have, as in "what will be ordered next"; None is any.

        Raises:
            ConfigError: k is no whole number from 1 on, `exclude` is no list of ids, a filter names what is not known,
                or the model takes no wanted operation.
            UnknownIdError: There is no such operation.
            DataError: The session or an event is of another form.
            EvaluationError: The model gave scores that are not numbers.
        """
        sessions = {"the session": session}
        return self._lists(sessions, k, item_ids(exclude, "exclude"), _filters(filters, exclude_session), operation)[0]

    def recommend_many(
        self,
        sessions: Iterable[Session],
        k: int = 20,
        exclude: Iterable[str] = (),
        *,
        exclude_session: bool = False,
        filters: Filters = NO_FILTERS,
        operation: str | None = None,
    ) -> list[Recommendations]:
        """Return what `recommend` returns, for each of many sessions at once.

        Args:
            sessions: Sessions, each as `recommend` takes it.
            k: How many items a session.
            exclude: Item ids that must not be recommended to any of them.
            exclude_session: Whether to leave out the items of each session from its own list.
            filters: What else the lists may hold.
            operation: Operation that the next events are to have.

        Raises:
            DataError: `sessions` is a single session, or one of them is of another form.
            ConfigError: As in `recommend`; likewise the other errors.
        """
        if isinstance(sessions, str | bytes | Mapping) or not isinstance(sessions, Iterable):
            raise DataError(f"recommend_many takes a list of sessions, and recommend one; found {shown(sessions)}")
        named = {f"session {row}": each for row, each in enumerate(sessions, start=1)}
        return self._lists(named, k, item_ids(exclude, "exclude"), _filters(filters, exclude_session), operation)

    def _lists(
        self,
        sessions: Mapping[str, Session],
        k: int,
        exclude: Sequence[str],
        filters: Filters,
        operation: str | None,
    ) -> list[Recommendations]:
        ranker = self.ranker(k, filters=filters, operation=operation)
        encoded = SessionEncoder(ranker.bundle).encode(sessions, exclude)
        with torch_threads(self.threads):
            items_SK, scores_SK = ranker.rank(encoded)
        ids = ranker.bundle.items
        rows = zip(
            items_SK.tolist(),
            scores_SK.tolist(),
            encoded.skipped.tolist(),
            encoded.replaced.tolist(),
            encoded.is_empty.tolist(),
            strict=True,
        )
        return [
            Recommendations(
                tuple(
                    RecommendedItem(ids.id(item), score, rank)
                    for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1)
                    if item
                ),
                skipped,
                replaced,
                "popularity" if is_empty else "model",
            )
            for items, scores, skipped, replaced, is_empty in rows
        ]

    def ranker(self, k: int = 20, *, filters: Filters = NO_FILTERS, operation: str | None = None) -> Ranker:
        """Return what ranks encoded sessions with the catalogue as it is now, see `SessionEncoder`.

        Arguments and errors are those of `recommend`.
        """
        serving, facts, asked = self._serving, self._facts, (positive_integer(k, "k"), filters, operation)
        of_serving, of_facts, of_asked, ranker = self._last_ranker
        if of_serving is not serving or of_facts is not facts or of_asked != asked:
            bundle, score, short = serving
            ranker = Ranker(
                bundle, score, k=k, filters=filters, facts=facts, operation=operation, device=self.device, short=short
            )
            self._last_ranker = serving, facts, asked, ranker
        assert ranker is not None
        return ranker

    def explain(self, session: Session, items: Iterable[str], *, operation: str | None = None) -> list[Explanation]:
        """Say why some items got their scores for a session; see `Explanation`.

        Raises:
            ConfigError: The model has no explanations, or takes no wanted operation; or `items` is a single text.
            UnknownIdError: An item or the operation is not in the catalogue.
            DataError: No event of the session is of a known item, or it has another form.
        """
        bundle = self.bundle
        encoded = SessionEncoder(bundle).encode({"the session": session})
        if encoded.is_empty[0]:
            raise DataError("no event of the session is of a known item: its list goes by popularity alone")
        batch = encoded.batch(np.zeros(1, np.int64), wanted_operation(bundle, operation)).to(self.device)
        with torch_threads(self.threads):
            return explain(bundle, batch, [bundle.items.index(item) for item in item_ids(items, "items")])

    def check_explains(self) -> None:
        """Make sure that the model gives reasons.

        Raises:
            ConfigError: It does not; the message names the models that do.
        """
        check_explains(self.bundle)

    def why_nothing(self, filters: Filters) -> str:
        """Why the filters leave nothing to recommend, in a sentence.

        Raises:
            ConfigError: A condition names what is not known.
        """
        return why_nothing(self.bundle, filters, self._facts)

    def allowed(self, filters: Filters) -> NDArray[np.bool_]:
        """Return whether each item may be in a list with these filters. Shape [V]; entry 0 is False.

        Raises:
            ConfigError: A condition names what is not known.
        """
        return allowed_items(self.bundle, filters, self._facts)

    def attributes(self, item: str) -> dict[str, list[str]]:
        """What is known about an item: its attribute values by relation name.

        Raises:
            UnknownIdError: The item is not in the catalogue.
        """
        return self.bundle.knowledge.describe_item(self.bundle.items.index(item))

    def add_items(self, items: Mapping[str, Attributes]) -> CatalogueChange:
        """Put new items into the catalogue; the next call can recommend them, and sessions may hold them.

        Nothing is trained: an item is scored by its attributes. Attribute values that training never saw say nothing
        and are counted, but filters see them; an item without any known value comes last in every list. Meanwhile the
        old catalogue serves.

        Args:
            items: Attributes of each item: one value or a list of them by relation, as in {"brand": "b-7"}. A number
                goes into its bucket where the relation's values are buckets.

        Raises:
            ConfigError: The model knows items by their ids alone.
            DataError: An item is in the catalogue already, or its id or its attributes are of another form.
        """
        with self._changing:
            bundle, change = with_items(self.bundle, items)
            self._use(bundle)
        return change

    def retire_items(self, ids: Iterable[str]) -> None:
        """Take items off every list from now on; a session may still hold them.

        Raises:
            UnknownIdError: An item is not in the catalogue.
            ConfigError: `ids` is a single text.
        """
        with self._changing:
            self._serving = (with_retired(self.bundle, ids), *self._serving[1:])

    def restore_items(self, ids: Iterable[str]) -> None:
        """Let retired items appear again.

        Raises:
            UnknownIdError: An item is not in the catalogue.
            ConfigError: `ids` is a single text.
        """
        with self._changing:
            self._serving = (without_retired(self.bundle, ids), *self._serving[1:])

    def set_facts(self, facts: Mapping[str, Mapping[str, Values]], *, update: bool = False) -> list[str]:
        """State what filters see and the model does not, such as today's prices.

        Args:
            facts: Value or values of items by name and item id: {"price": {"sku-1": 12.5}, "in_stock": {...}}. A name
                that is also a relation of the model hides the relation from filters.
            update: Keep earlier facts, apart from those of the same name and item; an empty list takes an item's value
                away. Otherwise all earlier facts are forgotten.

        Returns:
            Named items that the catalogue lacks, whose ids may be misspelt; their facts count once they are added.

        Raises:
            DataError: They have another form.
        """
        with self._changing:
            self._facts = read_facts(facts, self._facts if update else None)
        named = {str(item) for of_item in facts.values() for item in of_item}
        return sorted(item for item in named if item not in self.bundle.items)

    def use_index(self, proposals: int) -> None:
        """Score only so many items that an index proposes from now on, or with 0 all items again; see `try_index`.

        Where filters leave too few of the proposed items, and for caps, all items are scored nevertheless.
        """
        with self._changing, torch.inference_mode():
            self._proposals, self._codes = proposals, self._codes if proposals else None
            bundle, score, _ = self._serving
            self._serving = (bundle, score, self._short_scorer(bundle.model))

    def save(self, path: str | Path) -> Path:
        """Write a bundle that remembers added and retired items.

        Raises:
            BundleError: Something else is at that place, or the folder cannot be written.
        """
        return save_bundle(path, self.bundle)

    def _use(self, bundle: ModelBundle) -> None:
        """Serve from this bundle. One assignment: a call in another thread sees all of the old or all of the new."""
        with torch.inference_mode():
            model = bundle.model.to(self.device).eval()
            is_compiled = self._compiled and self.device.type == "cpu"
            score = model.compiled_scorer() if is_compiled else model.scorer()
            self._serving = (bundle, score, self._short_scorer(model))

    def _short_scorer(self, model: SessionModel) -> ShortScorer | None:
        if not self._proposals or not makes_shortlists(model):
            return None
        vectors_VD = model.shortlist_vectors()
        if self._codes is None or not self._codes.are_of(vectors_VD):
            self._codes = ItemCodes(vectors_VD)
        return model.short_scorer(Shortlist(self._codes, vectors_VD, self._proposals))


def _filters(filters: Filters, exclude_session: bool) -> Filters:
    return replace(filters, exclude_session=True) if exclude_session and not filters.exclude_session else filters

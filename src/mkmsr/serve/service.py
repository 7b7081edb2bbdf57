"""What visitors ask of the service: lists, events, explanations, and their session itself.

Where something cannot be done as asked, the visitor gets the next best list, and the answer says so: without consent
the events of the request alone count; an empty session gets what is popular; when the queue is too long, neighbours
rank, or popularity where the model has none; when the store does not answer, the events of the request count.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from typing import Any
from urllib.parse import urlsplit

from mkmsr.recommend import Explanation
from mkmsr.serve.batching import Batcher
from mkmsr.serve.endpoint import Call, Problem
from mkmsr.serve.engine import Engine, FilterKey, Pair, Ranked, Serving, Slot
from mkmsr.serve.feedback import Feedback
from mkmsr.serve.sessions import FIRST_PLACES, Sessions, Shown, Update, Updated
from mkmsr.serve.stores import SessionStore, StoreDown
from mkmsr.serve.types import (
    MOST_EXPLAINED,
    Erasure,
    Event,
    EventsAnswer,
    EventsRequest,
    ExplanationsAnswer,
    ExplanationsRequest,
    Item,
    ListedItem,
    Reason,
    RecommendationsAnswer,
    RecommendationsRequest,
    SessionAnswer,
    SimilarAnswer,
    SimilarQuery,
)

_MOST_UPDATES = 256
_CARD_BYTES = 64 * 1024 * 1024
"""Of text in the cards that are kept."""
_IMAGE_FIELDS = ("image", "picture", "photo", "thumbnail")
_LINK_FIELDS = ("link", "url", "href")
_DATA_IMAGES = tuple(f"data:image/{kind}" for kind in ("png", "jpeg", "webp", "gif", "svg+xml"))
_COMPONENTS = ("explore", "copy", "neighbours", "earlier")


class Keeper:
    """Sessions as the event loop uses them: at once where they are in this process, else in a thread of the store."""

    def __init__(self, sessions: Sessions):
        self.sessions = sessions
        self._batcher: Batcher[Update | Callable[[SessionStore], Any], Any] | None = None
        if not sessions.store.is_local:
            self._batcher = Batcher(self._batch, most=_MOST_UPDATES, name="store")
        self._unfinished: set[asyncio.Task[Any]] = set()

    async def update(self, update: Update) -> Updated:
        """Carry out an update; StoreDown is raised where the store does not answer."""
        if self._batcher is None:
            return self.sessions.carry_out([update])[0]
        updated: Updated = await self._batcher.submit(update)
        return updated

    async def ask(self, function: Callable[[SessionStore], Any]) -> Any:
        """Carry out something else with the store, likewise."""
        return function(self.sessions.store) if self._batcher is None else await self._batcher.submit(function)

    def note(self, update: Update) -> None:
        """Carry out an update that nobody waits for; it is lost if the store does not answer."""
        if self._batcher is None:
            self.sessions.carry_out([update])
            return

        async def carry_out() -> None:
            with suppress(StoreDown):
                await self.update(update)

        task = asyncio.ensure_future(carry_out())
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)

    def close(self) -> None:
        """Finish, and let go of the store."""
        if self._batcher is not None:
            self._batcher.close()
        self.sessions.store.close()

    def _batch(self, tasks: Sequence[Update | Callable[[SessionStore], Any]]) -> list[Any]:
        updates = [task for task in tasks if isinstance(task, Update)]
        try:
            done: Iterator[Any] = iter(self.sessions.carry_out(updates) if updates else ())
        except StoreDown as error:
            done = repeat(error)
        return [next(done) if isinstance(task, Update) else self._asked(task) for task in tasks]

    def _asked(self, function: Callable[[SessionStore], Any]) -> Any:
        try:
            return function(self.sessions.store)
        except StoreDown as error:
            return error


class Cards:
    """What is told about items: attributes, facts of the day, and display fields that are safe to show.

    `facts` gives those as they are now; images of other hosts are not shown.
    """

    def __init__(self, image_hosts: Sequence[str], facts: Callable[[], Mapping[str, Mapping[str, Any]]]):
        self._hosts, self._facts = frozenset(image_hosts), facts
        self._kept: tuple[int, dict[tuple[str, str], tuple[dict[str, list[str]], dict[str, str]]]] = 0, {}
        self._bytes = 0

    def of(self, slot: Slot, serving: Serving, version: int, item: str) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Return attributes and display fields of an item of the catalogue."""
        of_version, kept = self._kept  # Several threads ask: a late one fills the cards of its own version.
        if version != of_version or self._bytes > _CARD_BYTES:
            kept = {}
            self._kept, self._bytes = (version, kept), 0
        key = serving.digest, item
        card = kept.get(key)
        if card is None:
            bundle = serving.recommender.bundle
            attributes = serving.recommender.attributes(item)
            for relation, of_item in bundle.unlearnt.items():
                attributes.setdefault(relation, []).extend(of_item.get(item, ()))
            for name, of_fact in self._facts().items():
                if item in of_fact:
                    values = of_fact[item]
                    attributes[name] = [str(each) for each in (values if isinstance(values, list) else [values])]
            card = (
                {name: values for name, values in attributes.items() if values},
                self._safe(slot.shown(serving, item)),
            )
            kept[key] = card
            texts = (*card[1].values(), *(value for values in card[0].values() for value in values))
            self._bytes += 1000 + 4 * sum(map(len, texts))
        return card

    def listed(self, slot: Slot, ranked: Ranked, fields: Sequence[str] | None) -> list[ListedItem]:
        """Return the items of a list as they are answered; `fields` are the wanted names, None for all."""
        if fields is not None and not fields:
            pairs = zip(ranked.items, ranked.scores, strict=True)
            return [ListedItem(item, rank, score) for rank, (item, score) in enumerate(pairs, start=1)]
        wanted = None if fields is None else frozenset(fields)
        listed = []
        for rank, (item, score) in enumerate(zip(ranked.items, ranked.scores, strict=True), start=1):
            attributes, display = self.of(slot, ranked.serving, ranked.version, item)
            if wanted is not None:
                attributes = {name: values for name, values in attributes.items() if name in wanted}
                display = {name: value for name, value in display.items() if name in wanted}
            listed.append(ListedItem(item, rank, score, None, attributes, display))
        return listed

    def item(self, slot: Slot, serving: Serving, version: int, item: str) -> Item:
        """Return an item of the catalogue."""
        attributes, display = self.of(slot, serving, version, item)
        return Item(item, display, attributes)

    def _safe(self, display: Mapping[str, str]) -> dict[str, str]:
        """Display fields without images of other hosts and without links that a browser would execute."""
        return {
            name: value
            for name, value in display.items()
            if not (name.lower() in _IMAGE_FIELDS and not self._is_image(value))
            and not (name.lower() in _LINK_FIELDS and _address(value)[0] not in ("http", "https"))
        }

    def _is_image(self, value: str) -> bool:
        scheme, host = _address(value)
        return (
            value.startswith(_DATA_IMAGES) or value.startswith("/page/") or (scheme == "https" and host in self._hosts)
        )


@dataclass
class Visitors:
    """Answers what visitors ask. The second model answers a part of the sessions, `split`."""

    engine: Engine
    keeper: Keeper
    cards: Cards
    feedback: Feedback
    split: float = 0.0

    async def recommendations(self, call: Call) -> RecommendationsAnswer:
        """Answer with a list, after storing what is to be appended."""
        asked: RecommendationsRequest = call.body
        if asked.explain and asked.k > MOST_EXPLAINED:
            raise Problem(422, f"at most {MOST_EXPLAINED} items are explained at a time: choose a smaller k")
        key = self._key(asked.session)
        slot = self.slot(asked.model, key)
        if asked.explain:
            slot.recommender.check_explains()
        filters = FilterKey.of(asked)
        if asked.append or asked.merge:  # a call that is refused stores nothing
            await self.engine.check(slot, asked.k, filters)
        events, updated, problems = await self._read(asked, asked.append, asked.merge)
        ranked = await self.engine.rank(slot, events, exclude=asked.exclude, k=asked.k, filters=filters)
        notes = list(problems.values())
        if ranked.is_late:
            problems["late"] = f"the queue was too long for the model: the list goes by {ranked.ranked_by}"
            notes.append(problems["late"])
        if ranked.why_nothing:
            notes.append(ranked.why_nothing)
        elif ranked.ranked_by == "popularity" and not ranked.is_late:
            notes.append("the session has no known item yet: the list goes by popularity")
        for reason in problems:
            self.feedback.degraded.labels(reason).inc()
        items = self.cards.listed(slot, ranked, asked.fields)
        if asked.explain and ranked.ranked_by == "model" and ranked.items:
            found = await self.engine.explain(ranked.serving.recommender, events, ranked.items, asked.operation)
            for item, explanation in zip(items, found, strict=True):
                item.reason = _reason(explanation)
        identity = base64.urlsafe_b64encode(os.urandom(12)).decode()
        self.feedback.lists.labels(slot.name, ranked.serving.digest).inc()
        if key is not None and asked.consent and (updated.existed or updated.accepted):
            first = list(ranked.items[:FIRST_PLACES])
            self.keeper.note(
                Update(key, shown=Shown(identity, slot.name, ranked.serving.digest, first, len(ranked.items)))
            )
        return RecommendationsAnswer(
            id=identity,
            items=items,
            ranked_by=ranked.ranked_by,
            degraded=bool(problems.keys() & {"store", "late"}),
            exact=ranked.is_exact,
            skipped=ranked.skipped,
            replaced=ranked.replaced,
            accepted=updated.accepted,
            duplicates=updated.duplicates,
            model=slot.name,
            bundle=ranked.serving.digest,
            catalogue=ranked.version,
            notes=notes,
        )

    async def events(self, call: Call) -> EventsAnswer:
        """Store events."""
        asked: EventsRequest = call.body
        if not asked.consent:
            self.feedback.degraded.labels("consent").inc()
            return EventsAnswer(0, 0, len(asked.events), 0)
        key, merge = self._key(asked.session), self._key(asked.merge)
        assert key is not None
        updated = await self.keeper.update(Update(key, asked.events, merge))
        self.feedback.react(updated.reactions)
        known = self.engine.first.recommender.bundle.items
        skipped = sum(each.item not in known for each in asked.events)
        return EventsAnswer(updated.accepted, updated.duplicates, skipped, updated.expires_in)

    async def similar(self, call: Call) -> SimilarAnswer:
        """Answer with items like one."""
        asked: SimilarQuery = call.query
        slot = self.slot(asked.model or None, None)
        filters = FilterKey((asked.where,) if asked.where else ())
        item = self._known(slot, call.path["id"])
        ranked = await self.engine.similar(slot, item, k=asked.k, filters=filters)
        return SimilarAnswer(
            item, self.cards.listed(slot, ranked, None), slot.name, ranked.serving.digest, ranked.version
        )

    async def explanations(self, call: Call) -> ExplanationsAnswer:
        """Answer why items got their scores."""
        asked: ExplanationsRequest = call.body
        slot = self.slot(asked.model, self._key(asked.session))
        events, _, problems = await self._read(asked, (), None)
        if "store" in problems and asked.events is None:
            raise Problem(503, "the store of sessions does not answer; give `events`", {"retry-after": "1"})
        for item in asked.items:
            self._known(slot, item)
        serving = slot.serving
        found = await self.engine.explain(serving.recommender, events, asked.items, asked.operation)
        documents = [each.document() | {"parts": _reason(each).parts} for each in found]
        return ExplanationsAnswer(documents, slot.name, serving.digest)

    async def session(self, call: Call) -> SessionAnswer:
        """Answer with what is stored of a session."""
        key = self._key(call.path["id"])
        assert key is not None
        updated = await self.keeper.update(Update(key))
        if not updated.existed:
            raise Problem(404, "nothing is stored of this session")
        events = [{"item": each.item, "operation": each.operation, "time": each.time} for each in updated.events]
        return SessionAnswer(events, updated.expires_in)

    async def erase(self, call: Call) -> Erasure:
        """Erase a session: afterwards it cannot be read any more."""
        key = self._key(call.path["id"])
        assert key is not None
        updated = await self.keeper.update(Update(key, erase=True))
        return Erasure(updated.existed, await self.keeper.ask(lambda store: store.erased_when()))

    def slot(self, name: str | None, key: bytes | None) -> Slot:
        """The model that a request names, or the one of its session."""
        slots = self.engine.slots
        if name is not None:
            if name not in slots:
                raise Problem(422, f"no model {name!r:.100} here; there are {', '.join(slots)}")
            return slots[name]
        if self.split and key is not None and int.from_bytes(key[:4], "big") < self.split * 2**32:
            return list(slots.values())[1]
        return self.engine.first

    async def _read(
        self,
        asked: RecommendationsRequest | ExplanationsRequest,
        append: Sequence[Event],
        merge: str | None,
    ) -> tuple[list[Pair], Updated, dict[str, str]]:
        """The events that a list goes by, what became of the session, and by reason what could not be as asked."""
        if asked.session is None and asked.events is None:
            raise Problem(422, "give `session`, the id of a session, or `events`, its events; or both")
        own = [(each.item, each.operation) for each in (*(asked.events or ()), *append)]
        key = self._key(asked.session)
        if key is None:
            return own, Updated(), {}
        if not asked.consent:
            told = "without consent nothing is stored: the events of the request alone count"
            return own, Updated(), {"consent": told}
        try:
            updated = await self.keeper.update(Update(key, append, self._key(merge)))
        except StoreDown:
            told = "the store of sessions does not answer: the events of the request alone count, and are not stored"
            return own, Updated(), {"store": told}
        self.feedback.react(updated.reactions)
        if not updated.events or (asked.events and len(updated.events) == updated.accepted):
            return own, updated, {}
        return [(each.item, each.operation) for each in updated.events], updated, {}

    def _key(self, session: str | None) -> bytes | None:
        return None if session is None else self.keeper.sessions.key(session)

    def _known(self, slot: Slot, item: str) -> str:
        if item not in slot.recommender.bundle.items:
            raise Problem(404, f"no item {item!r:.100} in the catalogue")
        return item


def _reason(found: Explanation) -> Reason:
    parts = {name: float(getattr(found, name)) for name in _COMPONENTS}
    total = sum(parts.values()) or 1.0
    return Reason(found.sentence, {name: part / total for name, part in parts.items()})


def _address(value: str) -> tuple[str, str]:
    """Scheme and host of an address; empty for what is none."""
    try:
        parts = urlsplit(value)
        return parts.scheme.lower(), (parts.hostname or "").lower()
    except ValueError:
        return "", ""

"""Changes while the service runs: items, facts and bundles, in one ordered log that every worker follows.

A worker that is asked for a change appends it to the log of the store. Each worker applies the records in their order
and reports how far it is; the change is acknowledged when all living workers have it. One that starts later applies
what the log holds. Catalogue changes outlive the service where the store does, bundle swaps hold for this run of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from mkmsr.bundle.format import HEADER
from mkmsr.errors import BundleError, ConfigError, MkmsrError, ServiceError
from mkmsr.models.capabilities import places_new_items
from mkmsr.recommend import Recommender
from mkmsr.recommend.index import try_index
from mkmsr.serve.engine import Engine, Pair, Serving, Slot, warm_up
from mkmsr.serve.stores import SessionStore, StoreDown

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_ALIVE_SECONDS = 5.0
"""A worker that has not reported for so long is not waited for."""

_PATIENCE = 120.0
_KEPT_OUTCOMES = 1000
_MOST_RECORDS = 200
"""Catalogue records of the log before they are made one."""

AskStore: TypeAlias = "Callable[[Callable[[SessionStore], Any]], Awaitable[Any]]"
"""Carries out something with the store, in the thread that may use it."""


class Record(msgspec.Struct, omit_defaults=True):
    """A change of one `kind`.

    "add": `items`, attributes and display fields by id. "retire", "restore": `ids`. "set", "update": `facts`. "all":
    what the records before it came to. "bundle" (`path`, `slot`) and "rollback" (`slot`) hold for one `run` of the
    service.
    """

    kind: str
    items: dict[str, dict[str, Any]] = {}
    ids: list[str] = []
    facts: dict[str, dict[str, Any]] = {}
    path: str = ""
    slot: str = ""
    run: str = ""


@dataclass
class _Catalogue:
    """What the log says about the catalogue, for bundles that come later.

    `added` has attributes and display fields by item, `retired` whether each is, `facts` values by name and item.
    """

    added: dict[str, dict[str, Any]] = field(default_factory=dict)
    retired: dict[str, bool] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, record: Record) -> None:
        """Take note of a change."""
        if record.kind == "all":
            self.retired |= dict.fromkeys(self.retired, False) | dict.fromkeys(record.ids, True)
            self.added, self.facts = dict(record.items), record.facts
            return
        self.added |= {item: each for item, each in record.items.items() if item not in self.added}
        self.retired |= dict.fromkeys(record.ids, record.kind == "retire")
        facts = {} if record.kind == "set" else dict(self.facts)  # Other threads read the old one meanwhile.
        for name, of_item in record.facts.items():
            facts[name] = facts.get(name, {}) | of_item
        self.facts = facts

    def record(self) -> Record:
        """Return all of it as one record."""
        retired = [item for item, is_retired in self.retired.items() if is_retired]
        return Record("all", items=self.added, ids=retired, facts=self.facts)

    def bring(self, recommender: Recommender) -> None:
        """Let a recommender have all of it, as far as it knows the items."""
        bundle = recommender.bundle
        new = {item: each["attributes"] for item, each in self.added.items() if item not in bundle.items}
        if new and places_new_items(bundle.model):
            recommender.add_items(new)
        known = [(item, is_retired) for item, is_retired in self.retired.items() if item in recommender.bundle.items]
        recommender.retire_items([item for item, is_retired in known if is_retired])
        recommender.restore_items([item for item, is_retired in known if not is_retired])
        recommender.set_facts(self.facts)


class Changes:
    """A worker's view of the log.

    `store` carries out work with the store. `worker` is unlike the names of all others, `run` that of this run of the
    service. `sample` gives live sessions for the warm-up of a bundle; `share` is as in `load_bundle`.
    """

    def __init__(
        self,
        engine: Engine,
        store: AskStore,
        *,
        worker: str,
        run: str,
        sample: Callable[[], Awaitable[list[list[Pair]]]],
        share: Path | None = None,
    ):
        self._engine, self._store, self._worker, self._run, self._sample = engine, store, worker, run, sample
        self._share = share
        self._catalogue = _Catalogue()
        self._verified: dict[str, Serving] = {}
        self._outcomes: dict[int, dict[str, Any] | MkmsrError] = {}
        self._position = self._records = 0
        self._new = asyncio.Event()

    @property
    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """The facts as they are now."""
        return self._catalogue.facts

    async def start(self) -> None:
        """Apply what the log holds already, at once."""
        records = await self._store(lambda store: store.changes(0))
        await asyncio.to_thread(self._catch_up, [(number, _DECODER.decode(each)) for number, each in records])
        await self._report()

    async def follow(self) -> None:
        """Apply records as they come, for ever."""
        while True:
            try:
                for number, content in await self._store(lambda store: store.changes(self._position)):
                    outcome = await asyncio.to_thread(self._apply, _DECODER.decode(content))
                    self._outcomes[number] = outcome
                    self._outcomes.pop(number - _KEPT_OUTCOMES, None)
                    self._position = number
                    self._engine.changed(number)
                    await self._report()
                    await self._compact()
            except StoreDown as error:
                _log.warning("catalogue changes wait: %s", error)
                await asyncio.sleep(1)
            self._new.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._new.wait(), _POLL_SECONDS)

    async def report_often(self) -> None:
        """Tell the other workers that this one lives, for ever."""
        while True:
            with suppress(StoreDown):
                await self._report()
            await asyncio.sleep(1)

    async def make(self, record: Record) -> tuple[int, dict[str, Any]]:
        """Append a change and wait until every living worker has it; return its number, and by model what it came to.

        One that cannot be applied raises its MkmsrError, and nothing changes; a store that does not answer, or a worker
        that does not follow, is StoreDown.
        """
        self._check(record)
        if record.kind == "bundle":
            sessions = await self._sample()
            self._verified[record.path] = await asyncio.to_thread(self._ready, record.path, sessions)
        try:
            number = await self._store(lambda store: store.append_change(msgspec.json.encode(record)))
        except StoreDown:
            self._verified.pop(record.path, None)  # Next time the folder may hold another bundle.
            raise
        self._new.set()
        until = time.monotonic() + _PATIENCE
        while not all(each >= number for each in (await self._positions()).values()):
            if time.monotonic() > until:
                raise StoreDown(f"change {number} is in the log, but not every worker has it yet")
            await asyncio.sleep(0.02)
        outcome = self._outcomes[number]
        if isinstance(outcome, MkmsrError):
            raise outcome
        return number, outcome

    async def _compact(self) -> None:
        """Make one record of those that every worker has, when they are many."""
        self._records += 1
        number = self._position
        if self._records < _MOST_RECORDS or any(each < number for each in (await self._positions()).values()):
            return
        records = await self._store(lambda store: store.changes(0))
        before = [(each, _DECODER.decode(record)) for each, record in records if each < number]
        last = next((_DECODER.decode(record) for each, record in records if each == number), None)
        if last is None or last.run:
            return
        whole = msgspec.json.encode(self._catalogue.record())
        superseded = [each for each, record in before if not record.run]
        await self._store(lambda store: store.compact(number, whole, superseded))
        self._records = 0

    async def _positions(self) -> Mapping[str, int]:
        found: dict[str, int] = await self._store(lambda store: store.positions(_ALIVE_SECONDS))
        return found | {self._worker: self._position}

    async def _report(self) -> None:
        await self._store(lambda store: store.report(self._worker, self._position))

    def _check(self, record: Record) -> None:
        """Refuse what no worker could apply."""
        bundle = self._engine.first.recommender.bundle
        if record.items:
            if not any(places_new_items(slot.recommender.bundle.model) for slot in self._engine.slots.values()):
                raise ConfigError(
                    f"{bundle.name!r} knows items by their ids alone and cannot place new ones", key="items"
                )
            if known := [item for item in record.items if item in bundle.items or item in self._catalogue.added]:
                raise ConfigError(
                    f"{known[0]!r} is in the catalogue already; restore brings retired items back", key="items"
                )
        if record.ids:
            bundle.items.indexes(record.ids)
        if record.kind == "rollback" and self._engine.slots[record.slot].previous is None:
            raise ConfigError("there is no bundle before this one", key="rollback")

    def _ready(self, path: str, sessions: list[list[Pair]]) -> Serving:
        """A verified and warm bundle that knows the catalogue as it is now."""
        serving = load(path, self._share, sessions)
        self._catalogue.bring(serving.recommender)
        warm_up(serving.recommender, sessions)
        return serving

    def _catch_up(self, records: list[tuple[int, Record]]) -> None:
        served: dict[str, tuple[str | None, str]] = {}  # paths of the bundle before and the one now; "": at the start
        for number, record in records:
            self._position = number
            self._catalogue.note(record)
            before, now = served.get(record.slot, (None, ""))
            if record.run == self._run and record.kind == "bundle":
                served[record.slot] = now, record.path
            elif record.run == self._run and record.kind == "rollback" and before is not None:
                served[record.slot] = now, before
        for name, (before, now) in served.items():
            slot = self._engine.slots[name]
            at_start = slot.serving
            slot.serving = load(now, self._share) if now else at_start
            try:
                slot.previous = load(before, self._share) if before else at_start
            except BundleError as error:
                _log.warning("this worker cannot roll back: %s", error)
        self._take_over(self._catalogue.record())
        self._engine.changed(self._position)

    def _apply(self, record: Record) -> dict[str, Any] | MkmsrError:
        """Apply one record to every model: what it came to, or why it could not be."""
        if record.run and record.run != self._run:
            return {}
        try:
            if record.kind in ("bundle", "rollback"):
                slot = self._engine.slots[record.slot]
                next_one = slot.previous
                if record.kind == "bundle":
                    next_one = self._verified.pop(record.path, None) or self._ready(record.path, [])
                if next_one is None:
                    raise ConfigError("there is no bundle before this one", key="rollback")
                self._catalogue.bring(next_one.recommender)
                slot.previous, slot.serving = slot.serving, next_one
                return {slot.name: {"bundle": slot.serving.digest}}
            if record.kind == "all":
                return self._take_over(record)
            outcome = {slot.name: _change(slot, record) for slot in self._engine.slots.values()}
            self._catalogue.note(record)
        except Exception as error:  # One bad record must not end the worker, nor the next one that reads the log.
            _log.warning("a %s record of the log cannot be applied: %s", record.kind, type(error).__name__)
            return error if isinstance(error, MkmsrError) else ServiceError("the change failed; the log says where")
        return outcome

    def _take_over(self, record: Record) -> dict[str, Any]:
        """Apply what many records came to, of which this worker may have missed some."""
        self._catalogue.note(record)
        for slot in self._engine.slots.values():
            self._catalogue.bring(slot.recommender)
            slot.display.update(_display(self._catalogue.added))
        return {}


_DECODER = msgspec.json.Decoder(Record)


def load(path: str, share: Path | None = None, sessions: Sequence[Sequence[Pair]] = ()) -> Serving:
    """Return a verified bundle, ready to serve; an index is tried with `sessions`; the rest as in `load_bundle`."""
    try:
        recommender = Recommender.load(path, share=share, compiled=True)
        written = datetime.fromtimestamp((Path(path) / HEADER).stat().st_mtime, UTC)
    except OSError as error:
        raise BundleError(f"cannot be read: {error.strerror}", path=path) from None
    digest = str(recommender.bundle.metadata["sha256"])[:12]
    return Serving(recommender, digest, written.isoformat(timespec="seconds"), try_index(recommender, sessions))


def _display(items: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, str]]:
    return {item: each["display"] for item, each in items.items() if each["display"]}


def _change(slot: Slot, record: Record) -> dict[str, Any]:
    """Apply a catalogue change to one model, as far as it can."""
    recommender = slot.recommender
    if record.kind == "add":
        if not places_new_items(recommender.bundle.model):
            return {"note": "this model knows items by their ids alone and places no new ones"}
        attributes = {item: each["attributes"] for item, each in record.items.items()}
        change = recommender.add_items(
            {item: a for item, a in attributes.items() if item not in recommender.bundle.items}
        )
        slot.display.update(_display(record.items))
        return {
            "added": len(change.added),
            "without_attributes": list(change.without_attributes),
            "unknown": dict(change.unknown),
        }
    if record.kind in ("retire", "restore"):
        known = [item for item in record.ids if item in recommender.bundle.items]
        (recommender.retire_items if record.kind == "retire" else recommender.restore_items)(known)
        return {"items": len(known)}
    unknown = recommender.set_facts(record.facts, update=record.kind == "update")
    return {"unknown_items": unknown[:100]}

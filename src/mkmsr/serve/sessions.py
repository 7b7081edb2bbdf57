"""Sessions while they go on: their newest events, under a keyed hash of their id, for as long as they are in use.

What a request asks of sessions is an `Update`; those of a micro-batch are carried out in their order, as one
transaction of the store. The same transaction tells which of the events answer a list that the session was shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from mkmsr.serve.stores import SessionStore, StoreDown
from mkmsr.serve.types import Event

MOST_KEPT = 100
"""Events of a session that are kept, the newest; more where a model reads more."""

FIRST_PLACES = 20
"""Places of a list that are kept, to see which events it led to."""

_SHOWN_LISTS = 2
_RETRY_SECONDS = 1.0


class KeptEvent(msgspec.Struct, array_like=True, frozen=True):
    """An event as it is stored; `tag` is a hash of its id, 0 for none."""

    item: str
    operation: str | None
    time: float
    tag: int


class Shown(msgspec.Struct, array_like=True):
    """A list that the session was shown.

    `bundle` is the beginning of its SHA-256; `items` are the first places of a list that was `length` long. It is
    judged when the event that followed it has come.
    """

    id: str
    model: str
    bundle: str
    items: list[str]
    length: int
    is_judged: bool = False


class _Session(msgspec.Struct, array_like=True):
    events: list[KeptEvent] = []
    shown: list[Shown] = []
    changed: float = 0.0


@dataclass(frozen=True)
class Reaction:
    """An event that came after a list.

    `place` counts from 1, and is 0 for an item that is not among the first. `is_next` says that it is the first event
    after the list, `is_click` that it names the list as what led to it.
    """

    model: str
    bundle: str
    operation: str | None
    place: int
    length: int
    is_next: bool
    is_click: bool


@dataclass(frozen=True)
class Update:
    """What a request asks of one session.

    Append events; merge another session of the same visitor, which is then erased; note a list that was shown; erase.
    """

    key: bytes
    append: Sequence[Event] = ()
    merge: bytes | None = None
    shown: Shown | None = None
    erase: bool = False


@dataclass(frozen=True)
class Updated:
    """A session after an update.

    `duplicates` are events that it held already; `reactions` say which of the accepted ones answer a list. It `existed`
    if anything was stored before, and `expires_in` seconds without a new event or list it is forgotten.
    """

    events: Sequence[KeptEvent] = ()
    accepted: int = 0
    duplicates: int = 0
    reactions: Sequence[Reaction] = ()
    existed: bool = False
    expires_in: int = 0


@dataclass
class Sessions:
    """Carries out updates on a store.

    Args:
        store: Where they live.
        secret: Key of the hash: without it nobody can tell from the store whose a session is.
        idle: Seconds after which a session without a new event or list is forgotten.
        most_kept: Events that are kept of each.
    """

    store: SessionStore
    secret: bytes
    idle: float
    most_kept: int = MOST_KEPT
    _down_until: float = field(default=0.0, init=False)

    def key(self, session: str) -> bytes:
        """Return the key of a session id."""
        return blake2b(session.encode("utf-8", "surrogatepass"), key=self.secret, digest_size=16).digest()

    def carry_out(self, updates: Sequence[Update]) -> list[Updated]:
        """Carry out updates in their order, as one transaction.

        A store that does not answer is StoreDown, and for a second afterwards it is not asked again.
        """
        if time.monotonic() < self._down_until:
            raise StoreDown("the store of sessions did not answer a moment ago")
        done: list[Updated] = []

        def change(found: Mapping[bytes, bytes]) -> dict[bytes, bytes | None]:
            done.clear()
            sessions = {key: _DECODER.decode(value) for key, value in found.items()}
            changed: dict[bytes, bytes | None] = {}
            for update in updates:
                updated, touched = self._one(sessions, update)
                done.append(updated)
                changed.update(dict.fromkeys(touched))
            return {key: _ENCODER.encode(sessions[key]) if key in sessions else None for key in changed}

        keys = list(dict.fromkeys(key for each in updates for key in (each.key, each.merge) if key is not None))
        try:
            self.store.transact(keys, change)
        except StoreDown:
            self._down_until = time.monotonic() + _RETRY_SECONDS
            raise
        return done

    def sample(self, count: int) -> list[list[tuple[str, str | None]]]:
        """Return some sessions as (item, operation) pairs."""
        sessions = [_DECODER.decode(value) for value in self.store.sample(count)]
        return [[(each.item, each.operation) for each in session.events] for session in sessions if session.events]

    def _one(self, sessions: dict[bytes, _Session], update: Update) -> tuple[Updated, list[bytes]]:
        """A session after an update, and the keys of what changed."""
        existed = update.key in sessions
        if update.erase:
            return Updated(existed=sessions.pop(update.key, None) is not None), [update.key]
        session = sessions.get(update.key) or _Session()
        touched = []
        if update.merge is not None and update.merge != update.key:
            other = sessions.pop(update.merge, None)
            if other is not None:
                touched += [update.key, update.merge]
                held = {each.tag for each in session.events if each.tag}
                new = [each for each in other.events if each.tag not in held]
                session.events = sorted([*new, *session.events], key=_time)[-self.most_kept :]
                session.shown = [*other.shown, *session.shown][:_SHOWN_LISTS]
        accepted, duplicates, reactions = self._append(session, update.append)
        if update.shown is not None and existed:
            session.shown = [update.shown, *session.shown[: _SHOWN_LISTS - 1]]
        if accepted or (update.shown is not None and existed):
            touched.append(update.key)
        now = time.time()
        if touched:
            session.changed = now
            sessions[update.key] = session
        left = max(0, round(session.changed + self.idle - now))
        return Updated(tuple(session.events), accepted, duplicates, reactions, existed, left), touched

    def _append(self, session: _Session, events: Sequence[Event]) -> tuple[int, int, list[Reaction]]:
        """Add events in the order of their times; how many were added, how many were there, and which answer a list."""
        held = {each.tag for each in session.events if each.tag}
        now, added, reactions = time.time(), [], []
        for event in events:
            tag = 0 if event.id is None else _tag(event.id)
            if tag and tag in held:
                continue
            held.add(tag)
            moment = now if event.time is None else min(event.time, now)
            added.append(KeptEvent(event.item, event.operation, moment, tag))
            reactions += _reactions(session.shown, event)
        if added:
            session.events = sorted([*session.events, *added], key=_time)[-self.most_kept :]
        return len(added), len(events) - len(added), reactions


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Session)
_time: Callable[[KeptEvent], float] = lambda event: event.time  # noqa: E731


def _tag(identity: str) -> int:
    return int.from_bytes(blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big") or 1


def _reactions(shown: Sequence[Shown], event: Event) -> list[Reaction]:
    """What an event says about the lists that its session was shown, the newest first."""
    found = []
    for number, each in enumerate(shown):
        is_next, is_click = number == 0 and not each.is_judged, event.recommendation == each.id
        if is_next or is_click:
            place = each.items.index(event.item) + 1 if event.item in each.items else 0
            found.append(Reaction(each.model, each.bundle, event.operation, place, each.length, is_next, is_click))
        each.is_judged = each.is_judged or is_next
    return found

"""Every store of sessions keeps the same promises; the one of Redis is tested on the real server."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mkmsr.serve.sessions import Sessions, Shown, Update
from mkmsr.serve.stores import MemoryStore, RedisStore, SessionStore, SqliteStore, StoreDown
from mkmsr.serve.types import Event


class RedisServer:
    """The distribution's server on a Unix socket, which can be stopped and started."""

    def __init__(self, folder: Path):
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            pytest.skip("neither redis-server nor valkey-server is installed")
        self._program, self._folder, self.socket = program, folder, folder / "redis.sock"

    @property
    def address(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder), "--save", ""]
        self._process = subprocess.Popen([self._program, *options], stdout=subprocess.DEVNULL)
        for _ in range(500):
            if self.socket.exists():
                return
            time.sleep(0.02)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.socket.unlink(missing_ok=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SessionStore]:
    if request.param == "memory":
        yield MemoryStore(idle=0.3, capacity=10**6)
    elif request.param == "sqlite":
        made = SqliteStore(tmp_path / "sessions.sqlite", idle=0.3, capacity=10**7)
        yield made
        made.close()
    else:
        address = request.getfixturevalue("server").address
        yield RedisStore(address, idle=0.3)


def test_values_are_changed_together_and_removed(store: SessionStore) -> None:
    store.transact([b"a", b"b"], lambda found: {b"a": b"1", b"b": b"2"})
    seen = []
    store.transact([b"a", b"b", b"c"], lambda found: seen.append(dict(found)) or {b"a": None})
    assert seen == [{b"a": b"1", b"b": b"2"}]
    assert store.sample(10) == [b"2"]


def test_a_value_is_forgotten_when_it_was_idle_for_long(store: SessionStore) -> None:
    store.transact([b"a"], lambda found: {b"a": b"1"})
    time.sleep(0.4)
    store.purge()
    seen = []
    store.transact([b"a"], lambda found: seen.append(dict(found)) or {})
    assert seen == [{}]


def test_changes_stand_in_their_order(store: SessionStore) -> None:
    first, second = store.append_change(b"x"), store.append_change(b"y")
    assert second == first + 1
    assert store.changes(0) == [(first, b"x"), (second, b"y")]
    assert store.changes(first) == [(second, b"y")]
    store.report("w", first)
    assert store.positions(5) == {"w": first}


def test_a_session_reads_alike_from_every_store(store: SessionStore) -> None:
    sessions = Sessions(store, b"k" * 32, idle=60)
    key = sessions.key("visitor")
    event = Event(item="a", operation="click", time=5.0, id="e")
    first, again = sessions.carry_out([Update(key, [event]), Update(key, [event, Event(item="b", time=3.0)])])
    assert (first.accepted, again.accepted, again.duplicates) == (1, 1, 1)
    assert [each.item for each in again.events] == ["b", "a"]
    assert sessions.carry_out([Update(key, erase=True), Update(key)])[1].events == ()


def test_workers_may_open_a_new_file_at_the_same_moment(tmp_path: Path) -> None:
    def open_at_once(path: Path) -> list[SessionStore]:
        gate = threading.Barrier(8)

        def opened(_: int) -> SessionStore:
            gate.wait()
            return SqliteStore(path, idle=60, capacity=10**8)

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(opened, range(8)))

    for number in range(20):
        for store in open_at_once(tmp_path / f"{number}.sqlite"):
            store.close()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_no_event_is_lost_between_workers(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    def open_store() -> SessionStore:
        if kind == "sqlite":
            return SqliteStore(tmp_path / "s.sqlite", idle=60, capacity=10**8)
        return RedisStore(request.getfixturevalue("server").address, idle=60)

    stores = [open_store() for _ in range(4)]

    def work(number: int) -> None:
        sessions = Sessions(stores[number], b"k" * 32, idle=60)
        for n in range(20):
            sessions.carry_out([Update(sessions.key("one"), [Event(item=f"{number}-{n}")])])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sessions = Sessions(stores[0], b"k" * 32, idle=60)
    assert len(sessions.carry_out([Update(sessions.key("one"))])[0].events) == 80


def fill(store: SqliteStore, size: int) -> None:
    for begin in range(0, 20_000, 500):
        keys = [str(n).encode() for n in range(begin, begin + 500)]
        store._next_purge = 0.0
        store.transact(keys, lambda found, keys=keys: dict.fromkeys(keys, b"x" * size))
    store.purge()


def test_memory_stays_near_the_stated_capacity() -> None:
    store = MemoryStore(idle=60, capacity=5_000_000)
    fill(store, 500)
    assert 2_000 < len(store.sample(10**6)) <= 5_000_000 // 500
    seen = []
    store.transact([b"0", b"19999"], lambda found: seen.append(list(found)) or {})
    assert seen == [[b"19999"]]  # the ones longest idle went first


def test_a_long_log_of_changes_pushes_no_session_out() -> None:
    store = MemoryStore(idle=60, capacity=1_000_000)
    for _ in range(40):
        store.append_change(bytes(50_000))
    store.transact([], lambda found: {b"a": b"1"})
    store._next_purge = 0.0
    store.purge()
    assert store.sample(10) == [b"1"]


def test_the_file_of_sqlite_stays_near_the_stated_capacity(tmp_path: Path) -> None:
    fill(SqliteStore(tmp_path / "s.sqlite", idle=60, capacity=500_000), 200)
    assert (tmp_path / "s.sqlite").stat().st_size < 1_500_000


def test_erased_bytes_are_in_no_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite", idle=60, capacity=10**8)
    sessions = Sessions(store, b"k" * 32, idle=60)
    key = sessions.key("visitor")
    sessions.carry_out([Update(key, [Event(item="a-very-private-item")])])
    sessions.carry_out([Update(key, erase=True)])
    assert store.erased_when().startswith("gone")
    assert not any(b"a-very-private-item" in file.read_bytes() for file in tmp_path.iterdir())
    assert not any(b"visitor" in file.read_bytes() for file in tmp_path.iterdir())


def test_a_store_that_is_down_recovers_by_itself(server: RedisServer) -> None:
    sessions = Sessions(RedisStore(server.address, idle=60), b"k" * 32, idle=60)
    update = Update(sessions.key("a"), [Event(item="x")])
    assert sessions.carry_out([update])[0].accepted == 1
    server.kill()
    with pytest.raises(StoreDown):
        sessions.carry_out([update])
    began = time.monotonic()
    with pytest.raises(StoreDown, match="a moment ago"):
        sessions.carry_out([update])
    assert time.monotonic() - began < 0.1
    server.start()
    time.sleep(1.1)
    assert sessions.carry_out([update])[0].accepted == 1


def test_a_full_disk_ends_one_transaction_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite", idle=60, capacity=10**8)
    number = store.append_change(b"x")
    pages = store._file.execute("PRAGMA page_count").fetchone()[0]
    store._file.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreDown, match="full"):
        store.compact(number, b"x" * 100_000, [])
    with pytest.raises(StoreDown, match="full"):
        store.transact([b"a"], lambda found: {b"a": b"x" * 100_000})
    store._file.execute("PRAGMA max_page_count=100000")
    store.transact([b"a"], lambda found: {b"a": b"1"})
    store.compact(number, b"y", [])
    assert (store.sample(1), store.changes(0)) == ([b"1"], [(number, b"y")])


def test_a_wrong_statement_leaves_no_transaction_open(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite", idle=60, capacity=10**8)
    number = store.append_change(b"x")
    with pytest.raises(StoreDown):
        store.compact(number, None, [])  # type: ignore[arg-type]
    store.transact([b"a"], lambda found: {b"a": b"1"})
    assert store.sample(1) == [b"1"]


def test_a_merged_session_brings_its_lists_and_no_event_twice() -> None:
    sessions = Sessions(MemoryStore(idle=60, capacity=10**6), b"k" * 32, idle=60)
    anonymous, known = sessions.key("anonymous"), sessions.key("known")
    event = Event(item="a", id="e")
    sessions.carry_out([Update(anonymous, [event]), Update(known, [event])])
    sessions.carry_out([Update(anonymous, shown=Shown("list", "compass", "digest", ["b", "c"], 2))])
    merged = sessions.carry_out([Update(known, [Event(item="c", recommendation="list")], merge=anonymous)])[0]
    assert [each.item for each in merged.events] == ["a", "c"]
    assert [(each.place, each.is_next, each.is_click) for each in merged.reactions] == [(2, True, True)]


def test_a_session_expires_so_long_after_its_last_change(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(MemoryStore(idle=60, capacity=10**6), b"k" * 32, idle=60)
    key, now = sessions.key("a"), time.time()
    assert sessions.carry_out([Update(key, [Event(item="x")])])[0].expires_in == 60
    monkeypatch.setattr("mkmsr.serve.sessions.time.time", lambda: now + 20)
    assert sessions.carry_out([Update(key)])[0].expires_in == 40
    assert sessions.carry_out([Update(sessions.key("nobody"))])[0].expires_in == 0

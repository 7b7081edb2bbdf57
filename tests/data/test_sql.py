"""Logs in tables of a database: SQLite always, PostgreSQL where its server is installed."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.data.readers.sql import is_address, masked
from mkmsr.errors import ConfigError, DataError

ROWS = [
    (n, f"user {n % 4}", f"item, \"{n * n % 7}'", "click" if n % 3 else "order", f"2024-03-0{1 + n // 16} 10:{n:02}:00")
    for n in range(60)
]
BRANDS = [(f"item, \"{n}'", "brand", f"漢{n % 3}") for n in range(7)]


def csv_log(folder: Path) -> Any:
    """The same log from text files."""
    lines = ["id,user,item,operation,time"]
    lines += [",".join(f'"{str(cell).replace(chr(34), chr(34) * 2)}"' for cell in row) for row in ROWS]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    known = ["item,relation,value"]
    known += [",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) for row in BRANDS]
    (folder / "items.csv").write_text("\n".join(known) + "\n")
    return read_log("events", folder / "events.csv", ReadOptions(attributes=folder / "items.csv"))


def fill(execute: Any, mark: str) -> None:
    """The two tables, rows in a wrong order."""
    execute('CREATE TABLE events (id integer, "user" text, item text, operation text, "time" text)')
    execute("CREATE TABLE items (item text, relation text, value text)")
    for row in reversed(ROWS):
        execute(f"INSERT INTO events VALUES ({', '.join([mark] * 5)})", row)
    for item in BRANDS:
        execute(f"INSERT INTO items VALUES ({', '.join([mark] * 3)})", item)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    file = tmp_path / "shop.db"
    with sqlite3.connect(file) as connection:
        fill(connection.execute, "?")
    connection.close()
    return f"sqlite:///{file}"


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A server of our own on a free port of 127.0.0.1, with a user that needs a password."""
    psycopg = pytest.importorskip("psycopg")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = shutil.which("initdb") or (str(binaries[-1] / "initdb") if binaries else None)
    if initdb is None:
        pytest.skip("no PostgreSQL server is installed")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        PostgresServer(Path(initdb).resolve().parent, Path(folder)) as port,
    ):
        with psycopg.connect(f"postgresql://shop:s3cret@127.0.0.1:{port}/postgres", autocommit=True) as connection:
            fill(connection.execute, "%s")
            connection.execute("CREATE TABLE moments (session text, item text, at timestamptz)")
            connection.execute("INSERT INTO moments VALUES ('s', 'b', '2024-03-01 12:00:00+02')")
            connection.execute("INSERT INTO moments VALUES ('s', 'a', '2024-03-01 09:30:00+00'), ('s', NULL, NULL)")
        yield f"postgresql://shop:s3cret@127.0.0.1:{port}/postgres"


class PostgresServer:
    """A PostgreSQL cluster in a temporary folder; the server refuses to run as root, so root lends it a user."""

    def __init__(self, binaries: Path, folder: Path):
        self.binaries, self.folder = binaries, folder

    def __enter__(self) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        (self.folder / "password").write_text("s3cret")
        self.user: list[str] = []
        if os.geteuid() == 0:
            if shutil.which("setpriv") is None:
                pytest.skip("PostgreSQL does not run as root, and `setpriv` is not there to change the user")
            self.user = ["setpriv", "--reuid=nobody", "--clear-groups"]
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, "nobody")
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", "shop", "-A", "scram-sha-256", f"--pwfile={self.folder / 'password'}",
                  "-E", "UTF8", "--no-sync")  # fmt: skip
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-D", data, "-o", options, "-l", str(self.folder / "server.log"), "-w", "start")
        return port

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.user, str(self.binaries / program), *arguments]
        done = subprocess.run(
            command, check=False, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    address: str = request.getfixturevalue(request.param)
    return address


def test_a_table_gives_the_same_dataset_as_a_file(database, tmp_path):
    options = ReadOptions(attributes=f"{database}?table=items")
    log = read_log("events", f"{database}?table=events&order=id", options)
    shares = PrepareOptions(test_share=0.2)
    assert prepare(log, shares).fingerprint == prepare(csv_log(tmp_path), shares).fingerprint


def test_a_query_chooses_columns_and_rows(database):
    query = 'SELECT "user", item, "time" FROM events WHERE id < 10 ORDER BY id;'
    log = read_log("events", f"{database}?query={query.replace(' ', '%20').replace(';', '%3B')}")
    assert log.events.collect().height == 10
    assert log.events.collect()["row"].to_list() == list(range(10))


def test_without_an_order_all_columns_are_it(database):
    log = read_log("events", f"{database}?table=events")
    assert log.events.collect()["user_id"].to_list() == [row[1] for row in ROWS]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("table=nothing", "nothing"),
        ("table=events&order=when", "column 'when': no such column; the table has id, user, item"),
        ("query=SELEKT%201", "(?i)syntax error"),
    ],
)
def test_what_the_database_refuses_is_a_clear_error(database, parameters, message):
    with pytest.raises(DataError, match=message) as caught:
        read_log("events", f"{database}?{parameters}")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("parameters", ["", "?order=id", "?table=a&query=b", "?query=a&order=b"])
def test_an_address_without_one_table_or_query_says_how(database, parameters):
    with pytest.raises(ConfigError, match=r"should name \?table=NAME, perhaps with &order=COLUMN, or \?query=SELECT"):
        read_log("events", f"{database}{parameters}")


def test_times_with_a_zone_are_utc_and_nulls_are_malformed_rows(postgres):
    options = ReadOptions(columns={"time": "at"}, malformed_limit=0.5)
    log = read_log("events", f"{postgres}?table=moments", options)
    assert sorted(log.events.collect()["time"].to_list()) == [1_709_285_400, 1_709_287_200]
    assert log.notes["malformed_rows"] == 1


def test_a_password_is_nowhere_in_what_is_kept(postgres, tmp_path, caplog):
    caplog.set_level("DEBUG")
    log = read_log("events", f"{postgres}?table=events&sslmode=disable")
    prepare(log).save(tmp_path / "data")
    kept = (tmp_path / "data" / "dataset.json").read_text()
    assert "s3cret" not in kept + caplog.text
    assert "postgresql://shop@127.0.0.1" in kept


def test_a_wrong_password_is_a_clear_error_without_it(postgres):
    wrong = postgres.replace("s3cret", "gu3ss")
    with pytest.raises(DataError, match="password authentication failed") as caught:
        read_log("events", f"{wrong}?table=events")
    assert "gu3ss" not in str(caught.value)


def test_a_server_that_is_not_there_is_a_clear_error():
    pytest.importorskip("psycopg")
    with pytest.raises(DataError, match=r"postgresql://me@127.0.0.1:1/shop\?table=events: connection"):
        read_log("events", "postgresql://me:s3cret@127.0.0.1:1/shop?table=events")


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'mkmsr\[sql\]'"):
        read_log("events", "postgresql://me@127.0.0.1:1/shop?table=events")


@pytest.mark.parametrize("name", ["nowhere.db", "n" * 5000])
def test_a_database_file_that_is_not_there_is_not_made(tmp_path, name):
    with pytest.raises(DataError, match="no such file"):
        read_log("events", f"sqlite:///{tmp_path}/{name}?table=events")
    assert not list(tmp_path.iterdir())


def test_a_public_data_set_is_not_read_from_a_database():
    with pytest.raises(ConfigError, match="is of the kind 'events', not 'jdata'"):
        read_log("jdata", "sqlite:///shop.db?table=events")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:pw@host:5432/db?table=t", "postgresql://me@host:5432/db?table=t"),
        ("postgresql://host/db?password=pw&table=t", "postgresql://host/db?table=t"),
        ("postgres://me:p%40w@[::1]/db?table=a.t&sslkey=pw", "postgres://me@[::1]/db?table=a.t"),
        ("sqlite:////tmp/a.db?table=t", "sqlite:////tmp/a.db?table=t"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address, shown):
    assert masked(address) == shown


def test_a_path_is_no_address():
    assert is_address("postgresql://host/db")
    assert is_address(f"postgresql://host/{'d' * 5000}")  # No file has so long a name.
    assert not is_address("folder/postgresql.csv")
    assert not is_address("C:/logs/events.csv")
    assert not is_address(Path("a:b/events.csv"))


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:s3cret?@host/db?table=t",
        "postgresql://me:s3/cret@host/db?table=t",
        "postgresql://me:s3cret#@host/db?table=t",
        "postgresql://me:s3cret@host/db?tabel=t",
        "postgresql:/me:s3cret@host/db?table=t",
        "postgresql:me:s3cret@host/db?table=t",
        "postgresql://host/db?password=s3cret@&table=t",
        "mysql://me:s3cret@host/db?table=t",
        "mysql:/me:s3cret@host/db?table=t",
    ],
)
def test_no_message_shows_a_password_however_the_address_is_written(address, tmp_path, monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    assert "s3cret" not in masked(address)
    assert "cret" not in masked(address)
    for source in (address, Path(address)):
        with pytest.raises((ConfigError, DataError)) as caught:
            read_log("events", source)
        assert "cret" not in str(caught.value)


def test_an_address_without_a_host_names_it_as_a_parameter(postgres):
    port = postgres.rpartition(":")[2].partition("/")[0]
    log = read_log(
        "events", f"postgresql:///postgres?host=127.0.0.1&port={port}&user=shop&password=s3cret&table=events"
    )
    assert log.events.collect().height == len(ROWS)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1) TO STDOUT; DROP TABLE events; COPY (SELECT 1",
        "SELECT item, id FROM events; DROP TABLE events",
        "DELETE FROM events RETURNING *",
        "WITH gone AS (DELETE FROM events RETURNING *) SELECT * FROM gone",
        "CREATE TABLE copied AS SELECT * FROM events",
    ],
)
def test_a_query_changes_nothing(database, query):
    with pytest.raises(DataError):
        read_log("events", f"{database}?query={quote(query)}")
    assert read_log("events", f"{database}?table=events").events.collect().height == len(ROWS)


@pytest.mark.parametrize(
    "query", ["ATTACH '{}' AS other", "VACUUM INTO '{}'", "PRAGMA journal_mode=wal", "PRAGMA user_version=7"]
)
def test_a_query_of_sqlite_may_only_read(sqlite, tmp_path, query):
    other = tmp_path / "other.db"
    with pytest.raises(DataError, match="a query may only read"):
        read_log("events", f"{sqlite}?query={quote(query.format(other))}")
    assert not other.exists()


def test_columns_of_bytes_are_refused_as_ids_and_do_no_harm_elsewhere(database):
    if database.startswith("sqlite"):
        query = 'SELECT "user", item, id, CAST(item AS blob) AS packed FROM events ORDER BY id'
    else:
        query = 'SELECT "user", item, id, convert_to(item, $$UTF8$$) AS packed FROM events ORDER BY id'
    address = f"{database}?query={quote(query)}"
    assert read_log("events", address).events.collect().height == len(ROWS)
    with pytest.raises(DataError, match=r"column 'packed': holds bytes, which are no ids"):
        read_log("events", address, ReadOptions(columns={"item": "packed"}))


def test_whole_numbers_of_other_types_are_written_without_a_fraction(database):
    cast = "CAST(id AS real)" if database.startswith("sqlite") else "CAST(id AS numeric(20, 3))"
    query = f'SELECT "user", {cast} AS item FROM events ORDER BY id'
    log = read_log("events", f"{database}?query={quote(query)}")
    assert log.events.collect()["item_id"].to_list() == [str(row[0]) for row in ROWS]

"""Tables of a database as text files: PostgreSQL through a cursor, SQLite row by row, both read-only.

The table is named by one address, for events and attributes alike:

    postgresql://user@host:5432/shop?table=events
    postgresql://host/shop?sslmode=require&query=SELECT%20*%20FROM%20events%20ORDER%20BY%20id
    sqlite:///path/to/shop.db?table=events&order=id

`order` names the columns whose order is that of the rows, which breaks ties of time; without it all columns are, in
their order in the table. A query states its own. Passwords belong into ~/.pgpass or PGPASSWORD; one in the address
works and is never shown, logged or kept.
"""

from __future__ import annotations

import csv
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from mkmsr.data.readers.cells import EXACT
from mkmsr.errors import ConfigError, DataError
from mkmsr.runtime.files import Scratch

SCHEMES = ("postgresql", "postgres", "sqlite")
OWN = ("table", "query", "order")
"""Parameters that are ours; the others are the database's."""
SECRET = ("password", "passfile", "sslpassword", "sslkey")
ROWS = 10_000
"""Rows that are fetched at once."""
BYTEA, NUMERIC = 17, 1700
"""Numbers of PostgreSQL's types. Source: pg_type.dat."""

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/*)(?P<rest>.*)", re.DOTALL)
_OWN_BEGINS = re.compile(rf"[?&](?:{'|'.join(OWN)})=")
_SECRET = re.compile(rf"([?&])(?:{'|'.join(SECRET)})=[^&]*", re.IGNORECASE)
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
"""What a query of SQLite may do."""


def is_address(source: str | Path) -> bool:
    """Whether this is the address of a database, well written or not, and no path of a file that exists."""
    match = _ADDRESS.fullmatch(str(source))
    if match is None or not (match["scheme"].lower() in SCHEMES or match["slashes"] == "//" or "@" in match["rest"]):
        return False
    return not os.path.exists(source)  # noqa: PTH110 (Path.exists raises where a name is too long)


def masked(address: str) -> str:
    """The address without anything secret in it, whatever is wrong with it."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return address
    user, at, rest = _userinfo(_SECRET.sub(r"\1", match["rest"]))
    shown = user + at if match["scheme"].lower() == "sqlite" else re.split(r"[:/?#]", user)[0] + at
    place, mark, parameters = rest.partition("?")
    kept = urlencode([pair for pair in parse_qsl(parameters) if pair[0].lower() not in SECRET], safe="/:, *")
    return f"{match['scheme']}:{match['slashes']}{shown}{place}{mark if kept else ''}{kept}"


def extract(address: str, scratch: Scratch) -> tuple[Path, dict[str, str]]:
    """Return the table as a temporary CSV file, times in UTC, and why some of its columns cannot be used.

    An address that says too little raises ConfigError, a query that fails DataError.
    """
    match, label = _ADDRESS.fullmatch(address), masked(address)
    if match is None or match["scheme"].lower() not in SCHEMES:
        known = " or ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigError(f"no database that can be read; addresses begin with {known}", path=label)
    place, _, parameters = match["rest"].partition("?")
    named = dict(parse_qsl(parameters))
    is_sqlite = match["scheme"].lower() == "sqlite"
    user, at, _ = _userinfo(match["rest"])
    if match["slashes"] != ("///" if is_sqlite else "//") and not match["slashes"].startswith("///"):
        raise ConfigError("should begin with sqlite:///, or postgresql://", path=label)
    if not is_sqlite and at and set("/?#") & set(user):
        raise ConfigError("has a raw /, ? or # before its @; write them as %2F, %3F and %23", path=label)
    if len({"table", "query"} & named.keys()) != 1 or ("query" in named and "order" in named):
        raise ConfigError("should name ?table=NAME, perhaps with &order=COLUMN, or ?query=SELECT...", path=label)
    path = scratch.file(".csv")
    if is_sqlite:
        absolute = match["slashes"][3:] + place  # three slashes begin a relative path, four an absolute one
        return path, _from_sqlite(Path(unquote(absolute)), named, path, label=label)
    rest = urlencode([pair for pair in parse_qsl(parameters) if pair[0] not in OWN])
    dsn = f"postgresql://{match['slashes'][2:]}{place}?{rest}"
    secrets = {user.partition(":")[2], *(value for key, value in named.items() if key.lower() in SECRET)}
    return path, _from_postgres(dsn, named, path, label=label, secrets=secrets)


def _userinfo(rest: str) -> tuple[str, str, str]:
    """User and password, the sign @ if there is one, and what follows; marks that do not belong there included."""
    own = _OWN_BEGINS.search(rest)
    end = own.start() if own is not None else len(rest)
    user, at, place = rest[:end].rpartition("@")
    return user, at, place + rest[end:]


def _from_postgres(dsn: str, named: dict[str, str], path: Path, *, label: str, secrets: set[str]) -> dict[str, str]:
    try:
        import psycopg
    except ModuleNotFoundError:
        raise ConfigError("needs a library for PostgreSQL: pip install 'mkmsr[sql]'", path=label) from None
    try:
        with psycopg.connect(dsn, connect_timeout=10, client_encoding="UTF8") as connection:
            connection.read_only = True
            connection.execute("SET TIME ZONE 'UTC'")
            connection.execute("SET DATESTYLE TO 'ISO'")
            parts = named.get("table", "").split(".")
            query = _query(named, parts, lambda text: connection.execute(text.encode()).description or (), label)
            with connection.cursor("mkmsr_rows") as cursor:
                # As a cursor by the extended protocol it is one statement, and one that only reads.
                cursor.execute(query.encode())
                types = {each.name: each.type_code for each in cursor.description or ()}
                unusable = {name: BYTES for name, code in types.items() if code == BYTEA}
                numeric = [code == NUMERIC for code in types.values()]
                _write(path, list(types), _fetched(connection, numeric))
                return unusable
    except (psycopg.Error, UnicodeError, ValueError) as error:
        text = " ".join(str(error).split())
        for secret in (form for each in secrets if each for form in (each, unquote(each))):
            text = text.replace(secret, "***")
        raise DataError(text, path=label) from None


BYTES = "holds bytes, which are no ids or values; name a column of text"


def _fetched(connection: Any, numeric: Sequence[bool]) -> Iterator[list[str | None]]:
    """The rows of the cursor, as the server writes them."""
    while True:
        result = connection.execute(f"FETCH FORWARD {ROWS} FROM mkmsr_rows").pgresult
        for row in range(result.ntuples):
            cells = [result.get_value(row, column) for column in range(result.nfields)]
            texts = [None if cell is None else cell.decode() for cell in cells]
            # A decimal number has no zeros at its end.
            yield [
                text.rstrip("0").rstrip(".") if text and is_numeric and "." in text else text
                for text, is_numeric in zip(texts, numeric, strict=True)
            ]
        if result.ntuples < ROWS:
            return


def _from_sqlite(file: Path, named: dict[str, str], path: Path, *, label: str) -> dict[str, str]:
    if not os.path.isfile(file):  # noqa: PTH113 (Path.is_file raises where a name is too long)
        raise DataError("no such file", path=file)
    unusable: dict[str, str] = {}
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
            connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY)
            connection.text_factory = lambda content: content.decode("utf-8", "replace")
            parts = [named.get("table", "")]
            cursor = connection.execute(_query(named, parts, lambda text: connection.execute(text).description, label))
            if cursor.description is None:
                raise DataError("the query gives no rows; it should be a SELECT", path=label)
            names = [each[0] for each in cursor.description]
            _write(path, names, (_cells(row, names, unusable) for row in cursor))
    except (sqlite3.Error, sqlite3.Warning, UnicodeError, ValueError) as error:
        text = str(error)
        hint = "; a query may only read" if "authoriz" in text or "prohibited" in text else ""
        raise DataError(f"{text}{hint}", path=label) from None
    return unusable


def _cells(row: Sequence[Any], names: Sequence[str], unusable: dict[str, str]) -> list[Any]:
    """A row as texts and whole numbers; columns of bytes are noted and left empty."""
    cells = list(row)
    for place, cell in enumerate(cells):
        if isinstance(cell, bytes):
            unusable[names[place]] = BYTES
            cells[place] = None
        elif isinstance(cell, float) and cell.is_integer() and abs(cell) <= EXACT:
            cells[place] = int(cell)
    return cells


def _write(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)


def _query(named: dict[str, str], parts: Sequence[str], columns_of: Callable[[str], Any], label: str) -> str:
    """The query that the address states, or that of its table, whose name has these parts, in its order."""
    if "query" in named:
        return named["query"].rstrip("; \n\t")
    table = ".".join(map(_quoted, parts))
    columns = [each[0] for each in columns_of(f"SELECT * FROM {table} LIMIT 0")]
    order = [each.strip() for each in named["order"].split(",")] if "order" in named else columns
    for each in order:
        if each not in columns:
            raise DataError(f"no such column; the table has {', '.join(columns)}", path=label, column=each)
    return f"SELECT * FROM {table} ORDER BY {', '.join(map(_quoted, order))}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

"""Tables of a database as text files: PostgreSQL through its own COPY, SQLite row by row.

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
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from mkmsr.data.scratch import Scratch
from mkmsr.errors import ConfigError, DataError

__all__ = ["SCHEMES", "extract", "is_address", "masked"]

SCHEMES = ("postgresql", "postgres", "sqlite")
OWN = ("table", "query", "order")
"""Parameters that are ours; the others are the database's."""
SECRET = ("password", "passfile", "sslpassword", "sslkey")
ROWS = 10_000
"""Rows of SQLite written at once."""


def is_address(source: str | Path) -> bool:
    """Whether this is the address of a table in a database, and not a path."""
    return isinstance(source, str) and source.partition("://")[0].lower() in SCHEMES and "://" in source


def masked(address: str) -> str:
    """The address without anything secret in it."""
    parts = urlsplit(address)
    kept = urlencode([pair for pair in parse_qsl(parts.query) if pair[0].lower() not in SECRET], safe="/:, *")
    return f"{parts.scheme}://{_without_password(parts)}{parts.path}{'?' if kept else ''}{kept}"


def extract(address: str, scratch: Scratch) -> Path:
    """The rows of the table in a temporary CSV file, columns in the header, times in UTC.

    Raises:
        ConfigError: The address does not name a table or query, or a library is missing.
        DataError: The database cannot be reached, or the query fails.
    """
    parts = urlsplit(address)
    named = dict(parse_qsl(parts.query))
    if len({"table", "query"} & named.keys()) != 1 or ("query" in named and "order" in named):
        raise ConfigError(
            "should name ?table=NAME, perhaps with &order=COLUMN, or ?query=SELECT...", path=masked(address)
        )
    path = scratch.file(".csv")
    if parts.scheme.lower() == "sqlite":
        _from_sqlite(parts, named, path, label=masked(address))
    else:
        rest = [(key, value) for key, value in parse_qsl(parts.query) if key not in OWN]
        dsn = parts._replace(query=urlencode(rest)).geturl()
        _from_postgres(dsn, named, path, label=masked(address), secrets=_secrets(parts))
    return path


def _without_password(parts: SplitResult) -> str:
    """The part of an address between // and the path."""
    user, at, host = parts.netloc.rpartition("@")
    return f"{user.partition(':')[0]}{at}{host}"


def _secrets(parts: SplitResult) -> set[str]:
    """Texts that no message may show, as they are written and as they are meant."""
    found = [parts.password or "", *(value for key, value in parse_qsl(parts.query) if key.lower() in SECRET)]
    return {form for each in found if each for form in (each, unquote(each))}


def _from_postgres(dsn: str, named: dict[str, str], path: Path, *, label: str, secrets: set[str]) -> None:
    try:
        import psycopg
        from psycopg import sql
    except ModuleNotFoundError:
        raise ConfigError("needs a library for PostgreSQL: pip install 'mkmsr[sql]'", path=label) from None
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection, connection.cursor() as cursor:
            connection.read_only = True
            cursor.execute("SET TIME ZONE 'UTC'")
            cursor.execute("SET DATESTYLE TO 'ISO'")
            if "query" in named:
                rows: sql.Composable = sql.SQL(named["query"].rstrip("; "))
            else:
                table = sql.Identifier(*named["table"].split("."))
                cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(table))
                columns = [each.name for each in cursor.description or ()]
                order = sql.SQL(", ").join(map(sql.Identifier, _order(named, columns, label)))
                rows = sql.SQL("SELECT * FROM {} ORDER BY {}").format(table, order)
            copy_out = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, HEADER true, ENCODING 'UTF8')").format(rows)
            with path.open("wb") as file, cursor.copy(copy_out) as copy:
                for block in copy:
                    file.write(block)
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        for secret in secrets:
            text = text.replace(secret, "***")
        raise DataError(text, path=label) from None


def _from_sqlite(parts: SplitResult, named: dict[str, str], path: Path, *, label: str) -> None:
    file = Path(unquote(parts.path[1:]))  # three slashes begin a relative path, four an absolute one
    if not file.is_file():
        raise DataError("no such file", path=file)
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection,
            path.open("w", newline="", encoding="utf-8") as out,
        ):
            query = named.get("query")
            if query is None:
                table = _quoted(named["table"])
                columns = [each[0] for each in connection.execute(f"SELECT * FROM {table} LIMIT 0").description]
                order = ", ".join(map(_quoted, _order(named, columns, label)))
                query = f"SELECT * FROM {table} ORDER BY {order}"
            cursor = connection.execute(query)
            writer = csv.writer(out)
            writer.writerow([each[0] for each in cursor.description])
            while rows := cursor.fetchmany(ROWS):
                writer.writerows(rows)
    except sqlite3.Error as error:
        raise DataError(str(error), path=label) from None


def _order(named: dict[str, str], columns: list[str], label: str) -> list[str]:
    """The columns that order the rows."""
    if "order" not in named:
        return columns
    wanted = [each.strip() for each in named["order"].split(",")]
    for each in wanted:
        if each not in columns:
            raise DataError(f"no such column; the table has {', '.join(columns)}", path=label, column=each)
    return wanted


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

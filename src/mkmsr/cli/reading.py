"""The flags of `mkmsr prepare` that say how to read a raw log, and what runs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import AT_LEAST_ONE, WrongCall
from mkmsr.errors import nearest

if TYPE_CHECKING:
    from mkmsr.data.engines import EngineOptions
    from mkmsr.data.readers import ReadOptions

_GENERIC = Group("Only for the kind 'events'", sort_key=10)
_PUBLIC = Group("Only for public data sets", sort_key=11)
_ROWS = Group("Malformed rows", sort_key=12)
_ENGINE = Group("What runs it", sort_key=13)
_ATTRIBUTES = Group("Item knowledge", sort_key=11)
_SEVERAL = Parameter(group=_GENERIC, consume_multiple=True, negative=())
_FIELDS = ("item", "operation", "time", "user", "session", "split", "order")
_ATTRIBUTE_FIELDS = ("item", "relation", "value", "time", "use", "display")

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "min", "h", "d", "excel"]


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """How to read a raw log.

    Args:
        events: The same as SOURCE.
        attributes: Table of item attributes: long (item, relation, value) or wide (one column a relation). It and the
            events may be tables of a database: postgresql://user@host/shop?table=events
        columns: What the file calls its fields: item=sku,operation=type,time=ts,user=uid,session=sid. Only item and one
            of session and user are required; order=COLUMN orders the rows by a number that is no time.
        attribute_columns: What the attribute table calls its fields: item=sku, relation=, value= and time= of a long
            one; of a wide one, use=brand+category to learn from and display=name+image only to be shown. The page looks
            for name, price and image; display=name:title shows the column title as the name.
        multi: Separator of several values in one attribute cell, for example '|', or of one relation: 'category=|'.
            '[]' takes lists such as ["a", "b"] apart.
        levels: Relations whose values are paths, and what stands between the levels: 'category=>'
        item_separator: Separator of several items in one cell of an event, each of which becomes an event.
        separator: What stands between the fields of text files, such as ';' or '\\t'; by default commas in .csv, tabs
            in .tsv and .txt.
        attribute_separator: The same for the attribute table; by default as for the events.
        quote: Whether quotation marks enclose fields (double), or are characters like others (none).
        missing: Words that stand for a missing value, separated by commas: null,None
        time_unit: Unit of numeric times; excel is day numbers of Excel.
        time_format: How times are written, in the letters of strftime: '%d/%m/%Y %H:%M'
        time_zone: The zone of times that name none, such as Europe/Berlin; UTC by default.
        relations: Relations of item knowledge, separated by commas; the data set's own by default, "none" for none.
        attributes_at: Item knowledge as it was at this time, like 2015-09-01 (UTC); by default before the test begins.
        scratch: Folder for temporary files of large logs; the system's by default. On a cluster, one that all see.
        strict: A malformed row is an error; otherwise such rows are left out, counted and reported.
        malformed_limit: More malformed rows than this share of a file are an error.
    """

    events: Annotated[str | None, Parameter(group=_GENERIC)] = None
    attributes: Annotated[str | None, Parameter(group=_GENERIC)] = None
    columns: Annotated[str, Parameter(group=_GENERIC)] = ""
    attribute_columns: Annotated[str, Parameter(group=_GENERIC)] = ""
    multi: Annotated[tuple[str, ...], _SEVERAL] = ()
    levels: Annotated[tuple[str, ...], _SEVERAL] = ()
    item_separator: Annotated[str | None, Parameter(group=_GENERIC)] = None
    separator: Annotated[str | None, Parameter(group=_GENERIC)] = None
    attribute_separator: Annotated[str | None, Parameter(group=_GENERIC)] = None
    quote: Annotated[Literal["double", "none"], Parameter(group=_GENERIC)] = "double"
    missing: Annotated[str, Parameter(group=_GENERIC)] = ""
    time_unit: Annotated[TimeUnit, Parameter(group=_GENERIC)] = "auto"
    time_format: Annotated[str | None, Parameter(group=_GENERIC)] = None
    time_zone: Annotated[str | None, Parameter(group=_GENERIC)] = None
    relations: Annotated[str | None, Parameter(group=_PUBLIC)] = None
    attributes_at: Annotated[datetime | None, Parameter(group=_ATTRIBUTES)] = None
    scratch: Annotated[Path | None, Parameter(group=_ENGINE)] = None
    strict: Annotated[bool, Parameter(group=_ROWS, negative=())] = False
    malformed_limit: Annotated[float, Parameter(group=_ROWS, validator=Number(gte=0, lte=1))] = 0.01

    def source(self, given: str | None) -> str:
        """Return the raw log, which must stand either as SOURCE or with `--events`."""
        if (given is None) == (self.events is None):
            raise WrongCall("give the raw log once: as SOURCE or with --events")
        return given or self.events or ""

    def options(self) -> ReadOptions:
        """Return the same for the library; a mapping that does not read field=column is a `WrongCall`."""
        from mkmsr.data.readers import ReadOptions

        read = {
            "columns": named_columns("--columns", self.columns, _FIELDS),
            "attribute_columns": named_columns("--attribute-columns", self.attribute_columns, _ATTRIBUTE_FIELDS),
            "multi": _multi(self.multi),
            "levels": dict(_by_relation("--levels", each) for each in self.levels),
            "quote": self.quote == "double",
            "missing": tuple(self.missing.split(",")) if self.missing else (),
            "relations": _relations(self.relations),
        }
        return ReadOptions(**{key: value for key, value in (vars(self) | read).items() if key != "events"})


@Parameter(name="*", group=_ENGINE)
@dataclass(frozen=True)
class Running:
    """What runs a preparation. The result does not depend on it.

    Args:
        engine: polars, in memory, the fastest; duckdb, within --memory-limit, the rest on disk; spark, on a cluster.
        memory_limit: Memory that the process should stay below, like 2GB (duckdb), or of the driver's heap (spark).
        threads: Threads of duckdb; by default one a core.
        spark_master: Address of a Spark cluster, like spark://host:7077; by default this machine.
    """

    engine: Literal["polars", "duckdb", "spark"] = "polars"
    memory_limit: str | None = None
    threads: Annotated[int | None, AT_LEAST_ONE] = None
    spark_master: str = "local[*]"

    def options(self, scratch: Path | None) -> EngineOptions:
        """Return the same for the library; a memory limit that is no size, or too small, is a `WrongCall`."""
        from mkmsr.data.engines import LEAST_MEMORY, EngineOptions

        memory = None if self.memory_limit is None else byte_count(self.memory_limit)
        if memory is not None and memory < LEAST_MEMORY:
            raise WrongCall(
                f"--memory-limit: {self.memory_limit!r} is too little, {LEAST_MEMORY >> 20}MiB is the least"
            )
        return EngineOptions(**{**vars(self), "memory_limit": memory, "scratch": scratch})


def known_kind(_type: Any, kind: str) -> None:
    """Accept a registered kind of raw log, or raise what Cyclopts shows as a wrong call."""
    from mkmsr.data.readers import READERS
    from mkmsr.data.readers.sql import is_address, masked

    if kind not in READERS:
        if is_address(kind) or Path(kind).exists():
            raise ValueError(f"it is a source, and its kind goes before it: mkmsr prepare events {masked(kind)}")
        known = "; ".join(f"{name}: {reader.summary}" for name, reader in READERS.items())
        raise ValueError(f"no kind of log {kind!r}{nearest(kind, READERS) or '.'} Known: {known}")


def byte_count(text: str) -> int:
    """Return the bytes in "2GB", "512MiB" or "1.5 GB"; another form is a `WrongCall`."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*([KMG]I?)?B?", text.strip().upper())
    if match is None:
        raise WrongCall(f"--memory-limit: {text!r} should read like 2GB or 512MiB")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def bucket_count(text: str) -> tuple[str, int]:
    """Return relation and number in "price=20"; another form is a `WrongCall`."""
    relation, _, count = text.rpartition("=")
    if not relation or not re.fullmatch(r"\d{1,9}", count) or int(count) < 2:
        raise WrongCall(f"--buckets: {text!r} should read relation=number, 2 or more, for example price=20")
    return relation, int(count)


def named_columns(flag: str, text: str, fields: tuple[str, ...]) -> dict[str, str]:
    """Return the mapping in "item=sku,time=ts"; a comma belongs to a name unless a field and a sign follow."""
    names: dict[str, str] = {}
    for part in re.split(rf",(?=\s*(?:{'|'.join(fields)})\s*=)|,(?=[^,=]*=)", text) if text else ():
        field, separator, column = part.partition("=")
        field = field.strip()
        if not separator:
            raise WrongCall(f"{flag}: {part!r} should read field=column, for example item=sku,time=ts")
        if field not in fields:
            raise WrongCall(f"{flag}: no field {field!r}{nearest(field, fields)} (fields: {', '.join(fields)})")
        if field in names:
            raise WrongCall(f"{flag}: the field {field!r} is named twice")
        names[field] = column.strip()
    return names


def _by_relation(flag: str, text: str) -> tuple[str, str]:
    relation, sign, separator = text.rpartition("=")
    if not sign or not relation or not separator:
        raise WrongCall(f"{flag}: {text!r} should read relation=separator, for example 'category=|'")
    return relation, separator


def _multi(given: tuple[str, ...]) -> str | dict[str, str] | None:
    """One separator for all relations, or one for each that is named."""
    if len(given) == 1 and "=" not in given[0][1:]:
        return given[0]
    return dict(_by_relation("--multi", each) for each in given) or None


def _relations(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text.strip() in {"", "none"} else tuple(part.strip() for part in text.split(","))

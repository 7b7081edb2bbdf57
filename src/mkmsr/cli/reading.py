"""The flags of `mkmsr prepare` that say how to read a raw log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import WrongCall
from mkmsr.errors import nearest

if TYPE_CHECKING:
    from mkmsr.data.readers import ReadOptions

__all__ = ["READING", "Reading", "bucket_count", "known_kind"]

_GENERIC = Group("Only for the kind 'events'", sort_key=10)
_PUBLIC = Group("Only for public data sets", sort_key=11)
_ROWS = Group("Malformed rows", sort_key=12)
_FILES = Group("What runs it", sort_key=13)
_FIELDS = ("item", "operation", "time", "user", "session", "split")


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """How to read a raw log.

    Args:
        events: The same as SOURCE.
        attributes: Table of item attributes: long (item, relation, value) or wide (one column a relation). It and the
            events may be tables of a database: postgresql://user@host/shop?table=events
        columns: What the file calls its fields: item=sku,operation=type,time=ts,user=uid,session=sid. Only item and one
            of session and user are required.
        multi: Separator of several values in one attribute cell, for example '|'.
        separator: What stands between the fields of text files, such as ';'; by default commas in .csv, tabs in .tsv
            and .txt.
        time_unit: Unit of numeric times.
        relations: Relations of item knowledge, separated by commas; the data set's own by default, "none" for none.
        attributes_at: Item knowledge as it was at this time, like 2015-09-01 (UTC); by default before the test begins.
        scratch: Folder for temporary files of large logs; the system's by default. On a cluster, one that all see.
        strict: A malformed row is an error; otherwise such rows are left out, counted and reported.
        malformed_limit: More malformed rows than this share of a file are an error.
    """

    events: Annotated[str | None, Parameter(group=_GENERIC)] = None
    attributes: Annotated[str | None, Parameter(group=_GENERIC)] = None
    columns: Annotated[str, Parameter(group=_GENERIC)] = ""
    multi: Annotated[str | None, Parameter(group=_GENERIC)] = None
    separator: Annotated[str | None, Parameter(group=_GENERIC)] = None
    time_unit: Annotated[Literal["auto", "s", "ms", "us", "ns"], Parameter(group=_GENERIC)] = "auto"
    relations: Annotated[str | None, Parameter(group=_PUBLIC)] = None
    attributes_at: Annotated[datetime | None, Parameter(group=_PUBLIC)] = None
    scratch: Annotated[Path | None, Parameter(group=_FILES)] = None
    strict: Annotated[bool, Parameter(group=_ROWS, negative=())] = False
    malformed_limit: Annotated[float, Parameter(group=_ROWS, validator=Number(gte=0, lte=1))] = 0.01

    def source(self, given: str | None) -> str:
        """The raw log, which stands either as SOURCE or with `--events`.

        Raises:
            WrongCall: It is given twice, or not at all.
        """
        if (given is None) == (self.events is None):
            raise WrongCall("give the raw log once: as SOURCE or with --events")
        return given or self.events or ""

    def options(self) -> ReadOptions:
        """The same for the library.

        Raises:
            WrongCall: The column mapping does not read field=column.
        """
        from mkmsr.data.readers import ReadOptions

        return ReadOptions(
            columns=_column_names(self.columns),
            attributes=self.attributes,
            multi=self.multi,
            separator=self.separator,
            time_unit=self.time_unit,
            relations=_relations(self.relations),
            attributes_at=self.attributes_at,
            scratch=self.scratch,
            strict=self.strict,
            malformed_limit=self.malformed_limit,
        )


READING = Reading()
"""The flags as they are when none is given."""


def known_kind(_type: Any, kind: str) -> None:
    """Accept a registered kind of raw log.

    Raises:
        ValueError: There is no such kind.
    """
    from mkmsr.data.readers import READERS

    if kind not in READERS:
        if "://" in kind or Path(kind).exists():
            raise ValueError(f"it is a source, and its kind goes before it: mkmsr prepare events {kind}")
        known = "; ".join(f"{name}: {reader.summary}" for name, reader in READERS.items())
        raise ValueError(f"no kind of log {kind!r}{nearest(kind, READERS) or '.'} Known: {known}")


def bucket_count(text: str) -> tuple[str, int]:
    """Relation and number in "price=20".

    Raises:
        WrongCall: The text has another form.
    """
    relation, _, count = text.rpartition("=")
    if not relation or not count.isdecimal() or int(count) < 2:
        raise WrongCall(f"--buckets: {text!r} should read relation=number, 2 or more, for example price=20")
    return relation, int(count)


def _column_names(text: str) -> dict[str, str]:
    """The mapping in "item=sku,time=ts"."""
    names: dict[str, str] = {}
    for part in text.split(",") if text else ():
        field, separator, column = part.partition("=")
        if not separator:
            raise WrongCall(f"--columns: {part!r} should read field=column, for example item=sku,time=ts")
        if field.strip() not in _FIELDS:
            raise WrongCall(f"--columns: no field {field!r}{nearest(field, _FIELDS)} (fields: {', '.join(_FIELDS)})")
        if field.strip() in names:
            raise WrongCall(f"--columns: the field {field.strip()!r} is named twice")
        names[field.strip()] = column.strip()
    return names


def _relations(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text.strip() in {"", "none"} else tuple(part.strip() for part in text.split(","))

"""What a reader may be told about a raw log."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mkmsr.config import StrictModel
from mkmsr.errors import ConfigError

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "min", "h", "d", "excel"]


def _separator(text: str | None) -> str | None:
    r"""A separator as it is meant: \t as people type it is a tab."""
    if text is None:
        return None
    try:
        meant = text.encode("latin-1", "backslashreplace").decode("unicode_escape") if text.startswith("\\") else text
    except UnicodeDecodeError:  # a backslash alone
        meant = text
    if not meant or set(meant) & set('"\n\r'):
        raise ValueError(f"no separator: {text!r}")
    return meant


Separator = Annotated[str | None, AfterValidator(_separator)]


class ReadOptions(StrictModel):
    """How to read a raw log. Readers of a fixed format refuse what they have no use for."""

    columns: dict[str, str] = Field(default_factory=dict)
    """The file's name of each field: item, operation, time, user, session, split, order. A field that is not named here
    is the column of its own name, if there is one (but not order); an empty name says that there is none."""
    attributes: str | Path | None = None
    """A table of item attributes, long (item, relation, value) or wide (one column a relation): a file, a folder, a
    pattern, or the address of a table in a database."""
    attribute_columns: dict[str, str] = Field(default_factory=dict)
    """What the attribute table calls `item`, and `relation`, `value` and `time` of a long one; of a wide one, which
    columns to `use` and which to `display`, with + between them; `name:title` shows the column title as name."""
    attribute_separator: Separator = None
    """What stands between the fields of the attribute table; None takes `separator`."""
    multi: str | dict[str, str] | None = Field(default=None, min_length=1)
    """Separator of several values in one attribute cell, for all relations or by relation. "[]" takes lists apart."""
    levels: dict[str, str] = Field(default_factory=dict)
    """Relations whose values are paths, and what stands between their levels: {"category": ">"} makes of "a > b" also
    the value "a"."""
    item_separator: str | None = Field(default=None, min_length=1)
    """Separator of several items in one cell of an event, each of which becomes an event. "[]" takes lists apart."""
    separator: Separator = None
    """What stands between the fields of text files, one character or more; None takes it from their names: commas in
    .csv, tabs in .tsv and .txt."""
    quote: bool = True
    """Whether quotation marks enclose fields of text files; if not, they are characters like others."""
    missing: tuple[str, ...] = ()
    """Words that stand for a missing value, such as null."""
    time_unit: TimeUnit = "auto"
    """Unit of numeric times; "auto" tells seconds to nanoseconds from their size. "excel" counts days from 1900."""
    time_format: str | None = Field(default=None, min_length=1)
    """How times are written, with the letters of strftime: "%d/%m/%Y %H:%M"."""
    time_zone: str | None = Field(default=None, min_length=1)
    """The zone of times that name none, such as Europe/Berlin; None is UTC."""
    strict: bool = False
    """Whether a single malformed row is an error. Otherwise such rows are left out, counted and reported."""
    malformed_limit: float = Field(default=0.01, ge=0, le=1)
    """More malformed rows than this share of a file (0..1) are an error: then it is probably another kind of file."""
    relations: tuple[str, ...] | None = None
    """Relations of item knowledge to take from a public data set; None takes those that its reader calls its own."""
    attributes_at: datetime | None = None
    """Where a data set has attributes at several times: take what was known then (UTC); None takes the time by which
    nine tenths of the events have happened, where preparation by default begins the test."""
    scratch: Path | None = None
    """Folder for temporary files of large logs; None is the system's. Named, it is used for logs of any size."""

    def refuse(self, kind: str, *, allowed: tuple[str, ...]) -> None:
        """Raise ConfigError if an option differs from its default that is not allowed."""
        for name, info in type(self).model_fields.items():
            if name not in allowed and getattr(self, name) != info.get_default(call_default_factory=True):
                raise ConfigError(f"the reader {kind!r} has no use for this option", key=name)

"""The generic reader: any event table, with the columns that it happens to have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.attributes import read_attributes
from mkmsr.data.readers.canonical import FIELDS, ONE_OPERATION, canonical_events
from mkmsr.data.readers.malformed import MalformedRows
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.sources import RawSource, open_source
from mkmsr.errors import ConfigError, DataError, nearest
from mkmsr.runtime.files import Scratch

_ABSENT = {
    "operation": f"every event has the one operation {ONE_OPERATION!r}",
    "time": "the order of the rows counts, and --gap counts rows",
}
"""What holds in a log without such a column."""

_PUBLIC_ONLY = {"relations"}
"""Options that say what to take from the files of a public data set."""

_ATTRIBUTES_ONLY = ("multi", "levels", "attribute_columns", "attribute_separator", "attributes_at")


def read_events(source: str | Path, options: ReadOptions) -> InteractionLog:
    """The log in one event table, with the attributes in another if there is one.

    Only items and one of sessions and users are required. Without operations all events have one; without times the
    order of the rows counts; without sessions preparation cuts them by gap. Ids are text and kept exactly as written.

    Raises:
        DataError: A file or column is missing or not as it should be; names the file, row and column.
        ConfigError: The column mapping names an unknown field, or an option is for public data sets.
    """
    options.refuse("events", allowed=tuple(type(options).model_fields.keys() - _PUBLIC_ONLY))
    scratch, known = Scratch(options.scratch), None
    opened = open_source(source, options, scratch)
    if options.attributes is not None:
        separator = options.attribute_separator or options.separator
        known = open_source(options.attributes, options.model_copy(update={"separator": separator}), scratch)
    name = Path(opened.label.partition("?")[0]).name.split(".")[0]
    return read_opened(opened, known, name=name)


def read_opened(opened: RawSource, known: RawSource | None, *, name: str) -> InteractionLog:
    """Return the log in opened tables: one of events, and perhaps one of item attributes; see `read_events`."""
    options = opened.options
    columns = _mapping(opened, options.columns)
    notes: dict[str, Any] = {"columns": columns, **_not_used(opened, columns)}
    malformed = MalformedRows(options, notes)
    events, files = canonical_events(opened, columns, malformed)
    sources, attributes, display = opened.sources, None, None
    if known is not None:
        attributes, display = read_attributes(known, events, columns["item"], malformed)
        sources += known.sources
    elif unused := [each for each in _ATTRIBUTES_ONLY if getattr(options, each)]:
        raise ConfigError("is about an attribute table, but none is given", key=unused[0])
    return InteractionLog(
        events,
        attributes,
        name=name,
        sources=sources,
        column_names={FIELDS[field]: column for field, column in columns.items() if field != "order"},
        notes=notes,
        files=files,
        display=display,
        scratch=opened.scratch,
    )


def _mapping(source: RawSource, wanted: Mapping[str, str]) -> dict[str, str]:
    """The source's column of each field that it has.

    A field without a mapping is the column of its own name, if there is one; mapped to nothing, it is left out.
    """
    for field in wanted:
        if field not in FIELDS:
            raise ConfigError(
                f"unknown field{nearest(field, FIELDS)}; fields: {', '.join(FIELDS)}", key=f"columns.{field}"
            )
    names = source.columns
    if len(names) == 1 and (others := [each for each in ("\t", "::", *";,|") if each in names[0]]):
        raise DataError(
            f"the header is a single field, {names[0]!r}; fields stand between commas in .csv, tabs in .tsv and .txt, "
            f"others take --separator {others[0]!r}",
            path=source.tables[0].path,
            row=1,
        )
    own = {field: field for field in FIELDS if field in names and field not in wanted and field != "order"}
    columns = {**own, **{field: column for field, column in wanted.items() if column}}
    source.check(*columns.values())
    for needed in (("item",), ("session", "user")):
        if not set(needed) & set(columns):
            lacking = " or ".join(map(repr, needed))
            option = "" if source.frame else "--columns "
            way_out = f"say which one it is with {option}{needed[-1]}=NAME, one of {', '.join(names)}"
            raise DataError(f"no column {lacking}; {way_out}", path=source.label)
    return {field: columns[field] for field in FIELDS if field in columns}


def _not_used(source: RawSource, columns: Mapping[str, str]) -> dict[str, list[str]]:
    """Columns that no field is read from, and what holds instead of fields without a column: perhaps a slip."""
    unused = [name for name in source.columns if name not in columns.values()]
    assumed = [
        f"{field}: {meaning if field != 'time' or 'order' not in columns else 'the order column counts'}"
        for field, meaning in _ABSENT.items()
        if field not in columns
    ]
    return {key: each for key, each in (("unused_columns", unused), ("assumed", assumed)) if each}

"""The generic reader: any event table, with the columns that it happens to have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.canonical import FIELDS, ONE_OPERATION, as_text, canonical_events
from mkmsr.data.readers.malformed import MalformedRows, empty, marks
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.pieces import RawPieces, open_table
from mkmsr.data.readers.table import ROW, check_names
from mkmsr.data.scratch import Scratch
from mkmsr.errors import ConfigError, DataError, nearest

__all__ = ["read_events"]

RELATION_BITS = 40
"""Rows of a wide attribute table are numbered relation by relation; one has fewer than 2^40."""

_ABSENT = {
    "operation": f"every event has the one operation {ONE_OPERATION!r}",
    "time": "the order of the rows counts, and --gap counts rows",
}
"""What holds in a log without such a column."""

_PUBLIC_ONLY = {"relations", "attributes_at"}
"""Options that say what to take from the files of a public data set."""


def read_events(source: str | Path, options: ReadOptions) -> InteractionLog:
    """The log in one event table, with the attributes in another if there is one.

    Only items and one of sessions and users are required. Without operations all events have one; without times the
    order of the rows counts; without sessions preparation cuts them by gap. Ids are text and kept exactly as written.

    Args:
        source: A file, a folder of Parquet files, or the address of a table in a database.
        options: How to read it.

    Raises:
        DataError: A file or column is missing or not as it should be; names the file, row and column.
        ConfigError: The column mapping names an unknown field, or an option is for public data sets.
    """
    options.refuse("events", allowed=tuple(type(options).model_fields.keys() - _PUBLIC_ONLY))
    malformed, scratch = MalformedRows(options), Scratch(options.scratch)
    table = open_table(source, options, malformed, scratch)
    columns = _mapping(table, options.columns)
    notes: dict[str, Any] = {"columns": columns, **_not_used(table, columns)}
    events = canonical_events(table, columns, options, malformed, notes, scratch)
    sources = table.sources
    attributes = None
    if options.attributes is not None:
        known = open_table(options.attributes, options, malformed, scratch)
        attributes = _attributes(known, columns["item"], options, malformed, scratch)
        sources += known.sources
    elif options.multi is not None:
        raise ConfigError("splits cells of an attribute table, but none is given", key="multi")
    return InteractionLog(
        events.rows,
        attributes,
        name=Path(table.label.partition("?")[0]).name.split(".")[0],
        sources=sources,
        column_names={FIELDS[field]: column for field, column in columns.items()},
        notes={**notes, **malformed.notes()},
        files=events.files,
        scratch=scratch,
    )


def _mapping(table: RawPieces, wanted: Mapping[str, str]) -> dict[str, str]:
    """The file's column of each field that it has.

    A field without a mapping is the column of its own name, if there is one; mapped to nothing, it is left out.
    """
    for field in wanted:
        if field not in FIELDS:
            raise ConfigError(
                f"unknown field{nearest(field, FIELDS)}; fields: {', '.join(FIELDS)}", key=f"columns.{field}"
            )
    names = [name for name in table.columns if name != ROW]
    if len(names) == 1 and (others := [each for each in ";,\t|" if each in names[0]]):
        raise DataError(
            f"the header is a single field, {names[0]!r}; fields stand between commas in .csv, tabs in .tsv and .txt, "
            f"others take --separator {others[0]!r}",
            path=table.label,
            row=1,
        )
    own = {field: field for field in FIELDS if field in names and field not in wanted}
    columns = {**own, **{field: column for field, column in wanted.items() if column}}
    check_names(names, table.label, *columns.values())
    for needed in (("item",), ("session", "user")):
        if not set(needed) & set(columns):
            lacking = " or ".join(map(repr, needed))
            way_out = f"say which one it is with --columns {needed[-1]}=NAME, one of {', '.join(names)}"
            raise DataError(f"no column {lacking}; {way_out}", path=table.label)
    return {field: columns[field] for field in FIELDS if field in columns}


def _not_used(table: RawPieces, columns: Mapping[str, str]) -> dict[str, list[str]]:
    """Columns that no field is read from, and what holds instead of fields without a column: perhaps a slip."""
    unused = [name for name in table.columns if name not in {ROW, *columns.values()}]
    assumed = [f"{field}: {meaning}" for field, meaning in _ABSENT.items() if field not in columns]
    return {key: each for key, each in (("unused_columns", unused), ("assumed", assumed)) if each}


def _attributes(
    table: RawPieces, item_column: str, options: ReadOptions, malformed: MalformedRows, scratch: Scratch
) -> pl.LazyFrame:
    """`item_id`, `relation`, `value`, `row` from a long or wide table; empty values stay, preparation counts them."""
    item = "item" if "item" in table.columns and item_column not in table.columns else item_column
    known = [name for name in table.columns if name != ROW]
    if item not in known:
        like_events = "" if item == "item" else f", or {item!r} as in the events"
        raise DataError(
            f"no column of items, which should be called 'item'{like_events}; the file has {', '.join(known)}",
            path=table.label,
        )
    names = [name for name in known if name != item]
    is_long = {"relation", "value"} <= set(names)
    if not names:
        raise DataError(
            "has no column beside the item; give relation and value, or one column a relation", path=table.label
        )
    keys = [item, "relation"] if is_long else [item]
    pieces = _long_pieces(table, item, keys, [] if is_long else names, options, malformed)
    if table.is_whole:
        return pl.concat(list(pieces)).lazy()
    files = []
    for piece in pieces:
        files.append(scratch.file(".parquet"))
        piece.write_parquet(files[-1], compression="lz4")
    return pl.scan_parquet(files, glob=False)


def _long_pieces(
    table: RawPieces,
    item: str,
    keys: list[str],
    relations: list[str],
    options: ReadOptions,
    malformed: MalformedRows,
) -> Iterator[pl.DataFrame]:
    """The long form of each piece. Rows are numbered relation by relation, in the order of the file."""
    counts = dict.fromkeys(relations or [""], 0)
    faults = [empty(name) for name in keys]
    for piece in table:
        checked = piece.with_columns(as_text(piece[name], table.label) for name in keys)
        good = malformed.drop(checked.with_columns(marks(faults)).lazy(), faults, table.label).collect()
        for place, name in enumerate(counts):
            if relations:
                rows = _relation(good, item, name)
            else:
                rows = good.select(pl.col(item).alias("item_id"), pl.col("relation", "value").cast(pl.String))
            if options.multi is not None:
                parts = pl.col("value").str.split(options.multi)
                rows = rows.with_columns(value=parts).explode("value").with_columns(pl.col("value").str.strip_chars())
            first = (place << RELATION_BITS) + counts[name]
            yield rows.with_columns(row=pl.int_range(first, first + pl.len(), dtype=pl.Int64))
            counts[name] += rows.height


def _relation(table: pl.DataFrame, item: str, name: str) -> pl.DataFrame:
    """One column of a wide table as rows; a list of Parquet is several values."""
    column = table.select(pl.col(item).alias("item_id"), pl.lit(name).alias("relation"), pl.col(name).alias("value"))
    if column.schema["value"] == pl.List:
        column = column.explode("value")
    return column.with_columns(pl.col("value").cast(pl.String))

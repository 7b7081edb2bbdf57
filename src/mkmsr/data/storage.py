"""A prepared dataset as a folder: JSON that says what it is, Parquet tables, a checksum of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source
from pydantic import BaseModel, ConfigDict, Field

from mkmsr.data.log import SPLITS
from mkmsr.data.sessions import EarlierItems, SessionTable, offsets_of
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import DataError
from mkmsr.runtime.files import (
    atomic_folder,
    atomic_write,
    may_replace,
    read_signed,
    read_verified,
    sha256,
    signed_json,
)
from mkmsr.runtime.parquet import read_table

FORMAT: Literal["mkmsr prepared dataset"] = "mkmsr prepared dataset"
FORMAT_VERSION = 2
UNSIGNED_VERSION = 1
"""Folders of this version are read too: they are the same, but `dataset.json` has no checksum of its own."""
DESCRIPTION = "dataset.json"
VOCABULARIES = {"items": "item", "operations": "operation", "relations": "relation", "attributes": "attribute"}
EARLIER = "earlier"
"""Table of what visitors touched in earlier sessions, where the data say so."""
DISPLAY = "display"
"""Table of what is shown with items and never learnt from, where the log had such columns."""
Display = Mapping[str, Mapping[str, str]]
"""By item id, names and values of what is shown with it."""
SESSIONS_AT_ONCE = 200_000
"""Sessions whose events are a table at one time while they are written."""
MOST_EMPTY = 1_000_000
"""Sessions without events that are believed: their number says how much memory the others' places take."""

_EVENT = {"split": pl.String(), "session": pl.Int64(), "item": pl.Int32(), "operation": pl.Int16()}
COLUMNS: dict[str, dict[str, pl.DataType]] = {
    **{name: {"index": pl.Int64(), "id": pl.String()} for name in VOCABULARIES},
    "triples": {"item": pl.Int64(), "relation": pl.Int64(), "entity": pl.Int64()},
    "sessions": {**_EVENT, "time": pl.Int64()},
    EARLIER: _EVENT,
    DISPLAY: {"item": pl.String(), "name": pl.String(), "value": pl.String()},
}
"""The tables and their columns."""


class Description(BaseModel):
    """What `dataset.json` says; entries beyond these are the dataset's metadata."""

    model_config = ConfigDict(extra="allow", strict=True)

    format: Literal["mkmsr prepared dataset"] = FORMAT
    format_version: int = FORMAT_VERSION
    name: str
    new_items: Literal["drop", "keep"]
    max_session_events: int = Field(ge=2)
    fingerprint: str
    counts: dict[str, Any]
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file."""
    sha256: str | None = Field(default=None, exclude=True)
    """Of the description itself, checked before it is looked at."""


class Contents(NamedTuple):
    """The parts of a prepared dataset; vocabularies are those of items, operations, relations and attributes."""

    vocabularies: Sequence[Vocabulary]
    triples: NDArray[np.int64]
    splits: Sequence[SessionTable]
    display: Display


def save_contents(path: str | Path, description: Description, contents: Contents) -> None:
    """Write the folder, or raise DataError and leave an old one, or something else that is there, untouched."""
    if not may_replace(path, DESCRIPTION):
        raise DataError("something else is here, and it is not overwritten; choose another folder", path=path)
    try:
        with atomic_folder(path) as folder:
            for name, table in _tables(contents).items():
                file = folder / f"{name}.parquet"
                table.sink_parquet(file)
                description.files[file.name] = sha256(file)
            atomic_write(folder / DESCRIPTION, signed_json(description.model_dump()))
    except (OSError, pl.exceptions.PolarsError) as error:
        # What the system said, without what the libraries in between made of it.
        said = str(error).partition("\n")[0].partition(" (os error")[0].rpartition(" error: ")[2]
        reason = getattr(error, "strerror", None) or said
        raise DataError(f"cannot write the dataset: {reason}", path=path) from error


def load_contents(path: str | Path) -> tuple[Description, Contents]:
    """Read the folder; its bytes are those whose checksums were verified.

    A file that is missing, altered, of another format, or that unpacks to far more than its size raises DataError.
    """
    folder = Path(path)
    if not (folder / DESCRIPTION).is_file():
        raise DataError(f"not a prepared dataset: lacks {DESCRIPTION}; make one with `mkmsr prepare`", path=folder)
    versions, unsigned = (UNSIGNED_VERSION, FORMAT_VERSION), (UNSIGNED_VERSION,)
    description = read_signed(
        folder / DESCRIPTION, Description, form=FORMAT, versions=versions, unsigned=unsigned, wrong=_wrong
    )
    names = [name for name in COLUMNS if name not in (EARLIER, DISPLAY) or f"{name}.parquet" in description.files]
    tables = {name: _read(folder / f"{name}.parquet", COLUMNS[name], description.files) for name in names}
    vocabularies = [
        Vocabulary(tables[name].sort("index")["id"].to_list(), kind=kind) for name, kind in VOCABULARIES.items()
    ]
    try:
        sizes = [description.counts[split]["sessions"] for split in SPLITS]
        splits = [_sessions(tables, split, size) for split, size in zip(SPLITS, sizes, strict=True)]
        triples = np.ascontiguousarray(tables["triples"].to_numpy().reshape(-1, 3))
        _check_indexes(vocabularies, triples, splits)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"its counts, tables and vocabularies contradict each other: {error}", path=path) from None
    display = display_of(tables[DISPLAY]) if DISPLAY in tables else {}
    return description, Contents(vocabularies, triples, splits, display)


def display_table(display: Display) -> pl.DataFrame:
    """Return one row for each item and name: `item`, `name`, `value`."""
    rows = [(item, name, value) for item, named in display.items() for name, value in named.items()]
    return pl.DataFrame(rows, schema=COLUMNS[DISPLAY], orient="row")


def display_of(table: pl.DataFrame) -> Display:
    """Return what such a table says; of several values under one name, the first."""
    display: dict[str, dict[str, str]] = {}
    for item, name, value in table.iter_rows():
        display.setdefault(item, {}).setdefault(name, value)
    return display


def content_fingerprint(settings: list[Any], contents: Contents) -> str:
    """Return the SHA-256 of everything that a model sees: settings, vocabularies, sessions and triples."""
    digest = hashlib.sha256()
    said = [*settings, *(list(each.ids) for each in contents.vocabularies)]
    digest.update(json.dumps(said, ensure_ascii=True).encode("ascii"))
    arrays: list[NDArray[np.integer]] = [contents.triples]
    for table in contents.splits:
        arrays += [table.items, table.operations, table.offsets, table.times]
        if table.earlier is not None:
            arrays += [table.earlier.items, table.earlier.operations, table.earlier.offsets]
    for array in arrays:
        little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{little_endian.dtype.str}{little_endian.shape}".encode("ascii"))
        digest.update(little_endian.data)
    return digest.hexdigest()


def _tables(contents: Contents) -> dict[str, pl.LazyFrame]:
    tables = {
        name: pl.LazyFrame({"index": np.arange(1, len(ids) + 1), "id": list(ids.ids)}, schema=COLUMNS[name])
        for name, ids in zip(VOCABULARIES, contents.vocabularies, strict=True)
    }
    tables["triples"] = pl.LazyFrame(contents.triples, schema=COLUMNS["triples"])
    splits = list(zip(SPLITS, contents.splits, strict=True))
    tables["sessions"] = pl.concat([_events(name, table) for name, table in splits])
    if all(table.earlier is not None for table in contents.splits):
        tables[EARLIER] = pl.concat([_earlier(name, table) for name, table in splits])
    if contents.display:
        tables[DISPLAY] = display_table(contents.display).lazy()
    return tables


def _earlier(split: str, table: SessionTable) -> pl.LazyFrame:
    """Return a row for each item of an earlier session of the same visitor, newest first; sessions as in `_events`."""
    assert table.earlier is not None
    session = np.repeat(np.arange(len(table)), np.diff(table.earlier.offsets))
    columns = {"session": session, "item": table.earlier.items, "operation": table.earlier.operations}
    return pl.LazyFrame(columns).select(pl.lit(split).alias("split"), pl.all())


def _events(split: str, table: SessionTable) -> pl.LazyFrame:
    """Return a row for each event, made part by part; the session's index counts from 0 inside its split."""
    schema = pl.Schema(COLUMNS["sessions"])

    def pieces(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, size: int | None
    ) -> Iterator[pl.DataFrame]:
        assert predicate is None
        assert rows is None
        for first in range(0, len(table), SESSIONS_AT_ONCE):
            numbers = np.arange(first, min(first + SESSIONS_AT_ONCE, len(table)))
            begin, end = int(table.offsets[numbers[0]]), int(table.offsets[numbers[-1] + 1])
            part = {
                "session": np.repeat(numbers, table.lengths[numbers]),
                "item": table.items[begin:end],
                "operation": table.operations[begin:end],
                "time": table.times[begin:end],
            }
            yield pl.DataFrame(part).select(pl.lit(split).alias("split"), pl.all()).select(columns or schema.names())

    return register_io_source(pieces, schema=schema, is_pure=True)


def _wrong(text: str, path: Path) -> DataError:
    return DataError(f"{text}; prepare it again", path=path)


def _read(file: Path, columns: Mapping[str, pl.DataType], digests: Mapping[str, str]) -> pl.DataFrame:
    content = read_verified(file, digests.get(file.name, "none"), _wrong)
    try:
        return read_table(content, columns)
    except DataError as error:
        raise DataError(str(error), path=file) from None


def _sessions(tables: Mapping[str, pl.DataFrame], split: str, count: int) -> SessionTable:
    rows = tables["sessions"].filter(pl.col("split") == split)
    if not 0 <= count <= rows.height + MOST_EMPTY:
        raise ValueError(f"{count} sessions of {split} in {rows.height} events")
    earlier = None
    if EARLIER in tables:
        earlier = EarlierItems(*_compressed(tables[EARLIER].filter(pl.col("split") == split), count))
    return SessionTable(*_compressed(rows, count), rows["time"].to_numpy(writable=True), earlier)


def _compressed(rows: pl.DataFrame, count: int) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.int64]]:
    """Return items, operations, and where each of so many sessions begins."""
    session = rows["session"].to_numpy()
    if len(session) and not (session[0] >= 0 and session[-1] < count and (np.diff(session) >= 0).all()):
        raise ValueError(f"sessions should be numbered from 0 to {count - 1}, in order")
    offsets = offsets_of(np.bincount(session, minlength=count))
    return rows["item"].to_numpy(writable=True), rows["operation"].to_numpy(writable=True), offsets


def _check_indexes(
    vocabularies: Sequence[Vocabulary], triples: NDArray[np.int64], splits: Sequence[SessionTable]
) -> None:
    """Make sure that every index stands for an id."""
    items, operations, relations, attributes = (len(each) for each in vocabularies)
    tables = [each for split in splits for each in (split, split.earlier) if each is not None]
    checks: list[tuple[str, int, NDArray[np.integer]]] = [("item", items, table.items) for table in tables]
    checks += [("operation", operations, table.operations) for table in tables]
    checks += [("item", items, triples[:, 0]), ("relation", relations, triples[:, 1])]
    checks += [("attribute", attributes, triples[:, 2] - items)]
    for what, most, indexes in checks:
        if len(indexes) and not 1 <= indexes.min() <= indexes.max() <= most:
            raise ValueError(f"an index of an {what} is {indexes.min()} or {indexes.max()}, there are {most}")

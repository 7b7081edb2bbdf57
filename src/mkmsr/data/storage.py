"""A prepared dataset as a folder: JSON that says what it is, Parquet tables, a checksum of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.earlier_visits import EarlierItems
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import SessionTable
from mkmsr.data.statistics import statistics
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import DataError
from mkmsr.runtime.files import atomic_folder, atomic_write, may_replace, sha256

__all__ = ["FORMAT_VERSION", "content_fingerprint", "load_dataset", "save_dataset"]

FORMAT = "mkmsr prepared dataset"
FORMAT_VERSION = 1
DESCRIPTION = "dataset.json"
VOCABULARIES = {"items": "item", "operations": "operation", "relations": "relation", "attributes": "attribute"}
SPLITS = ("train", "validation", "test")
EARLIER = "earlier"
"""File of what visitors touched in earlier sessions, where the data say so."""
SESSIONS_AT_ONCE = 200_000
"""Sessions whose events are a table at one time while they are written."""
OWN_KEYS = ("format", "format_version", "name", "new_items", "max_session_events", "fingerprint", "counts", "files")


def save_dataset(dataset: PreparedDataset, path: str | Path) -> None:
    """Writes the folder, or leaves an old one untouched.

    Raises:
        DataError: Something else than a prepared dataset is at that place, or the folder cannot be written (a full
            disk, no permission).
    """
    if not may_replace(path, DESCRIPTION):
        raise DataError("something else is here, and it is not overwritten; choose another folder", path=path)
    description: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": dataset.name,
        "new_items": dataset.new_items,
        "max_session_events": dataset.max_session_events,
        "fingerprint": dataset.fingerprint,
        "counts": statistics(dataset),
        "files": {},
        **{key: value for key, value in dataset.metadata.items() if key not in OWN_KEYS},
    }
    try:
        with atomic_folder(path) as folder:
            for name, table in _tables(dataset).items():
                file = folder / f"{name}.parquet"
                table.sink_parquet(file)
                description["files"][file.name] = sha256(file)
            atomic_write(folder / DESCRIPTION, json.dumps(description, ensure_ascii=False, indent=2) + "\n")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot write the dataset: {_reason(error)}", path=path) from error


def _reason(error: Exception) -> str:
    """What the system said, without what the libraries in between made of it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0].partition(" (os error")[0].rpartition(" error: ")[2]


def load_dataset(path: str | Path) -> PreparedDataset:
    """The dataset in a folder, verified.

    Raises:
        DataError: A file is missing, altered or of another format.
    """
    folder = Path(path)
    description = _description(folder)
    for name, expected in description["files"].items():
        file = folder / name
        if not file.is_file():
            raise DataError("missing from the prepared dataset; prepare it again", path=file)
        if (found := sha256(file)) != expected:
            raise DataError(
                f"altered since it was written: SHA-256 {found[:12]}, expected {expected[:12]}; prepare it again",
                path=file,
            )
    try:
        dataset = _dataset(folder, description)
    except (OSError, KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(f"not a prepared dataset of format {FORMAT_VERSION}: {error}", path=path) from error
    if dataset.fingerprint != description["fingerprint"]:
        raise DataError("contents do not match the fingerprint; prepare it again", path=folder / DESCRIPTION)
    return dataset


def content_fingerprint(dataset: PreparedDataset) -> str:
    """SHA-256 over everything that a model sees: vocabularies, sessions, triples, and how examples are made.

    The name and the metadata (paths, options) do not count: the same data from another place is the same data.
    """
    digest = hashlib.sha256()
    knowledge = dataset.knowledge
    vocabularies = (dataset.items, dataset.operations, knowledge.relations, knowledge.attributes)
    settings = [dataset.new_items, dataset.max_session_events, *(list(each.ids) for each in vocabularies)]
    digest.update(json.dumps(settings, ensure_ascii=True).encode("ascii"))
    arrays: list[NDArray[np.integer]] = [knowledge.triples]
    for table in (dataset.train, dataset.validation, dataset.test):
        arrays += [table.items, table.operations, table.offsets, table.times]
        if table.earlier is not None:
            arrays += [table.earlier.items, table.earlier.operations, table.earlier.offsets]
    for array in arrays:
        little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{little_endian.dtype.str}{little_endian.shape}".encode("ascii"))
        digest.update(little_endian.data)
    return digest.hexdigest()


def _tables(dataset: PreparedDataset) -> dict[str, pl.LazyFrame]:
    knowledge = dataset.knowledge
    vocabularies = (dataset.items, dataset.operations, knowledge.relations, knowledge.attributes)
    tables = {
        name: pl.LazyFrame(
            {"index": np.arange(1, len(ids) + 1), "id": list(ids.ids)}, schema={"index": pl.Int64, "id": pl.String}
        )
        for name, ids in zip(VOCABULARIES, vocabularies, strict=True)
    }
    tables["triples"] = pl.LazyFrame(
        knowledge.triples, schema={"item": pl.Int64, "relation": pl.Int64, "entity": pl.Int64}
    )
    splits = list(zip(SPLITS, (dataset.train, dataset.validation, dataset.test), strict=True))
    tables["sessions"] = pl.concat([_events(name, table) for name, table in splits])
    if all(table.earlier is not None for table in (dataset.train, dataset.validation, dataset.test)):
        tables[EARLIER] = pl.concat([_earlier(name, table) for name, table in splits])
    return tables


def _earlier(split: str, table: SessionTable) -> pl.LazyFrame:
    """One row for each item of an earlier session of the same visitor, newest first; the session as in `_events`."""
    assert table.earlier is not None
    session = np.repeat(np.arange(len(table)), np.diff(table.earlier.offsets))
    columns = {"session": session, "item": table.earlier.items, "operation": table.earlier.operations}
    return pl.LazyFrame(columns).select(pl.lit(split).alias("split"), pl.all())


def _events(split: str, table: SessionTable) -> pl.LazyFrame:
    """One row an event; the session's index counts from 0 inside its split. Made while it is written, part by part."""
    schema = pl.Schema(
        {"split": pl.String(), "session": pl.Int64(), "item": pl.Int32(), "operation": pl.Int16(), "time": pl.Int64()}
    )

    def parts(
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

    return register_io_source(parts, schema=schema, is_pure=True)


def _description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    if not file.is_file():
        raise DataError(f"not a prepared dataset: lacks {DESCRIPTION}; make one with `mkmsr prepare`", path=folder)
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", path=file) from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise DataError(f"not the description of a prepared dataset: its format should be {FORMAT!r}", path=file)
    if description.get("format_version") != FORMAT_VERSION:
        found = description.get("format_version")
        raise DataError(f"format version {found}, this program reads {FORMAT_VERSION}; prepare it again", path=file)
    if missing := [key for key in OWN_KEYS if key not in description]:
        raise DataError(f"lacks the key {missing[0]!r}", path=file)
    files = description["files"]
    if not isinstance(files, dict) or not all(isinstance(each, str) for each in files.values()):
        raise DataError("the key 'files' does not hold a checksum for each file", path=file)
    return description


def _dataset(folder: Path, description: dict[str, Any]) -> PreparedDataset:
    ids = {
        name: Vocabulary(pl.read_parquet(folder / f"{name}.parquet").sort("index")["id"].to_list(), kind=kind)
        for name, kind in VOCABULARIES.items()
    }
    events = pl.read_parquet(folder / "sessions.parquet")
    named = f"{EARLIER}.parquet"
    earlier = pl.read_parquet(folder / named) if named in description["files"] else None
    counts = description["counts"]
    train, validation, test = (_sessions(events, earlier, split, counts[split]["sessions"]) for split in SPLITS)
    triples = pl.read_parquet(folder / "triples.parquet").to_numpy().astype(np.int64).reshape(-1, 3)
    knowledge = KnowledgeGraph(np.ascontiguousarray(triples), ids["relations"], ids["attributes"], len(ids["items"]))
    return PreparedDataset(
        name=description["name"],
        items=ids["items"],
        operations=ids["operations"],
        knowledge=knowledge,
        train=train,
        validation=validation,
        test=test,
        new_items=description["new_items"],
        max_session_events=description["max_session_events"],
        metadata={key: value for key, value in description.items() if key not in OWN_KEYS},
    )


def _sessions(events: pl.DataFrame, earlier: pl.DataFrame | None, split: str, count: int) -> SessionTable:
    rows = events.filter(pl.col("split") == split)
    items, operations, offsets = _compressed(rows, count)
    remembered = (
        None if earlier is None else EarlierItems(*_compressed(earlier.filter(pl.col("split") == split), count))
    )
    return SessionTable(items, operations, offsets, rows["time"].to_numpy().astype(np.int64), remembered)


def _compressed(rows: pl.DataFrame, count: int) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.int64]]:
    """Items, operations, and where each of so many sessions begins."""
    lengths = np.bincount(rows["session"].to_numpy(), minlength=count)
    return (
        rows["item"].to_numpy().astype(np.int32),
        rows["operation"].to_numpy().astype(np.int16),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )

"""Public data sets: who offers each one, how its files look, and the one way in which they all become a log.

A data set is one file with a `DATASET` that says what the columns of its files mean, as `Value`s; `Intake` reads them.
Nothing of the data is part of this project. Sizes and row counts are those of copies in circulation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.log import ATTRIBUTE_COLUMNS, EVENT_COLUMNS, InteractionLog, LogSource
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.sources import SMALL_BYTES, RawSource
from mkmsr.data.readers.table import scan_text
from mkmsr.data.readers.values import SECOND, Value, event_row, known_at, moment
from mkmsr.errors import ConfigError, DataError, nearest
from mkmsr.runtime.files import Scratch

COMMON = ("quote", "strict", "malformed_limit", "scratch")
"""Options that every public data set takes."""


@dataclass(frozen=True)
class PublicFile:
    """A file of a public data set.

    Args:
        name: Its name below the data set's folder; a copy with .gz will do.
        columns: Names that its first line should hold, with commas between; of a file without a header, its fields.
        separator: Between fields; empty for JSON lines, whose columns are the keys of a line.
        header: Whether the first line holds the names.
        needed: Whether the reader cannot do without.
        bytes: Size of the unpacked file, where known.
        rows: Rows without the header, where known.
        sha256: Of the unpacked content, where known.
    """

    name: str
    columns: str
    separator: str = ","
    header: bool = True
    needed: bool = True
    bytes: int | None = None
    rows: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class PublicDataset:
    """A public data set.

    Args:
        name: What `mkmsr prepare` and `mkmsr fetch` call it.
        title: What it is.
        owner: Who offers it.
        page: Where.
        terms: Under which terms, as far as known; the owner's page decides.
        files: What is read.
        events: Reads its events, as canonical columns and perhaps others, which are left out.
        attributes: Reads `item_id`, `relation`, `value` of each relation in `Intake.relations`.
        relations: Relations that are read where nobody asks for others.
        more_relations: Relations that are read on request.
        numbered_relations: Whether there are also relations that have only a number.
        is_dated: Whether attributes are known as of several times.
        gap: Pause that ends a session, in seconds, or in rows where it has no times.
        spellings: Names of columns in other copies, and the one that is used here.
        address: The address below which each file can be had directly, or None where the owner asks for an account.
    """

    name: str
    title: str
    owner: str
    page: str
    terms: str
    files: tuple[PublicFile, ...]
    events: Callable[[Intake], pl.LazyFrame]
    attributes: Callable[[Intake, pl.LazyFrame], Sequence[pl.LazyFrame]] | None = None
    relations: tuple[str, ...] = ()
    more_relations: tuple[str, ...] = ()
    numbered_relations: bool = False
    is_dated: bool = False
    gap: int | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None

    def read(self, source: Path, options: ReadOptions) -> InteractionLog:
        """Return the log in a folder of the unpacked files, each plain or .gz."""
        intake = Intake(self, source, options)
        events = self.events(intake)
        wants_attributes = intake.relations or not self.relations
        return intake.log(events, self.attributes(intake, events) if self.attributes and wants_attributes else ())


class Intake:
    """The files of one log on their way in, from a folder or a file; an option of no use here is a ConfigError.

    With `scratch` in the options, files of any size stream through temporary ones.
    """

    def __init__(self, dataset: PublicDataset, source: Path, options: ReadOptions):
        takes = {"relations": bool(dataset.relations), "attributes_at": dataset.is_dated}
        options.refuse(dataset.name, allowed=(*COMMON, *(name for name, is_taken in takes.items() if is_taken)))
        self.relations = tuple(dict.fromkeys(dataset.relations if options.relations is None else options.relations))
        known = (*dataset.relations, *dataset.more_relations)
        for name in self.relations:
            if name not in known and not (dataset.numbered_relations and name.isdigit()):
                text = f"the reader {dataset.name!r} has no relation {name!r}{nearest(name, known)}"
                raise ConfigError(f"{text}; it has {', '.join(known)}", key="relations")
        self.source = source
        self.notes: dict[str, Any] = {}
        self.scratch = Scratch(options.scratch)
        self._dataset, self.options = dataset, options
        self._files: list[LogSource] = []
        self._bytes = 0

    def find(self, *names: str) -> Path:
        """Return the first of some files that is in the folder, plain or with .gz; without one DataError is raised."""
        folder = self.source
        if not folder.is_dir():
            found = "should be a folder with the data set's files" if folder.exists() else "no such folder"
            raise DataError(found, path=folder)
        for path in (folder / f"{name}{ending}" for name in names for ending in ("", ".gz")):
            if path.is_file():
                return path
        raise DataError(f"lacks {' or '.join(names)} (also with .gz)", path=folder)

    def take_note(self, path: Path) -> None:
        """Count a file among those that the log is read from."""
        self._files.append(LogSource.of(path))

    def rows(
        self, file: str | Path | Sequence[str], values: Mapping[str, Value], *, only: pl.Expr | bool = True
    ) -> pl.LazyFrame:
        """Return the good rows of a file, read once.

        Args:
            file: Its name in `PublicDataset.files`, perhaps followed by other names, or a path.
            values: Columns of the result.
            only: Good rows to take.
        """
        names = [str(file)] if isinstance(file, str | Path) else file
        path = file if isinstance(file, Path) else self.find(*names)
        form = next((each for each in self._dataset.files if each.name == names[0]), PublicFile("", ""))
        table = scan_text(
            path,
            self.scratch,
            separator=form.separator,
            names=None if form.header else form.columns.split(","),
            rename=self._dataset.spellings,
            quote=self.options.quote,
        )
        wanted = list(dict.fromkeys(name for value in values.values() for name in value.columns))
        table.check(*wanted)
        self.take_note(path)
        self._bytes += table.bytes
        faults = [fault for value in values.values() for fault in value.faults]
        source = RawSource(str(path), (table,), (), self.options, self.scratch)
        rows, _ = source.stored(
            good.filter(only).select(value.expr.alias(name) for name, value in values.items())
            for good in source.good_rows(table, wanted, faults, self.notes)
        )
        return rows

    def events(self, file: str | Path, values: Mapping[str, Value], *, number: int = 0) -> pl.LazyFrame:
        """Return the good rows of a file of events, with `row`; `time`, given in microseconds, becomes seconds.

        The `number` of the file orders events of one second where a log has several files.
        """
        micros = values["time"].expr if "time" in values else None
        own = dict(values)
        if micros is not None:
            own["time"] = Value(micros // SECOND, values["time"].faults)
        return self.rows(file, {**own, "row": Value(event_row(file=number, micros=micros))})

    def store(self, rows: pl.LazyFrame, *, size: int) -> pl.LazyFrame:
        """Compute the rows now: in memory, or in a temporary file where the raw `size` in bytes is large."""
        if size <= SMALL_BYTES and self.options.scratch is None:
            return rows.collect(engine="streaming").lazy()
        part = self.scratch.file(".parquet")
        rows.sink_parquet(part, compression="lz4")
        return pl.scan_parquet(part, glob=False)

    def moment(self, events: pl.LazyFrame) -> int:
        """Return the time as of which attributes are taken, and note it."""
        time = moment(events, self.options)
        self.notes["attributes_at"] = known_at(time)
        return time

    def log(self, events: pl.LazyFrame, attributes: Sequence[pl.LazyFrame]) -> InteractionLog:
        """Return the log; attributes without a value are left out, and the others numbered."""
        known = [name for name in EVENT_COLUMNS if name in events.collect_schema().names()]
        table = None
        if attributes:
            named = pl.concat(list(attributes)).select("item_id", "relation", "value")
            given = named.filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
            numbered = given.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).select(list(ATTRIBUTE_COLUMNS))
            table = self.store(numbered, size=self._bytes)
        return InteractionLog(
            events.select(known),
            table,
            name=self._dataset.name,
            sources=tuple(self._files),
            notes=self.notes,
            gap=self._dataset.gap,
            scratch=self.scratch,
        )

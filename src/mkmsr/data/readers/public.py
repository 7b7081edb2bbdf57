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
from mkmsr.data.readers.attributes import known_at, moment
from mkmsr.data.readers.malformed import ROW, Fault, empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.sources import SMALL_BYTES, RawSource
from mkmsr.data.readers.table import scan_text
from mkmsr.errors import ConfigError, DataError, nearest
from mkmsr.runtime.files import Scratch

COMMON = ("quote", "strict", "malformed_limit", "scratch")
"""Options that every public data set takes."""

SECOND = 1_000_000
"""Microseconds of a second."""

MICROS = {"unix seconds": SECOND, "unix milliseconds": 1000, "milliseconds": 1000}

ROW_BITS, FILE_BITS = 36, 7


@dataclass(frozen=True)
class Value:
    """A value of a row, as an expression over its text, and the faults that make the row malformed."""

    expr: pl.Expr
    faults: tuple[Fault, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Columns of the file that it needs."""
        return [name for name in self.expr.meta.root_names() if name != ROW]


def text(column: str) -> Value:
    """Return the text of a column, which may be missing."""
    return Value(pl.col(column))


def needed(column: str) -> Value:
    """Return the text of a column in which every row has one."""
    return Value(pl.col(column), (empty(column),))


def one_of(column: str, known: Sequence[str]) -> Value:
    """Return the text of a column that holds one of some words."""
    wrong = ~pl.col(column).is_in(known).fill_null(False)
    return Value(pl.col(column), (Fault(wrong, f"found {{value}}, should be one of {', '.join(known)}", column),))


def coded(column: str, names: Mapping[str, str]) -> Value:
    """Return the names of a column's codes, which follow each other."""
    name = pl.col(column).str.strip_chars().replace_strict(names, default=None, return_dtype=pl.String)
    return Value(name, (Fault(name.is_null(), f"found {{value}}, should be {min(names)} to {max(names)}", column),))


def clock(column: str, *forms: str, like: str) -> Value:
    """Return microseconds since 1970 of times written in one of some forms.

    Source: strftime's letters, and `%.f` for a fraction of a second that may be missing.
    """
    written = pl.col(column).str.strip_chars()
    micros = pl.coalesce(written.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("us") for form in forms)
    return Value(micros, (Fault(micros.is_null(), f"cannot read {{value}} as a time; should be like {like}", column),))


def counted(column: str, unit: str) -> Value:
    """Return the microseconds of whole numbers in a unit of MICROS."""
    number = pl.col(column).str.strip_chars().str.strip_suffix(".0").cast(pl.Int64, strict=False)
    return Value(number * MICROS[unit], (Fault(number.is_null(), f"found {{value}}, should be {unit}", column),))


def price_bucket(column: str) -> Value:
    """Return the powers of two around a price, as text like "32-64"; null without a positive price."""
    price = pl.col(column).cast(pl.Float64, strict=False)
    power = (price.clip(1, 1e18).log(2) + 1e-9).floor().cast(pl.Int64)
    low = pl.lit(2, dtype=pl.Int64).pow(power)
    named = pl.format("{}-{}", low, low * 2)
    return Value(pl.when(price >= 1).then(named).when(price > 0).then(pl.lit("0-1")))


def event_row(*, file: int = 0, micros: pl.Expr | None = None) -> pl.Expr:
    """Return the number of an event that breaks ties of its time: fraction of the second, then file, then row.

    Whole seconds cannot order the events within one, so the fraction goes in front: 20 bits of microseconds, 7 bits of
    file number and 36 bits of row, in one number of 63 bits. In a single file of whole seconds it is just the row.
    """
    number = pl.col(ROW).cast(pl.Int64) + (file << ROW_BITS)
    return number if micros is None else (micros % SECOND) * (1 << (ROW_BITS + FILE_BITS)) + number


def relation(rows: pl.LazyFrame, name: str, column: str | None = None, *, separator: str | None = None) -> pl.LazyFrame:
    """Return one relation of a table with a row an item.

    Its values stand in `column`, by default that of its name, several in one cell with a `separator` between them.
    """
    named = rows.select("item_id", pl.lit(name).alias("relation"), pl.col(column or name).alias("value"))
    if separator is None:
        return named
    apart = named.with_columns(pl.col("value").str.split(separator)).explode("value")
    return apart.with_columns(pl.col("value").str.strip_chars())


@dataclass(frozen=True)
class PublicFile:
    """A file of a public data set; a copy with .gz will do.

    Args:
        name: Its name below the data set's folder.
        columns: Names that its first line should hold, with commas between; of a file without a header, its fields.
        separator: Between fields; empty for JSON lines, whose columns are the keys of a line.
        needed: Whether the reader cannot do without.
        bytes, sha256: Of the unpacked content, where known.
        rows: Without the header, where known.
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
    """A public data set: what commands call it, its owner's page and terms, as far as known, and how it is read.

    Args:
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
        """Return the values of the good rows of a file, of which only some are taken.

        The file is its name in `PublicDataset.files`, perhaps followed by other names, or a path.
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

"""Attribute tables, long or wide: values by item and relation, as they were known when the test began."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mkmsr.data.log import ATTRIBUTE_COLUMNS
from mkmsr.data.readers.canonical import LIKE_A_LIST, MOST_WORDS
from mkmsr.data.readers.cells import FILLERS, LISTS, as_text, joins_others, split_cells, without_words
from mkmsr.data.readers.malformed import ROW, Fault, empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.sources import RawSource
from mkmsr.data.readers.table import NAMELESS, RawTable
from mkmsr.data.readers.times import TimeColumn
from mkmsr.errors import ConfigError, DataError, nearest

logger = logging.getLogger(__name__)

RELATION_BITS = 40
"""Rows of a wide attribute table are numbered relation by relation; one has fewer than 2^40."""

KEYS = ("item", "relation", "value", "time", "use", "display")
TIMES = ("time", "timestamp", "ts", "datetime", "date", "valid_from", "updated_at", "created_at", "snapshot_date")
"""Usual names of the column that says since when a value holds."""
ENDS = ("valid_to", "valid_until", "expires_at")
"""Usual names of the column that says until when; the next value says the same."""

BEFORE_TEST = 0.9
"""Share of the events before the default moment: where preparation by default begins the test."""

TIME = " time"
LEAVE_OUT = "; or name the columns that are wanted: --attribute-columns use=brand+category"


@dataclass(frozen=True)
class _Columns:
    """What the columns of the table are: of a long one `long` is True, and relations are not columns.

    `display` has the name under which each column is shown.
    """

    item: str
    relations: tuple[str, ...]
    display: Mapping[str, str]
    time: str | None
    relation: str = "relation"
    value: str = "value"
    long: bool = False


def read_attributes(
    source: RawSource, events: pl.LazyFrame, item_column: str, notes: dict[str, Any]
) -> tuple[pl.LazyFrame, pl.LazyFrame | None]:
    """Read a source of attributes; `events` say when the test begins, and `item_column` is what they call their items.

    Returns:
        `item_id`, `relation`, `value`, `row`, whose values may be empty; and the same of columns that are shown with an
        item and never learnt from, None if there are none.
    """
    has_time = "time" in events.collect_schema().names()
    columns = _columns(source, item_column, notes, has_time=has_time)
    reading = _Reading(source, columns, notes)
    rows, _ = source.stored(piece for table in source.tables for piece in reading.table(table))
    if columns.time is not None:
        at = moment(events, source.options)
        notes["attributes_at"] = known_at(at)
        logger.info("%s: attributes are taken as they were at %s", source.label, known_at(at))
        rows = as_of(rows, at, key=["item_id", "relation"], time=TIME).sort("row")
    reading.finish(notes)
    relation, rows = pl.col("relation"), rows.select(list(ATTRIBUTE_COLUMNS))
    display = rows.filter(relation.is_in(list(columns.display))) if columns.display else None
    if display is not None:
        display = display.with_columns(relation.replace(columns.display))
    if columns.relations or not columns.long:
        return rows.filter(relation.is_in(list(columns.relations))), display
    return rows.filter(~relation.is_in(list(columns.display))), display


def _columns(source: RawSource, item_column: str, notes: dict[str, Any], *, has_time: bool) -> _Columns:
    options, named = source.options, source.options.attribute_columns
    for key in named:
        if key not in KEYS:
            raise ConfigError(
                f"unknown field{nearest(key, KEYS)}; fields: {', '.join(KEYS)}", key=f"attribute_columns.{key}"
            )
    known = source.columns
    item = named.get("item") or ("item" if "item" in known and item_column not in known else item_column)
    if "item" not in named and item not in known:
        like_events = "" if item == "item" else f", or {item!r} as in the events"
        option = 'attribute_columns={"item": NAME}' if source.frame else "--attribute-columns item=NAME"
        raise DataError(
            f"no column of items, which should be called 'item'{like_events}; "
            f"{source.place} has {', '.join(known)}; {option} says which one it is",
            path=source.label,
        )
    relation, value = named.get("relation") or "relation", named.get("value") or "value"
    use = tuple(filter(None, named.get("use", "").split("+")))
    display = _display(named.get("display", ""), known)
    long = {relation, value} <= set(known)
    usual = next((name for name in known if name.lower() in TIMES and name not in (item, relation, value)), None)
    has_time = has_time or options.attributes_at is not None
    time = named["time"] or None if "time" in named else usual if has_time else None
    if long and usual is not None and not has_time and "time" not in named:
        logger.warning(
            "%s: the events have no times, so values of all times in %r are taken; --attributes-at says as of when",
            source.label,
            usual,
        )
    if long:
        rest = [name for name in known if name not in (item, relation, value, time)]
        if rest:
            notes["unused_attribute_columns"] = rest
        source.check(item, relation, value, *([time] if time else []))
        return _Columns(item, use, display, time, relation, value, long=True)
    if "time" not in named and (time in (*use, *display) or not (time and _repeats(source, item))):
        time = None
    ends = [name for name in known if time is not None and name.lower() in ENDS and name not in use]
    rest = [name for name in known if name not in (item, time, *display, *ends)]
    rest = [name for name in rest if all(table.unusable.get(name) != NAMELESS for table in source.tables)]
    relations = use if "use" in named else tuple(rest)
    unused = [name for name in (*rest, *ends) if name not in relations]
    if unused:
        notes["unused_attribute_columns"] = unused
    if not relations and not display:
        raise DataError(
            "has no column beside the item; give relation and value, or one column a relation", path=source.label
        )
    source.check(item, *relations, *display, *([time] if time else []))
    if wrong := [name for name in relations if "=" in name]:
        raise DataError("a relation's name must not hold '='; rename the column", path=source.label, column=wrong[0])
    return _Columns(item, relations, display, time)


def _display(text: str, known: Sequence[str]) -> dict[str, str]:
    """Return under which name each column of `name:title+price` is shown; a column may hold a colon itself."""
    display: dict[str, str] = {}
    for each in filter(None, text.split("+")):
        name, colon, column = each.partition(":")
        column, name = (each, each) if not colon or each in known else (column, name)
        if not name or not column:
            raise ConfigError(f"{each!r} should read name:COLUMN", key="attribute_columns.display")
        if name in display.values():
            raise ConfigError(f"two columns are to be shown as {name!r}", key="attribute_columns.display")
        display[column] = name
    return display


def _repeats(source: RawSource, item: str) -> bool:
    """Whether an item has several rows, as in a table of values over time."""
    items = pl.concat([table.scan([item]).select(pl.col(item).cast(pl.String)) for table in source.tables])
    return bool(items.select(pl.col(item).is_duplicated().any()).collect().item())


class _Reading:
    """What the tables of one source have in common while their attributes are read."""

    def __init__(self, source: RawSource, columns: _Columns, notes: dict[str, Any]):
        self._source, self._columns, self._notes = source, columns, notes
        self._options = source.options
        self._times = TimeColumn(source.options, or_any_form=True)
        names = ("",) if columns.long else (*columns.relations, *columns.display)  # a column in both is read once
        self._counts = dict.fromkeys(names, 0)
        self._lists: Counter[tuple[str, str]] = Counter()
        self._vectors: dict[str, None] = {}
        self._fillers: Counter[str] = Counter()
        self._seen: set[str] = set(self._counts) - {""}

    def table(self, table: RawTable) -> Iterator[pl.DataFrame]:
        """Yield the long form of a table in pieces; rows are numbered relation by relation, in the file's order."""
        columns = self._columns
        keys = [columns.item, columns.relation] if columns.long else [columns.item]
        relations = [columns.value] if columns.long else list(self._counts)
        wanted = list(dict.fromkeys([*keys, *relations, *([columns.time] if columns.time else [])]))
        faults = [empty(key) for key in keys]
        if columns.long:
            equals = pl.col(columns.relation).str.contains("=", literal=True)
            faults.append(Fault(equals, "found {value}; a relation's name must not hold '='", columns.relation))
        if columns.time is not None:
            faults.append(Fault(pl.col(columns.time).is_null(), "the time is missing", columns.time))
            right = f"cannot read {{value}} as a time; {self._times.right}; --attribute-columns time= does without"
            faults.append(Fault(pl.col(TIME).is_null(), right, columns.time))

        def mark(piece: pl.DataFrame) -> pl.DataFrame:
            checked = piece.with_columns(self._text(piece[name], table) for name in keys)
            if columns.time is None:
                return checked
            seconds = self._times.read(piece[columns.time], piece[ROW] + table.first_row, table.path).seconds
            return checked.with_columns(seconds.alias(TIME), pl.col(columns.time).cast(pl.String, strict=False))

        for good in self._source.good_rows(table, wanted, faults, self._notes, mark):
            for place, name in enumerate(self._counts):
                rows = self._values(good, name or columns.value, table)
                if name == "":
                    self._seen |= set(rows["relation"].unique().to_list())
                words = rows.filter(pl.col("value").is_in(FILLERS))["value"].value_counts()
                self._fillers.update(dict(words.iter_rows()))
                rows = self._apart(rows, name)
                first = (place << RELATION_BITS) + self._counts[name]
                self._counts[name] += rows.height
                yield rows.with_columns(row=pl.int_range(first, first + pl.len(), dtype=pl.Int64))

    def finish(self, notes: dict[str, Any]) -> None:
        """Note what is strange about the values, and refuse options about relations that the table lacks."""
        source = self._source
        there_are = f"there are {', '.join(sorted(self._seen))}"
        for key, names in (("multi", self._options.multi), ("levels", self._options.levels)):
            for name in names if isinstance(names, Mapping) else ():
                if name not in self._seen:
                    lacking = f"no relation {name!r}{nearest(name, self._seen)}; {there_are}"
                    raise ConfigError(lacking, key=key, path=source.label)
        for name in (*self._columns.relations, *self._columns.display):
            if name not in self._seen:
                lacking = f"no relation {name!r}{nearest(name, self._seen)}; {there_are}"
                raise DataError(lacking, path=source.label, column=self._columns.relation)
        found = [
            f"{count} values of {name!r} look like lists; --multi '{name}={separator}' takes them apart"
            for (name, separator), count in self._lists.items()
        ]
        found += [f"{name!r} holds vectors of fractions and is left out" for name in self._vectors]
        if self._fillers:
            told = ", ".join(f"{word!r} ({count:,})" for word, count in self._fillers.most_common(MOST_WORDS))
            found.append(f"the values hold {told}; --missing WORDS takes words for missing values")
        for text in found:
            logger.warning("%s: %s", source.label, text)
        if found:
            notes["attribute_values"] = found

    def _text(self, values: pl.Series, table: RawTable) -> pl.Series:
        return as_text(without_words(values, self._options.missing), table.path, hint=LEAVE_OUT)

    def _values(self, good: pl.DataFrame, name: str, table: RawTable) -> pl.DataFrame:
        """`item_id`, `relation`, `value` of one column; a list of Parquet is several values."""
        columns = self._columns
        relation = pl.col(columns.relation) if columns.long else pl.lit(name)
        time = [TIME] if columns.time is not None else []
        rows = good.select(pl.col(columns.item).alias("item_id"), relation.alias("relation"), *time, value=pl.col(name))
        dtype = rows.schema["value"]
        if isinstance(dtype, pl.List | pl.Array):
            inner = dtype.inner
            rows = rows.with_columns(pl.col("value").cast(pl.List(inner))).explode("value")
            if inner.is_float() and rows.select((pl.col("value") % 1 != 0).any()).item():
                self._vectors[name] = None
                rows = rows.clear()
        return rows.with_columns(self._text(rows["value"].alias(name), table).alias("value"))

    def _apart(self, rows: pl.DataFrame, name: str) -> pl.DataFrame:
        """The rows with cells of several values and paths taken apart, as the options say."""
        multi, levels = self._options.multi, self._options.levels
        if name in self._columns.display and name not in self._columns.relations:
            return rows
        if isinstance(multi, str):
            return _exploded(rows, split_cells(pl.col("value"), multi))
        named = list({**(multi or {}), **levels})
        if not rows["relation"].is_in(named).any():
            return self._look_for_lists(rows)
        numbered = rows.with_row_index(" place")
        parts = [numbered.filter(~pl.col("relation").is_in(named))]
        for key in named:
            group = numbered.filter(pl.col("relation") == key)
            if multi and key in multi:
                group = _exploded(group, split_cells(pl.col("value"), multi[key]))
            if key in levels:
                group = _exploded(group, path_levels(levels[key]))
            parts.append(group)
        return pl.concat(parts).sort(" place", maintain_order=True).drop(" place")

    def _look_for_lists(self, rows: pl.DataFrame) -> pl.DataFrame:
        value = pl.col("value")
        for separator, found in (
            (LISTS, value.str.contains(LIKE_A_LIST)),
            *((each, value.str.contains(each, literal=True)) for each in "|;,"),
        ):
            for (relation,), looks in rows.filter(found).group_by("relation"):
                if separator in ";,":
                    values = rows.filter(pl.col("relation") == relation)["value"]
                    joined = values.str.contains(separator, literal=True).fill_null(False)
                    if not joins_others(values, joined, separator):
                        continue
                self._lists[str(relation), separator] += looks.height
        return rows


def _exploded(rows: pl.DataFrame, values: pl.Expr) -> pl.DataFrame:
    return rows.with_columns(value=values).explode("value")


def path_levels(separator: str) -> pl.Expr:
    """All levels of a path: "a > b > c" gives "a", "a > b" and "a > b > c"."""
    parts = pl.col("value").str.split(separator.strip() or separator).list.eval(pl.element().str.strip_chars())
    parts = parts.list.eval(pl.element().filter(pl.element() != ""))
    joined = f" {separator.strip()} " if separator.strip() in (">", "/", "|", "»") else separator
    return parts.map_elements(
        lambda each: [joined.join(each[: depth + 1]) for depth in range(len(each))], return_dtype=pl.List(pl.String)
    )


def moment(events: pl.LazyFrame, options: ReadOptions) -> int:
    """The time for which item knowledge is taken, in seconds since 1970 (UTC): as asked for, or before the test.

    A model that is evaluated on the newest sessions must not be told what became of an item later.
    """
    if options.attributes_at is not None:
        asked = options.attributes_at
        return int((asked if asked.tzinfo is not None else asked.replace(tzinfo=UTC)).timestamp())
    if "split" in events.collect_schema().names():
        begin = events.filter(pl.col("split") == "test").select(pl.col("time").min()).collect().item()
        if begin is not None:
            return int(begin)
    newest = events.select(pl.col("time").quantile(BEFORE_TEST, interpolation="lower")).collect().item()
    return int(newest or 0)


def known_at(time: int) -> str:
    """A moment as text, for notes."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def as_of(rows: pl.LazyFrame, at: int, *, key: Sequence[str], time: str = "time") -> pl.LazyFrame:
    """Return the values that were known at a time: for each key the latest by then, else the first after.

    An item that appears later brings what its first day says, as a new item of a shop does. Rows with an empty `value`
    are passed over.
    """
    given = rows.filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
    by_then = pl.col(time).filter(pl.col(time) <= at).max()
    chosen = given.group_by(key).agg(pl.coalesce(by_then, pl.col(time).min()).alias(time))
    return given.join(chosen, on=[*key, time], how="semi")


def values_at(rows: pl.LazyFrame, time: int) -> pl.LazyFrame:
    """Compute `item_id` and `value` as of a time, one row an item, sorted by item.

    Of several values of the same second the last in alphabetical order counts, so that the answer does not depend on
    the order of the rows.
    """
    known = as_of(rows, time, key=["item_id"])
    return known.group_by("item_id").agg(pl.col("value").max()).sort("item_id").collect().lazy()

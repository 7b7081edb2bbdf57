"""Times as people write them, to whole seconds since 1970 (UTC), and the order that fractions of a second give."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from mkmsr.data.readers.odd_times import (
    LONG_UNITS,
    UNITS,
    Cells,
    LostDigits,
    Span,
    datetimes,
    first,
    refuse_written_dates,
)
from mkmsr.data.readers.options import ReadOptions
from mkmsr.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
LARGEST = {"s": 10**11, "ms": 10**14, "us": 10**17, "ns": 10**20}
"""Numbers below a limit are of that unit or a coarser one: 10**11 s is the year 5138, 10**11 ms is 1973."""

BEYOND = 2.0**63
"""No time reaches it in any unit: in nanoseconds it is the year 2262."""

ZONE = r"^(.*:\d{2}(?:\.\d+)?)\s*(Z|z|UTC|[+-]\d{2}(?::?\d{2})?)$"
"""A zone follows a time of day, so that the end of a date is not taken for one."""
FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
RIGHT = (
    "should be unix seconds or milliseconds, or like 2018-03-01 00:00:06 or 2018-03-01T00:00:06Z; other forms take "
    "--time-format, such as '%d/%m/%Y %H:%M'"
)
MIXED_ZONES = "some times have a time zone and others have none, here {value}; give all rows a zone, or none"


@dataclass(frozen=True)
class ParsedTimes:
    """A column of times: whole seconds since 1970 (UTC), null where the value is not a time; int64.

    `fraction` is what is left of each below a second, in a unit of its own, for sorting. The unit is a key of UNITS;
    `zoned` says whether texts named a time zone, None where there is no text.
    """

    seconds: pl.Series
    fraction: pl.Series
    unit: str
    zoned: bool | None = None


class TimeColumn:
    """The times of a table that is read piece by piece, which have to agree over its pieces.

    Numbers, ISO 8601 text, "YYYY-MM-DD HH:MM:SS" text, the date types of Parquet, or what the options say. Text without
    a zone is taken as UTC unless a zone is named. The unit "auto" is told from the size of the numbers. A stated form
    may be ignored if no time has it, where `or_any_form` says so. An unknown zone raises ConfigError.
    """

    def __init__(self, options: ReadOptions, *, or_any_form: bool = False):
        self.unit: str | None = None
        """What the pieces so far were, as in `ParsedTimes`; None before the first one."""
        self.right = RIGHT if options.time_format is None else f"should be written as {options.time_format!r}"
        self._asked, self._format = options.time_unit, options.time_format
        self._or_any_form = or_any_form
        self._zone = options.time_zone
        if self._zone is not None:
            try:
                ZoneInfo(self._zone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                text = f"no time zone {self._zone!r}; should be like Europe/Berlin"
                raise ConfigError(text, key="time_zone") from None
        self._zoned: bool | None = None
        self._span = Span()
        self._numbers = (math.inf, -math.inf)
        self._lost = LostDigits()

    def read(self, values: pl.Series, rows: pl.Series, path: Path | str) -> ParsedTimes:
        """Return the times of the next piece; `rows` are the values' lines in the file, for messages.

        Null where a time is missing or cannot be read; where some values are numbers and others dates, those of the
        rarer form. Mixed units or zones, and a column of something else, raise DataError.
        """
        cells = Cells(values, rows, path)
        parsed = self._parsed(cells)
        known = parsed.seconds.drop_nulls()
        if len(known):
            self._agree(parsed, cells)
            self._span.look(known)
            self.unit = parsed.unit
        return parsed

    def finish(self, path: Path | str, column: str, notes: dict[str, Any]) -> None:
        """Note what the times are and warn of what is strange; all before 1990 or all in the future is a DataError."""
        if self.unit is None:
            return
        notes["time_unit"] = UNITS[self.unit]
        logger.info("%s: column %r holds %s", path, column, UNITS[self.unit])
        if self._asked == "auto" and self.unit in PER_SECOND:
            self._span.refuse_numbers(*self._numbers, self.unit, path, column)
        found = [*self._lost.remarks(UNITS[self.unit]), *self._span.remarks(column)]
        for text in found:
            logger.warning("%s, column %r: %s", path, column, text)
        if found:
            notes["times"] = found

    def _parsed(self, cells: Cells) -> ParsedTimes:
        values = cells.values
        if values.dtype in (pl.Date, pl.Datetime):
            zone = values.dtype.time_zone if isinstance(values.dtype, pl.Datetime) else None
            moments = values.cast(pl.Datetime("us", zone))
            micros = moments.dt.epoch("us") if zone is not None else self._local(moments, None)
            return _from_micros(micros, "text", zoned=None if values.dtype == pl.Date else zone is not None)
        is_other = values.dtype.is_temporal() or values.dtype.is_nested()
        if is_other or values.dtype in (pl.Binary, pl.Boolean, pl.Object):
            raise DataError(f"has type {values.dtype}; {self.right}", path=cells.path, column=values.name)
        text = (_whole(values, values) if values.dtype.is_float() else values).cast(pl.String)
        if self._format is not None:
            micros = self._formatted(text.str.strip_chars(), self._format)
            if not self._or_any_form or micros.null_count() < len(micros):
                return _from_micros(micros, "text")
        numbers = values if values.dtype.is_numeric() else text.str.strip_chars().cast(pl.Float64, strict=False)
        if numbers.dtype.is_float():
            possible = (numbers.is_finite() & (numbers.abs() < BEYOND)).fill_null(False)
            numbers = numbers.zip_with(possible, pl.Series([None], dtype=numbers.dtype))
        count = len(values) - numbers.null_count()
        if not count or numbers.null_count() > values.null_count():
            micros, zoned = self._from_text(text, cells)
            if len(micros) - micros.null_count() >= count:
                return _from_micros(micros, "text", zoned=zoned)
        self._lost.look(values, numbers)
        return self._from_numbers(_whole(values, numbers), cells)

    def _agree(self, parsed: ParsedTimes, cells: Cells) -> None:
        place = first(parsed.seconds.is_not_null())
        if self.unit is not None and (self.unit == "text") != (parsed.unit == "text"):
            forms = ("dates", "numbers") if self.unit == "text" else ("numbers", "dates")
            raise cells.error(
                place,
                f"the times before are {forms[0]}, and from {cells.values[place]!r} on they are {forms[1]}; bring the "
                "column to one form",
            )
        if None not in (self._zoned, parsed.zoned) and self._zoned != parsed.zoned:
            raise cells.error(place, MIXED_ZONES.format(value=repr(str(cells.values[place]))))
        self._zoned = parsed.zoned

    def _from_numbers(self, numbers: pl.Series, cells: Cells) -> ParsedTimes:
        low, high = numbers.min(), numbers.max()
        self._numbers = min(float(low), self._numbers[0]), max(float(high), self._numbers[1])  # type: ignore[arg-type]
        unit = self._unit(numbers, cells) if self._asked == "auto" else self._asked
        if unit in LONG_UNITS:
            size, begin = LONG_UNITS[unit]
            # Excel's fractions of a day hold times to about a millisecond.
            millis = ((numbers.cast(pl.Float64) - begin) * size * 1000).round().cast(pl.Int64, strict=False)
            return _from_micros(millis * 1000, unit)
        scale = PER_SECOND[unit]
        if numbers.dtype.is_integer():
            return ParsedTimes(numbers // scale, numbers % scale, unit)
        return _from_micros((numbers / scale * 1_000_000).floor().cast(pl.Int64, strict=False), unit)

    def _unit(self, numbers: pl.Series, cells: Cells) -> str:
        """The unit of the column, from the size of the numbers."""
        refuse_written_dates(numbers, cells)
        sizes = numbers.abs()
        unit = self.unit
        if unit not in PER_SECOND:
            unit = next((each for each, limit in LARGEST.items() if float(sizes.max()) < limit), "ns")  # type: ignore[arg-type]
        units = list(PER_SECOND)
        finer = sizes >= LARGEST[unit] if unit != "ns" else sizes < 0
        other = finer if unit == "s" else finer | (sizes < LARGEST[units[units.index(unit) - 1]])
        if other.any():
            index = first(other)
            raise cells.error(
                index,
                f"{numbers[index]} looks like another unit than the rest, which looks like {unit!r}; "
                "bring the column to one unit or state it (--time-unit)",
            )
        return unit

    def _from_text(self, text: pl.Series, cells: Cells) -> tuple[pl.Series, bool | None]:
        """Microseconds since 1970, null where the text is no time; and whether texts name a zone, if any is a time."""
        plain = text.str.strip_chars()
        zone = plain.str.extract(ZONE, 2)
        local = plain.str.replace(ZONE, "$1").str.replace("T", " ", literal=True)
        micros = pl.Series(text.name, [None], dtype=pl.Int64).new_from_index(0, len(text))
        for form in FORMATS:
            if micros.null_count():
                micros = micros.zip_with(micros.is_not_null(), self._local(datetimes(local, form), zone.is_null()))
        zoned = zone.is_not_null() & micros.is_not_null()
        bare = ~zoned & micros.is_not_null()
        if zoned.any() and bare.any():
            index = first(bare if self._zoned is not False else zoned)
            raise cells.error(index, MIXED_ZONES.format(value=repr(text[index])))
        named = bool(zoned.any()) if micros.null_count() < len(micros) else None
        return micros - _offset_minutes(zone) * 60_000_000, named

    def _formatted(self, text: pl.Series, form: str) -> pl.Series:
        if not any(code in form for code in ("%M", "%T", "%R", "%X", "%c", "%s", "%r")) and (
            "%H" in form or "%I" in form
        ):
            text, form = text + " 00", f"{form} %M"
        try:
            if set(form) <= set("%YymdHMS"):
                text = text.str.strip_suffix(".0")  # digits that went through a column of floats
            if any(code in form for code in ("%z", "%:z", "%#z", "%Z", "%+")):
                return text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC").dt.epoch("us")
            return self._local(datetimes(text, form), None)
        except pl.exceptions.PolarsError as error:
            raise ConfigError(str(error).partition("\n")[0], key="time_format") from None

    def _local(self, moments: pl.Series, bare: pl.Series | None) -> pl.Series:
        """Microseconds since 1970 of times without a zone: in UTC, or where `bare` in the zone that was named."""
        plain = moments.dt.epoch("us")
        if self._zone is None:
            return plain
        there = moments.dt.replace_time_zone(self._zone, ambiguous="earliest", non_existent="null").dt.epoch("us")
        return there if bare is None else there.zip_with(bare, plain)


def _whole(values: pl.Series, numbers: pl.Series) -> pl.Series:
    """Integers where all values are whole (a float has no room for nanoseconds), else the numbers as they are."""
    exact = values.cast(pl.Int64, strict=False) if values.dtype == pl.String else numbers.cast(pl.Int64, strict=False)
    if exact.null_count() == numbers.null_count() and (
        numbers.dtype.is_integer() or bool((exact.cast(pl.Float64) == numbers).all())
    ):
        return exact
    return numbers.cast(pl.Float64)


def _offset_minutes(zone: pl.Series) -> pl.Series:
    """Minutes ahead of UTC; 0 without a zone."""
    digits = zone.str.replace_all(r"\D", "")
    hours, minutes = (digits.str.slice(at, 2).cast(pl.Int64, strict=False).fill_null(0) for at in (0, 2))
    sign = 1 - 2 * zone.str.starts_with("-").fill_null(False).cast(pl.Int64)
    return sign * (hours * 60 + minutes)


def _from_micros(micros: pl.Series, unit: str, *, zoned: bool | None = None) -> ParsedTimes:
    return ParsedTimes(micros // 1_000_000, micros % 1_000_000, unit, zoned)

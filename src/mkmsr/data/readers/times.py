"""Times as people write them, to whole seconds since 1970 (UTC), and the order that fractions of a second give."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from mkmsr.data.readers.options import ReadOptions
from mkmsr.errors import ConfigError, DataError

__all__ = ["ParsedTimes", "TimeColumn"]

logger = logging.getLogger(__name__)

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
LARGEST = {"s": 10**11, "ms": 10**14, "us": 10**17, "ns": 10**20}
"""Numbers below a limit are of that unit or a coarser one: 10**11 s is the year 5138, 10**11 ms is 1973."""

LONG_UNITS = {"min": 60, "h": 3600, "d": 86_400, "excel": 86_400}
"""Seconds of the units that are only used where they are stated."""
EXCEL_1970 = 25_569
"""The first of January 1970 as a day number of Excel."""
UNITS = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "min": "minutes",
    "h": "hours",
    "d": "days",
    "excel": "day numbers of Excel",
    "text": "dates and times",
}

BEYOND = 2.0**63
"""No time reaches it in any unit: in nanoseconds it is the year 2262."""

EARLIEST = 631_152_000
"""The year 1990: logs of shops are younger."""
EARLIEST_TICKS = 694_224_000
"""The year 1992, before which the ticks of .NET are if they are read as nanoseconds."""
SMALLEST_DAY = 7_305
"""The first day of 1990, counted from 1970; smaller numbers count rows, or seconds from the start of a recording."""
DAY = 86_400
SHORT_LOG = 60
"""Seconds. A whole log of more than some events is longer."""

ZONE = r"^(.*:\d{2}(?:\.\d+)?)\s*(Z|z|UTC|[+-]\d{2}(?::?\d{2})?)$"
"""A zone follows a time of day, so that the end of a date is not taken for one."""
FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
RIGHT = (
    "should be unix seconds or milliseconds, or like 2018-03-01 00:00:06 or 2018-03-01T00:00:06Z; other forms take "
    "--time-format, such as '%d/%m/%Y %H:%M'"
)
DIGITS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%3f"}
"""Dates written in so many digits."""
MIXED_ZONES = "some times have a time zone and others have none, here {value}; give all rows a zone, or none"
POWER = r"^\s*[-+]?\d(?:\.(\d+))?[eE]\+?(\d+)\s*$"
"""A number as spreadsheets shorten it: 1.70001E+12."""


@dataclass(frozen=True)
class ParsedTimes:
    """A column of times.

    Args:
        seconds: Whole seconds since 1970 (UTC); null where the value is not a time. Int64.
        fraction: What is left of each time below a second, in a unit of its own, for sorting. Int64.
        unit: What the column was, a key of UNITS.
        zoned: Whether texts named a time zone; None where there is no text.
    """

    seconds: pl.Series
    fraction: pl.Series
    unit: str
    zoned: bool | None = None


class TimeColumn:
    """The times of a table that is read piece by piece, which have to agree over its pieces.

    Numbers, ISO 8601 text, "YYYY-MM-DD HH:MM:SS" text, the date types of Parquet, or what the options say. Text without
    a zone is taken as UTC unless a zone is named. The unit "auto" is told from the size of the numbers.

    Args:
        options: Unit, form and zone, as far as they are stated.

    Raises:
        ConfigError: There is no such zone, or the form fits numbers of a stated unit only.
    """

    def __init__(self, options: ReadOptions):
        self.unit: str | None = None
        """What the pieces so far were, as in `ParsedTimes`; None before the first one."""
        self.right = RIGHT if options.time_format is None else f"should be written as {options.time_format!r}"
        self._asked, self._format = options.time_unit, options.time_format
        self._zone = _zone(options.time_zone)
        self._zoned: bool | None = None
        self._span: tuple[int, int] | None = None
        self._numbers = (math.inf, -math.inf)
        self._count = self._outside = 0
        self._rounded = _Rounded()

    def read(self, values: pl.Series, rows: pl.Series, path: Path | str) -> ParsedTimes:
        """The times of the next piece.

        Null where a time is missing or cannot be read; where some values are numbers and others dates, those of the
        rarer form.

        Args:
            values: The raw column.
            rows: Each value's line in the file, for messages.
            path: The file, for messages.

        Raises:
            DataError: Units or zones are mixed, or the column holds something else altogether.
        """
        parsed = self._parsed(values, rows, path)
        known = parsed.seconds.drop_nulls()
        if len(known):
            self._agree(parsed, values, rows, path)
            low, high = int(known.min()), int(known.max())  # type: ignore[arg-type]
            span = self._span or (low, high)
            self._span = min(low, span[0]), max(high, span[1])
            self._count += len(known)
            if low < EARLIEST or high > _tomorrow():
                self._outside += int(((known < EARLIEST) | (known > _tomorrow())).sum())
            self.unit = parsed.unit
        return parsed

    def finish(self, path: Path | str, column: str, notes: dict[str, Any]) -> None:
        """Notes what the times are, and warns of what is strange about them.

        Raises:
            DataError: They are no times as they were read: all before 1990, or all in the future.
        """
        if self.unit is None or self._span is None:
            return
        notes["time_unit"] = UNITS[self.unit]
        logger.info("%s: column %r holds %s", path, column, UNITS[self.unit])
        low, high = self._span
        if self._asked == "auto" and self.unit in PER_SECOND:
            self._refuse_strange_numbers(path, column)
        found = []
        if self._rounded.count:
            found.append(self._rounded.text(self.unit))
        if self._outside:
            found.append(
                f"{self._outside} of {self._count} times lie outside 1990 to tomorrow, {_date(low)} to {_date(high)}; "
                f"if the column only numbers the rows, call it so: --columns order={column}"
            )
        if high - low < SHORT_LOG and self._count > SHORT_LOG:
            found.append(f"all {self._count} times lie within {high - low} seconds; state the unit with --time-unit")
        for text in found:
            logger.warning("%s, column %r: %s", path, column, text)
        if found:
            notes["times"] = found

    def _parsed(self, values: pl.Series, rows: pl.Series, path: Path | str) -> ParsedTimes:
        if values.dtype.is_temporal():
            return _from_micros(self._temporal(values, path), "text")
        if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Boolean, pl.Object):
            raise DataError(f"has type {values.dtype}; {self.right}", path=path, column=values.name)
        text = _whole_text(values)
        if self._format is not None:
            return _from_micros(self._formatted(text.str.strip_chars(), self._format), "text")
        numbers = values if values.dtype.is_numeric() else text.str.strip_chars().cast(pl.Float64, strict=False)
        if numbers.dtype.is_float():
            possible = (numbers.is_finite() & (numbers.abs() < BEYOND)).fill_null(False)
            numbers = numbers.zip_with(possible, pl.Series([None], dtype=numbers.dtype))
        count = len(values) - numbers.null_count()
        if not count or numbers.null_count() > values.null_count():
            micros, zoned = self._from_text(text, path, rows)
            if len(micros) - micros.null_count() >= count:
                return _from_micros(micros, "text", zoned=zoned)
        self._rounded.look(values, numbers)
        return self._from_numbers(_whole(values, numbers), path, rows)

    def _agree(self, parsed: ParsedTimes, values: pl.Series, rows: pl.Series, path: Path | str) -> None:
        place = _first(parsed.seconds.is_not_null())
        where: dict[str, Any] = {"path": path, "row": int(rows[place]), "column": values.name}
        if self.unit is not None and (self.unit == "text") != (parsed.unit == "text"):
            forms = ("dates", "numbers") if self.unit == "text" else ("numbers", "dates")
            raise DataError(
                f"the times before are {forms[0]}, and from {values[place]!r} on they are {forms[1]}; bring the column "
                "to one form",
                **where,
            )
        if None not in (self._zoned, parsed.zoned) and self._zoned != parsed.zoned:
            raise DataError(MIXED_ZONES.format(value=repr(values[place])), **where)
        self._zoned = parsed.zoned

    def _from_numbers(self, numbers: pl.Series, path: Path | str, rows: pl.Series) -> ParsedTimes:
        low, high = numbers.min(), numbers.max()
        if low is None or high is None:
            return _from_micros(numbers.cast(pl.Int64, strict=False), self.unit or "s")
        self._numbers = min(float(low), self._numbers[0]), max(float(high), self._numbers[1])  # type: ignore[arg-type]
        unit: str = self._asked
        if unit == "auto":
            unit = self._unit(numbers, path, rows)
        if unit in LONG_UNITS:
            days = numbers.cast(pl.Float64) - (EXCEL_1970 if unit == "excel" else 0)
            # Excel's fractions of a day hold times to about a millisecond.
            return _from_micros((days * LONG_UNITS[unit] * 1000).round().cast(pl.Int64, strict=False) * 1000, unit)
        scale = PER_SECOND[unit]
        if numbers.dtype.is_integer():
            return ParsedTimes(numbers // scale, numbers % scale, unit)
        return _from_micros((numbers / scale * 1_000_000).floor().cast(pl.Int64, strict=False), unit)

    def _unit(self, numbers: pl.Series, path: Path | str, rows: pl.Series) -> str:
        """The unit of the column, from the size of the numbers.

        Raises:
            DataError: A number is of another unit, or they are dates in digits.
        """
        _refuse_written_dates(numbers, path, rows)
        sizes = numbers.abs()
        unit = self.unit
        if unit not in PER_SECOND:
            unit = next((each for each, limit in LARGEST.items() if float(sizes.max()) < limit), "ns")  # type: ignore[arg-type]
        units = list(PER_SECOND)
        finer = sizes >= LARGEST[unit] if unit != "ns" else sizes < 0
        other = finer if unit == "s" else finer | (sizes < LARGEST[units[units.index(unit) - 1]])
        if other.any():
            index = _first(other)
            raise DataError(
                f"{numbers[index]} looks like another unit than the rest, which looks like {unit!r}; "
                "bring the column to one unit or state it (--time-unit)",
                path=path,
                row=int(rows[index]),
                column=numbers.name,
            )
        return unit

    def _refuse_strange_numbers(self, path: Path | str, column: str) -> None:
        assert self._span is not None
        assert self.unit is not None
        (low, high), (small, large) = self._span, self._numbers
        early = EARLIEST_TICKS if self.unit == "ns" else EARLIEST
        if low <= _tomorrow() and (high >= early or small < SMALLEST_DAY):
            return
        likely = [
            f"{UNITS[unit]} (--time-unit {unit})"
            for unit, per in LONG_UNITS.items()
            if (small - (EXCEL_1970 if unit == "excel" else 0)) * per >= EARLIEST
            and (large - (EXCEL_1970 if unit == "excel" else 0)) * per <= _tomorrow()
        ]
        hint = f"they may be {' or '.join(likely)}" if likely else "--time-format or --time-unit says what they are"
        raise DataError(
            f"numbers like {small:g} are no unix time: as {UNITS[self.unit]} they would be from {_date(low)} to "
            f"{_date(high)}; {hint}; if they are right, state --time-unit {self.unit}, and if they only number the "
            f"rows, --columns order={column}",
            path=path,
            column=column,
        )

    def _from_text(self, text: pl.Series, path: Path | str, rows: pl.Series) -> tuple[pl.Series, bool | None]:
        """Microseconds since 1970, null where the text is no time; and whether texts name a zone, if any is a time."""
        plain = text.str.strip_chars()
        zone = plain.str.extract(ZONE, 2)
        local = plain.str.replace(ZONE, "$1").str.replace("T", " ", literal=True)
        micros = pl.Series(text.name, [None], dtype=pl.Int64).new_from_index(0, len(text))
        for form in FORMATS:
            if micros.null_count():
                micros = micros.zip_with(micros.is_not_null(), self._local(_datetimes(local, form), zone.is_null()))
        zoned = zone.is_not_null() & micros.is_not_null()
        bare = ~zoned & micros.is_not_null()
        if zoned.any() and bare.any():
            index = _first(bare if self._zoned is not False else zoned)
            raise DataError(
                MIXED_ZONES.format(value=repr(text[index])), path=path, row=int(rows[index]), column=text.name
            )
        named = bool(zoned.any()) if micros.null_count() < len(micros) else None
        return micros - _offset_minutes(zone) * 60_000_000, named

    def _formatted(self, text: pl.Series, form: str) -> pl.Series:
        if not any(code in form for code in ("%M", "%T", "%R", "%X", "%c", "%s", "%r")) and (
            "%H" in form or "%I" in form
        ):
            text, form = text + " 00", f"{form} %M"
        try:
            if any(code in form for code in ("%z", "%:z", "%#z", "%Z", "%+")):
                return text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC").dt.epoch("us")
            return self._local(_datetimes(text, form), None)
        except pl.exceptions.PolarsError as error:
            raise ConfigError(str(error).partition("\n")[0], key="time_format") from None

    def _temporal(self, values: pl.Series, path: Path | str) -> pl.Series:
        if values.dtype not in (pl.Date, pl.Datetime):
            raise DataError(f"has type {values.dtype}; {self.right}", path=path, column=values.name)
        zone = getattr(values.dtype, "time_zone", None)
        moments = values.cast(pl.Datetime("us", zone))
        return moments.dt.epoch("us") if zone is not None else self._local(moments, None)

    def _local(self, moments: pl.Series, bare: pl.Series | None) -> pl.Series:
        """Microseconds since 1970 of times without a zone: in UTC, or where `bare` in the zone that was named."""
        plain = moments.dt.epoch("us")
        if self._zone is None:
            return plain
        there = moments.dt.replace_time_zone(self._zone, ambiguous="earliest", non_existent="null").dt.epoch("us")
        return there if bare is None else there.zip_with(bare, plain)


class _Rounded:
    """Numbers that lost digits before they came here."""

    def __init__(self) -> None:
        self.count, self._step, self._example = 0, 0.0, ""

    def look(self, values: pl.Series, numbers: pl.Series) -> None:
        largest = numbers.abs().max()
        if values.dtype == pl.Float32 and largest:
            self._found(len(values), 2.0 ** (math.floor(math.log2(float(largest))) - 23), "Float32")  # type: ignore[arg-type]
        elif values.dtype == pl.String and bool((short := values.str.contains("[eE]")).any()):
            shortened = values.filter(short)
            digits = shortened.str.extract(POWER, 1).str.len_bytes().fill_null(0).cast(pl.Int64)
            steps = shortened.str.extract(POWER, 2).cast(pl.Int64, strict=False) - digits
            if (highest := steps.max()) is not None:
                self._found(len(shortened), 10.0 ** int(highest), repr(shortened[0]))  # type: ignore[arg-type]

    def _found(self, count: int, step: float, example: str) -> None:
        if step > 1:
            self.count, self._step = self.count + count, max(step, self._step)
            self._example = self._example or example

    def text(self, unit: str) -> str:
        return (
            f"{self.count} times have lost precision: written like {self._example}, they are rounded to "
            f"{self._step:,.0f} {UNITS[unit]}"
        )


def _zone(name: str | None) -> str | None:
    if name is not None:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigError(f"no time zone {name!r}; should be like Europe/Berlin", key="time_zone") from None
    return name


def _whole_text(values: pl.Series) -> pl.Series:
    """A column as text, whole numbers without a fraction."""
    if values.dtype.is_float():
        values = _whole(values, values)
    return values.cast(pl.String)


def _whole(values: pl.Series, numbers: pl.Series) -> pl.Series:
    """Integers where all values are whole (a float has no room for nanoseconds), else the numbers as they are."""
    exact = values.cast(pl.Int64, strict=False) if values.dtype == pl.String else numbers.cast(pl.Int64, strict=False)
    if exact.null_count() == numbers.null_count() and (
        numbers.dtype.is_integer() or bool((exact.cast(pl.Float64) == numbers).all())
    ):
        return exact
    return numbers.cast(pl.Float64)


def _refuse_written_dates(numbers: pl.Series, path: Path | str, rows: pl.Series) -> None:
    """Tell 20250131 and 20250131235959, dates in digits, from times counted since 1970, of which they would be some.

    Raises:
        DataError: All the numbers are such dates of the years 1970 to 2100.
    """
    if not numbers.dtype.is_integer():
        return
    low, high = int(numbers.min()), int(numbers.max())  # type: ignore[arg-type]
    for digits, form in DIGITS.items():
        scale = 10 ** (digits - 8)
        if not 19700101 * scale <= low <= high < 21010101 * scale:
            continue
        text = numbers.cast(pl.String) + ("00" if digits == 10 else "")
        if _datetimes(text, form if digits != 10 else f"{form}%M").null_count() == numbers.null_count():
            first = _first(numbers.is_not_null())
            raise DataError(
                f"{numbers[first]} looks like a date in digits; --time-format {form} reads it as one, and --time-unit "
                "says what it counts if it is none",
                path=path,
                row=int(rows[first]),
                column=numbers.name,
            )


def _datetimes(local: pl.Series, form: str) -> pl.Series:
    """Times without a zone, in one form; null where the text is in another."""
    if any(code in form for code in ("%H", "%I", "%T", "%R", "%X", "%c", "%s", "%r", "%k", "%l")):
        return local.str.to_datetime(form, strict=False, time_unit="us")
    return local.str.to_date(form, strict=False).cast(pl.Datetime("us"))


def _offset_minutes(zone: pl.Series) -> pl.Series:
    """Minutes ahead of UTC; 0 without a zone."""
    digits = zone.str.replace_all(r"\D", "")
    hours, minutes = (digits.str.slice(at, 2).cast(pl.Int64, strict=False).fill_null(0) for at in (0, 2))
    sign = 1 - 2 * zone.str.starts_with("-").fill_null(False).cast(pl.Int64)
    return sign * (hours * 60 + minutes)


def _from_micros(micros: pl.Series, unit: str, *, zoned: bool | None = None) -> ParsedTimes:
    return ParsedTimes(micros // 1_000_000, micros % 1_000_000, unit, zoned)


def _first(mask: pl.Series) -> int:
    return int(mask.fill_null(False).arg_max() or 0)


def _tomorrow() -> int:
    return int(time.time()) + DAY


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.3g} s"

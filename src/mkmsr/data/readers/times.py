"""Times as people write them, to whole seconds since 1970 (UTC), and the order that fractions of a second give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mkmsr.data.readers.options import TimeUnit
from mkmsr.errors import DataError

__all__ = ["RIGHT", "ParsedTimes", "TimeColumn", "read_times"]

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
LARGEST = {"s": 10**11, "ms": 10**14, "us": 10**17, "ns": 10**20}
"""Numbers below a limit are of that unit or a coarser one: 10**11 s is the year 5138, 10**11 ms is 1973."""

BEYOND = 2.0**63
"""No time reaches it in any unit: in nanoseconds it is the year 2262."""

ZONE = r"^(.*:\d{2}(?:\.\d+)?)\s*(Z|z|UTC|[+-]\d{2}(?::?\d{2})?)$"
"""A zone follows a time of day, so that the end of a date is not taken for one."""
FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
RIGHT = "should be unix seconds or milliseconds, or like 2018-03-01 00:00:06 or 2018-03-01T00:00:06Z"


@dataclass(frozen=True)
class ParsedTimes:
    """A column of times.

    Args:
        seconds: Whole seconds since 1970 (UTC); null where the value is not a time. Int64.
        fraction: What is left of each time below a second, in a unit of its own, for sorting. Int64.
        unit: What the column was: "s", "ms", "us", "ns", or "text".
        zoned: Whether texts named a time zone; None where there is no text.
    """

    seconds: pl.Series
    fraction: pl.Series
    unit: str
    zoned: bool | None = None


def read_times(values: pl.Series, *, unit: TimeUnit, path: Path | str, rows: pl.Series | None = None) -> ParsedTimes:
    """Times from a raw column: numbers, ISO 8601 text, "YYYY-MM-DD HH:MM:SS" text, or the date types of Parquet.

    Null where a time is missing or cannot be read; where some values are numbers and others dates, those of the rarer
    form. Text without a zone is taken as UTC. The unit "auto" is told from the size of the numbers.

    Args:
        values: The raw column.
        unit: Unit of numbers.
        path: The file, for messages.
        rows: Each value's row in the file, from 0, for messages; None counts them.

    Raises:
        DataError: Units or zones are mixed, or the column holds something else altogether.
    """
    if values.dtype.is_temporal():
        return _from_micros(_temporal(values, path))
    rows = rows if rows is not None else pl.int_range(len(values), eager=True)
    text = values.cast(pl.String)
    numbers = values if values.dtype.is_numeric() else text.str.strip_chars().cast(pl.Float64, strict=False)
    if numbers.dtype.is_float():
        possible = (numbers.is_finite() & (numbers.abs() < BEYOND)).fill_null(False)
        numbers = numbers.zip_with(possible, pl.Series([None], dtype=numbers.dtype))
    count = len(values) - numbers.null_count()
    if not count or numbers.null_count() > values.null_count():
        micros, zoned = _from_text(text, path, rows)
        if len(micros) - micros.null_count() >= count:
            return _from_micros(micros, zoned=zoned)
    return _from_numbers(_whole(values, numbers), unit, path, rows)


class TimeColumn:
    """The times of a table that is read piece by piece, which have to agree over its pieces.

    Args:
        unit: Unit of numbers.
        label: The table, for messages.
    """

    def __init__(self, unit: TimeUnit, label: str):
        self.label = label
        self.unit: str | None = None
        """What the pieces so far were, as in `ParsedTimes`; None before the first one."""
        self._asked = unit
        self._zoned: bool | None = None

    def read(self, values: pl.Series, rows: pl.Series) -> ParsedTimes:
        """The times of the next piece, as `read_times` gives them.

        Raises:
            DataError: Units or zones are mixed, within the piece or between it and an earlier one.
        """
        parsed = read_times(values, unit=self._asked, path=self.label, rows=rows)
        if parsed.seconds.null_count() < len(values):
            row = int(rows[_first(parsed.seconds.is_not_null())]) + 2
            if self.unit not in (None, parsed.unit):
                raise DataError(
                    f"from here on the times look like {parsed.unit!r}, before like {self.unit!r}; "
                    "bring the column to one form and unit",
                    path=self.label,
                    row=row,
                    column=values.name,
                )
            if None not in (self._zoned, parsed.zoned) and self._zoned != parsed.zoned:
                raise DataError(
                    "some times have a time zone and others have none; give all rows a zone, or none",
                    path=self.label,
                    row=row,
                    column=values.name,
                )
            self._zoned = parsed.zoned
        if self.unit is None or parsed.seconds.null_count() < len(values):
            self.unit = parsed.unit
        return parsed


def _whole(values: pl.Series, numbers: pl.Series) -> pl.Series:
    """Integers where all values are whole (a float has no room for nanoseconds), else the numbers as they are."""
    exact = values.cast(pl.Int64, strict=False) if values.dtype == pl.String else numbers.cast(pl.Int64, strict=False)
    if exact.null_count() == numbers.null_count() and (
        numbers.dtype.is_integer() or bool((exact.cast(pl.Float64) == numbers).all())
    ):
        return exact
    return numbers


def _from_numbers(numbers: pl.Series, unit: TimeUnit, path: Path | str, rows: pl.Series) -> ParsedTimes:
    found = unit if unit != "auto" else _unit_of(float(numbers.abs().max()))  # type: ignore[arg-type]
    if unit == "auto":
        _refuse_written_dates(numbers, path, rows)
    if unit == "auto" and found != "s":
        other = numbers.abs() < LARGEST[_coarser(found)]
        if other.any():
            index = _first(other)
            raise DataError(
                f"{numbers[index]} looks like another unit than the rest, which looks like {found!r}; "
                "bring the column to one unit or state it (time_unit)",
                path=path,
                row=int(rows[index]) + 2,
                column=numbers.name,
            )
    scale = PER_SECOND[found]
    if numbers.dtype.is_integer():
        return ParsedTimes(numbers // scale, numbers % scale, found)
    return _from_micros((numbers / scale * 1_000_000).floor().cast(pl.Int64, strict=False), found)


def _refuse_written_dates(numbers: pl.Series, path: Path | str, rows: pl.Series) -> None:
    """Tell 20250131 and 20250131235959, dates in digits, from times counted since 1970, of which they would be some.

    Raises:
        DataError: All the numbers are such dates of the years 1970 to 2100.
    """
    if not numbers.dtype.is_integer() or not len(numbers.drop_nulls()):
        return
    low, high = int(numbers.min()), int(numbers.max())  # type: ignore[arg-type]
    for digits, form in ((8, "%Y%m%d"), (14, "%Y%m%d%H%M%S")):
        scale = 10 ** (digits - 8)
        if not 19700101 * scale <= low <= high < 21010101 * scale:
            continue
        text = numbers.cast(pl.String)
        dates = _dates(text, form) if digits == 8 else text.str.to_datetime(form, strict=False)
        if dates.null_count() == numbers.null_count():
            first = _first(numbers.is_not_null())
            raise DataError(
                f"{numbers[first]} looks like a date in digits; {RIGHT}; or state a unit (time_unit) if it is none",
                path=path,
                row=int(rows[first]) + 2,
                column=numbers.name,
            )


def _unit_of(largest: float) -> str:
    return next((unit for unit, limit in LARGEST.items() if largest < limit), "ns")


def _coarser(unit: str) -> str:
    units = list(PER_SECOND)
    return units[units.index(unit) - 1]


def _from_text(text: pl.Series, path: Path | str, rows: pl.Series) -> tuple[pl.Series, bool | None]:
    """Microseconds since 1970, null where the text is not a time; and whether texts name a zone, if any is a time."""
    plain = text.str.strip_chars()
    zone = plain.str.extract(ZONE, 2)
    local = plain.str.replace(ZONE, "$1").str.replace("T", " ", literal=True)
    micros = pl.Series(text.name, [None], dtype=pl.Int64).new_from_index(0, len(text))
    for form in FORMATS:
        if micros.null_count():
            parsed = local.str.to_datetime(form, strict=False, time_unit="us") if "%H" in form else _dates(local, form)
            micros = micros.zip_with(micros.is_not_null(), parsed.dt.epoch("us"))
    zoned = zone.is_not_null() & micros.is_not_null()
    bare = ~zoned & micros.is_not_null()
    if zoned.any() and bare.any():
        index = _first(bare)
        raise DataError(
            f"{text[index]!r} has no time zone where other rows have one; give all rows a zone, or none",
            path=path,
            row=int(rows[index]) + 2,
            column=text.name,
        )
    named = bool(zoned.any()) if micros.null_count() < len(micros) else None
    return micros - _offset_minutes(zone) * 60_000_000, named


def _offset_minutes(zone: pl.Series) -> pl.Series:
    """Minutes ahead of UTC; 0 without a zone."""
    digits = zone.str.replace_all(r"\D", "")
    hours, minutes = (digits.str.slice(at, 2).cast(pl.Int64, strict=False).fill_null(0) for at in (0, 2))
    sign = 1 - 2 * zone.str.starts_with("-").fill_null(False).cast(pl.Int64)
    return sign * (hours * 60 + minutes)


def _dates(local: pl.Series, form: str) -> pl.Series:
    return local.str.to_date(form, strict=False).cast(pl.Datetime("us"))


def _temporal(values: pl.Series, path: Path | str) -> pl.Series:
    if values.dtype not in (pl.Date, pl.Datetime):
        raise DataError(f"has type {values.dtype}; {RIGHT}", path=path, column=values.name)
    return values.cast(pl.Datetime("us", getattr(values.dtype, "time_zone", None))).dt.epoch("us")


def _from_micros(micros: pl.Series, unit: str = "text", *, zoned: bool | None = None) -> ParsedTimes:
    return ParsedTimes(micros // 1_000_000, micros % 1_000_000, unit, zoned)


def _first(mask: pl.Series) -> int:
    return int(mask.fill_null(False).arg_max() or 0)

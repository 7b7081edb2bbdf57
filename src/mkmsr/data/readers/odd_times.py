"""What is strange about a column of times: numbers that cannot be times, dates in digits, lost digits."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from mkmsr.errors import DataError

LONG_UNITS = {"min": (60, 0), "h": (3600, 0), "d": (86_400, 0), "excel": (86_400, 25_569)}
"""Units that are only used where they are stated: their seconds, and the number of the first of January 1970."""
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

EARLIEST = 631_152_000
"""The year 1990: logs of shops are younger."""
EARLIEST_TICKS = 694_224_000
"""The year 1992, before which the ticks of .NET are if they are read as nanoseconds."""
SMALLEST_DAY = 7_305
"""The first day of 1990, counted from 1970; smaller numbers count rows, or seconds from the start of a recording."""
DAY = 86_400
SHORT_LOG = 60
"""Seconds. A whole log of more than some events is longer."""

DIGITS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%3f"}
"""Dates written in so many digits."""
POWER = r"^\s*[-+]?\d(?:\.(\d+))?[eE]\+?(\d+)\s*$"
"""A number as spreadsheets shorten it: 1.70001E+12."""


@dataclass(frozen=True)
class Cells:
    """Some cells of a column, with their lines in the file."""

    values: pl.Series
    rows: pl.Series
    path: Path | str

    def error(self, index: int, text: str) -> DataError:
        """Return the error of one of them."""
        return DataError(text, path=self.path, row=int(self.rows[index]), column=self.values.name)


class Span:
    """The range of the times of a column, and how many of them lie outside 1990 to tomorrow."""

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf
        self._count = self._outside = 0

    def look(self, seconds: pl.Series) -> None:
        """Take note of some times, without nulls."""
        low, high = int(seconds.min()), int(seconds.max())  # type: ignore[arg-type]
        self._low, self._high = min(low, self._low), max(high, self._high)
        self._count += len(seconds)
        if low < EARLIEST or high > _tomorrow():
            self._outside += int(((seconds < EARLIEST) | (seconds > _tomorrow())).sum())

    def refuse_numbers(self, small: float, large: float, unit: str, path: Path | str, column: str) -> None:
        """Refuse numbers from `small` to `large` if as times in this unit all are before 1990, or in the future."""
        early = EARLIEST_TICKS if unit == "ns" else EARLIEST
        if self._low <= _tomorrow() and (self._high >= early or small < SMALLEST_DAY):
            return
        likely = [
            f"{UNITS[other]} (--time-unit {other})"
            for other, (size, begin) in LONG_UNITS.items()
            if (small - begin) * size >= EARLIEST and (large - begin) * size <= _tomorrow()
        ]
        hint = f"they may be {' or '.join(likely)}" if likely else "--time-format or --time-unit says what they are"
        raise DataError(
            f"numbers like {small:g} are no unix time: as {UNITS[unit]} they would be from {_date(self._low)} to "
            f"{_date(self._high)}; {hint}; if they are right, state --time-unit {unit}, and if they only number the "
            f"rows, --columns order={column}",
            path=path,
            column=column,
        )

    def remarks(self, column: str) -> list[str]:
        """What is strange about the times."""
        found = []
        if self._outside:
            found.append(
                f"{self._outside} of {self._count} times lie outside 1990 to tomorrow, {_date(self._low)} to "
                f"{_date(self._high)}; if the column only numbers the rows, call it so: --columns order={column}"
            )
        lasts = self._high - self._low
        if lasts < SHORT_LOG < self._count:
            found.append(f"all {self._count} times lie within {lasts} seconds; state the unit with --time-unit")
        return found


class LostDigits:
    """Numbers that lost digits before they came here."""

    def __init__(self) -> None:
        self._count, self._step, self._example = 0, 0.0, ""

    def look(self, values: pl.Series, numbers: pl.Series) -> None:
        """Take note of some times as the file has them, and as numbers."""
        largest = numbers.abs().max()
        if values.dtype == pl.Float32 and largest:
            self._found(len(values), 2.0 ** (math.floor(math.log2(float(largest))) - 23), "Float32")  # type: ignore[arg-type]
        elif values.dtype == pl.String and bool((short := values.str.contains("[eE]")).any()):
            shortened = values.filter(short)
            digits = shortened.str.extract(POWER, 1).str.len_bytes().fill_null(0).cast(pl.Int64)
            steps = shortened.str.extract(POWER, 2).cast(pl.Int64, strict=False) - digits
            if (highest := steps.max()) is not None:
                self._found(len(shortened), 10.0 ** min(int(highest), 300), repr(shortened[0]))  # type: ignore[arg-type]

    def _found(self, count: int, step: float, example: str) -> None:
        if step > 1:
            self._count, self._step = self._count + count, max(step, self._step)
            self._example = self._example or example

    def remarks(self, unit: str) -> list[str]:
        """What to say of them; `unit` in words."""
        text = f"{self._count} times have lost precision: written like {self._example}, they are rounded to "
        return [f"{text}{self._step:,.0f} {unit}"] if self._count else []


def refuse_written_dates(numbers: pl.Series, cells: Cells) -> None:
    """Refuse 20250131 and 20250131235959, dates in digits, which would also be times counted since 1970."""
    if not numbers.dtype.is_integer():
        whole = numbers.cast(pl.Int64, strict=False)
        if not bool((whole.cast(pl.Float64) == numbers.cast(pl.Float64)).all()):
            return
        numbers = whole
    if numbers.null_count() == len(numbers):  # too large for any time, all of them
        return
    low, high = int(numbers.min()), int(numbers.max())  # type: ignore[arg-type]
    for digits, form in DIGITS.items():
        scale = 10 ** (digits - 8)
        if not 19700101 * scale <= low <= high < 21010101 * scale:
            continue
        text = numbers.cast(pl.String) + ("00" if digits == 10 else "")
        if datetimes(text, form if digits != 10 else f"{form}%M").null_count() == numbers.null_count():
            place = first(numbers.is_not_null())
            raise cells.error(
                place,
                f"{numbers[place]} looks like a date in digits; --time-format {form} reads it as one, and --time-unit "
                "says what it counts if it is none",
            )


def datetimes(local: pl.Series, form: str) -> pl.Series:
    """Times without a zone, in one form; null where the text is in another."""
    if any(code in form for code in ("%H", "%I", "%T", "%R", "%X", "%c", "%s", "%r", "%k", "%l")):
        return local.str.to_datetime(form, strict=False, time_unit="us")
    return local.str.to_date(form, strict=False).cast(pl.Datetime("us"))


def first(mask: pl.Series) -> int:
    """Return where a mask is true first."""
    return int(mask.fill_null(False).arg_max() or 0)


def _tomorrow() -> int:
    return int(time.time()) + DAY


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.3g} s"

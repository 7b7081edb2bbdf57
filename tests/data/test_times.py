"""Times in the forms in which logs hold them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkmsr.data.readers.times import read_times
from mkmsr.errors import DataError

PATH = Path("log.csv")
SECOND = 1_519_862_406  # 2018-03-01 00:00:06 UTC


def seconds(*values: object, unit: str = "auto") -> list[int | None]:
    return read_times(pl.Series("ts", values), unit=unit, path=PATH).seconds.to_list()


@pytest.mark.parametrize(
    "text",
    [
        "2018-03-01 00:00:06",
        "2018-03-01T00:00:06",
        "2018-03-01T00:00:06Z",
        "2018-03-01 00:00:06 UTC",
        "2018-03-01T08:00:06+08:00",
        "2018-02-28T19:00:06-0500",
        "2018-03-01 01:00:06+01",
        "2018-03-01T00:00:06.750Z",
        str(SECOND),
        f"{SECOND}.0",
        f"{SECOND}250",
        f" {SECOND} ",
    ],
)
def test_one_moment_is_read_from_every_form(text):
    assert seconds(text) == [SECOND]


def test_a_date_is_its_first_second_and_minutes_do_without_seconds():
    assert seconds("2018-03-01", "2018-03-01 00:01") == [SECOND - 6, SECOND + 54]


@pytest.mark.parametrize(("scale", "unit"), [(1, "s"), (10**3, "ms"), (10**6, "us"), (10**9, "ns")])
def test_the_unit_of_numbers_is_told_from_their_size(scale, unit):
    parsed = read_times(pl.Series("ts", [SECOND * scale, (SECOND + 1) * scale]), unit="auto", path=PATH)
    assert parsed.seconds.to_list() == [SECOND, SECOND + 1]
    assert parsed.unit == unit


def test_a_stated_unit_wins_over_the_size():
    assert seconds(5_000, 7_999, unit="ms") == [5, 7]


@given(st.lists(st.integers(10**12, 4 * 10**12), min_size=1, max_size=20))
def test_seconds_and_fraction_keep_the_order_of_milliseconds(millis):
    parsed = read_times(pl.Series("ts", millis), unit="auto", path=PATH)
    pairs = list(zip(parsed.seconds.to_list(), parsed.fraction.to_list(), strict=True))
    assert [second * 1000 + fraction for second, fraction in pairs] == millis


def test_the_date_types_of_parquet_are_read():
    moment = datetime(2018, 3, 1, 0, 0, 6, tzinfo=UTC)
    assert seconds(moment) == [SECOND]
    assert seconds(moment.replace(tzinfo=None)) == [SECOND]
    assert seconds(date(2018, 3, 1)) == [SECOND - 6]


@pytest.mark.parametrize("digits", ["1" * 20, "9" * 30, "-" + "9" * 30, f"{SECOND}.5e20"])
@pytest.mark.parametrize("unit", ["auto", "s", "ns"])
def test_a_number_too_large_for_any_time_is_no_time(digits, unit):
    assert seconds(str(SECOND), digits, unit=unit)[1] is None


def test_nanoseconds_called_seconds_are_no_times():
    assert seconds(f"{SECOND}000000000.5", unit="s") == [None]


def test_what_is_missing_or_no_time_is_null():
    assert seconds("2018-03-01 00:00:06", "yesterday", "2018-03-01 00:00:07") == [SECOND, None, SECOND + 1]
    assert seconds("1519862406", None, "1519862407", "12:30") == [SECOND, None, SECOND + 1, None]
    assert seconds(float("nan"), 1.0) == [None, 1]


def test_of_numbers_among_dates_the_rarer_form_is_null():
    assert seconds("2018-03-01 00:00:06", "1519862406", "2018-03-01 00:00:08") == [SECOND, None, SECOND + 2]
    assert seconds("1519862406", "2018-03-01 00:00:06", "1519862408") == [SECOND, None, SECOND + 2]


def test_seconds_among_milliseconds_are_refused():
    with pytest.raises(DataError, match=r"row 3.*1519862406 looks like another unit than the rest.*'ms'"):
        seconds(SECOND * 1000, SECOND, (SECOND + 1) * 1000)


def test_times_without_a_zone_among_times_with_one_are_refused():
    with pytest.raises(DataError, match=r"row 3.*has no time zone where other rows have one"):
        seconds("2018-03-01T00:00:06Z", "2018-03-01T00:00:06")


def test_a_column_of_another_type_is_refused():
    with pytest.raises(DataError, match=r"column 'ts': has type Duration"):
        read_times(pl.Series("ts", [1], dtype=pl.Duration("us")), unit="auto", path=PATH)


@pytest.mark.parametrize(
    "digits", [["20250131", "20250201"], ["20250131235959", "20250201000000"], [None, "19991231", "19991231"]]
)
def test_dates_in_digits_are_not_taken_for_seconds(digits):
    with pytest.raises(DataError, match=r"row [23], column 'time': \d+ looks like a date in digits; should be unix"):
        read_times(pl.Series("time", digits), unit="auto", path="log.csv")


@pytest.mark.parametrize("unit", ["s", "auto"])
def test_digits_that_are_no_dates_throughout_are_numbers(unit):
    numbers = ["20250131", "20250132"] if unit == "auto" else ["20250131", "20250201"]
    assert read_times(pl.Series("time", numbers), unit=unit, path="log.csv").seconds[0] == 20250131

"""Times in the forms in which logs hold them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.times import ParsedTimes, TimeColumn
from mkmsr.errors import ConfigError, DataError

PATH = Path("log.csv")
SECOND = 1_519_862_406  # 2018-03-01 00:00:06 UTC


def parsed(values: pl.Series, **options: object) -> ParsedTimes:
    """The times of a file in one piece, whose first row is the second line."""
    column = TimeColumn(ReadOptions.model_validate(options))
    times = column.read(values, pl.int_range(2, len(values) + 2, eager=True), PATH)
    column.finish(PATH, values.name, {})
    return times


def seconds(*values: object, unit: str = "auto", **options: object) -> list[int | None]:
    return parsed(pl.Series("ts", values), time_unit=unit, **options).seconds.to_list()


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
    times = parsed(pl.Series("ts", [SECOND * scale, (SECOND + 1) * scale]))
    assert times.seconds.to_list() == [SECOND, SECOND + 1]
    assert times.unit == unit


def test_a_stated_unit_wins_over_the_size():
    assert seconds(5_000, 7_999, unit="ms") == [5, 7]


@given(st.lists(st.integers(10**12, 4 * 10**12), min_size=1, max_size=20))
def test_seconds_and_fraction_keep_the_order_of_milliseconds(millis):
    times = TimeColumn(ReadOptions()).read(pl.Series("ts", millis), pl.int_range(len(millis), eager=True), PATH)
    pairs = list(zip(times.seconds.to_list(), times.fraction.to_list(), strict=True))
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


@pytest.mark.parametrize("values", [[2**100, None], [None, None]])
def test_a_column_of_integers_none_of_which_is_a_time_holds_none(values):
    assert parsed(pl.Series("ts", values, dtype=pl.Int128)).seconds.to_list() == [None, None]


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
    with pytest.raises(DataError, match=r"row 3.*some times have a time zone and others have none, here '2018-"):
        seconds("2018-03-01T00:00:06Z", "2018-03-01T00:00:06")


def test_a_column_of_another_type_is_refused():
    column = pl.Series("ts", [1], dtype=pl.Duration("us"))
    with pytest.raises(DataError, match=r"column 'ts': has type Duration.*; should be unix seconds or milliseconds"):
        parsed(column)
    with pytest.raises(DataError, match=r"column 'ts': has type Duration.*; should be written as '%d/%m/%Y'"):
        parsed(column, time_format="%d/%m/%Y")


@pytest.mark.parametrize(
    ("digits", "form"),
    [
        (["20250131", "20250201"], "%Y%m%d"),
        (["2023111501", "2023111523"], "%Y%m%d%H"),
        (["202311150105", "202311152359"], "%Y%m%d%H%M"),
        (["20250131235959", "20250201000000"], "%Y%m%d%H%M%S"),
        (["20231115010423123", "20231115010424007"], "%Y%m%d%H%M%S%3f"),
        ([None, "19991231", "19991231"], "%Y%m%d"),
    ],
)
def test_dates_in_digits_are_not_taken_for_seconds_and_their_form_reads_them(digits, form):
    message = rf"row [23], column 'ts': \d+ looks like a date in digits; --time-format {form} reads it as one"
    with pytest.raises(DataError, match=message):
        seconds(*digits)
    first = datetime.fromtimestamp(seconds(*digits, time_format=form)[-1], UTC)
    assert first.strftime("%Y%m%d") == digits[-1][:8]
    numbers = [None if each is None else int(each) for each in digits]
    assert seconds(*numbers, time_format=form) == seconds(*digits, time_format=form)


def test_digits_that_are_no_dates_throughout_are_numbers():
    assert seconds("20250131", "20250132", unit="s")[0] == 20250131


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        (["45245.01", "45248.40"], "day numbers of Excel (--time-unit excel)"),
        ([45245, 45248], "day numbers of Excel (--time-unit excel)"),
        ([19676, 19680], "days (--time-unit d)"),
        ([472_222, 472_300], "hours (--time-unit h)"),
        ([28_333_333, 28_339_999], "minutes (--time-unit min)"),
        ([638_356_000_000_000_000, 638_356_000_010_000_000], "--time-format or --time-unit says what they are"),
        ([13_344_551_461_000_000, 13_344_551_462_000_000], "--time-format or --time-unit says what they are"),
    ],
)
def test_numbers_that_would_be_no_times_of_a_shop_are_refused_with_what_they_may_be(values, hint):
    with pytest.raises(DataError, match=r"column 'ts': numbers like .* are no unix time") as caught:
        seconds(*values)
    assert hint in str(caught.value)
    assert "--columns order=ts" in str(caught.value)


def test_units_that_are_stated_are_read():
    assert seconds("45245.5", unit="excel") == [1_700_049_600]
    assert seconds(19676, unit="d") == [19676 * 86_400]
    assert seconds(28_333_333, unit="min") == [28_333_333 * 60]
    assert seconds(45245, unit="s") == [45245]


@pytest.mark.parametrize(
    ("text", "form", "moment"),
    [
        ("15/11/2023 00:17", "%d/%m/%Y %H:%M", 1_700_007_420),
        ("11/15/2023 12:17 AM", "%m/%d/%Y %I:%M %p", 1_700_007_420),
        ("15.11.2023", "%d.%m.%Y", 1_700_006_400),
        ("15/Nov/2023:01:17:00 +0100", "%d/%b/%Y:%H:%M:%S %z", 1_700_007_420),
        ("15/11/2023 01:17 +01:00", "%d/%m/%Y %H:%M %:z", 1_700_007_420),
    ],
)
def test_a_form_that_is_stated_is_read(text, form, moment):
    assert seconds(text, time_format=form) == [moment]
    assert seconds(text) == [None]


def test_times_without_a_zone_are_taken_in_the_zone_that_is_named():
    berlin = {"time_zone": "Europe/Berlin"}
    assert seconds("2023-07-01 02:00:00", "2023-12-01 01:00:00", **berlin) == [1_688_169_600, 1_701_388_800]
    assert seconds(datetime(2023, 7, 1, 2), **berlin) == [1_688_169_600]
    assert seconds("01.07.2023 02:00", time_format="%d.%m.%Y %H:%M", **berlin) == [1_688_169_600]
    assert seconds("2023-07-01T02:00:00Z", **berlin) == [1_688_176_800]
    assert seconds("01/07/2023 02:00 +00:00", time_format="%d/%m/%Y %H:%M %:z", **berlin) == [1_688_176_800]
    assert seconds("2023-03-26 02:30:00", **berlin) == [None]  # the clocks went forward


def test_a_zone_that_is_not_known():
    with pytest.raises(ConfigError, match="time_zone: no time zone 'Berlin'; should be like Europe/Berlin"):
        seconds("2023-07-01 02:00:00", time_zone="Berlin")


def test_a_power_beyond_every_number_is_no_time():
    assert seconds("1.7e9", "1e999", "1.7e9")[1] is None


@pytest.mark.parametrize(
    ("values", "lost"),
    [
        (
            pl.Series("ts", [1.7e9, 1.7e9 + 200], dtype=pl.Float32),
            "2 times .* Float32, they are rounded to 128 s",
        ),
        (
            pl.Series("ts", ["1.70001E+12", "1.70002E+12", "1700030000000"]),
            r"2 times .* '1.70001E\+12', they are rounded to 10,000,000 milliseconds",
        ),
    ],
)
def test_times_that_lost_precision_are_counted_in_a_warning(values, lost, caplog):
    notes: dict[str, Any] = {}
    column = TimeColumn(ReadOptions())
    column.read(values, pl.int_range(len(values), eager=True), PATH)
    column.finish(PATH, "ts", notes)
    assert re.search(lost, caplog.text)
    assert re.search(lost, notes["times"][0])


def test_times_outside_1990_to_tomorrow_are_counted_in_a_warning(caplog):
    assert seconds(0, SECOND, 4_000_000_000) == [0, SECOND, 4_000_000_000]
    assert "2 of 3 times lie outside 1990 to tomorrow, 1970-01-01 to 2096-10-02" in caplog.text


def test_a_log_that_lasts_only_seconds_is_warned_of(caplog):
    seconds(*[SECOND + n % 3 for n in range(100)])
    assert "all 100 times lie within 2 seconds; state the unit with --time-unit" in caplog.text


def test_dates_in_digits_that_went_through_floats_are_known_and_read():
    texts = ("20231115000403.0", "20231116000403.0")
    with pytest.raises(DataError, match="looks like a date in digits"):
        seconds(*texts)
    assert seconds(*texts, time_format="%Y%m%d%H%M%S") == [1_700_006_643, 1_700_093_043]


def test_date_types_with_and_without_a_zone_do_not_mix():
    column = TimeColumn(ReadOptions())
    moment, row = datetime(2018, 3, 1), pl.Series([2])
    column.read(pl.Series("ts", [moment]), row, PATH)
    with pytest.raises(DataError, match="others have none, here '2018-03-01 00:00:00\\+00:00'"):
        column.read(pl.Series("ts", [moment.replace(tzinfo=UTC)]), row, PATH)


def pieces(*values: list[object], **options: object) -> list[list[int | None]]:
    """The times of a file in several pieces, whose first row is the second line."""
    column, found, row = TimeColumn(ReadOptions.model_validate(options)), [], 2
    for each in values:
        times = column.read(pl.Series("ts", each, strict=False), pl.int_range(row, row + len(each), eager=True), PATH)
        found.append(times.seconds.to_list())
        row += len(each)
    return found


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("2018-03-01", str(SECOND), f"the times before are dates, and from '{SECOND}' on they are numbers"),
        (str(SECOND), "2018-03-01", "the times before are numbers, and from '2018-03-01' on they are dates"),
    ],
)
def test_dates_after_numbers_are_refused_and_the_other_way_round(first: str, second: str, message: str):
    with pytest.raises(DataError, match=f"row 4, column 'ts': {message}; bring the column to one form"):
        pieces([first], ["", second])


def test_a_piece_without_times_leaves_the_form_of_the_others_open_or_as_it_was():
    assert pieces([None], [SECOND * 1000]) == [[None], [SECOND]]
    assert pieces([SECOND * 1000], [float("nan")], [(SECOND + 1) * 1000]) == [[SECOND], [None], [SECOND + 1]]
    assert pieces(["2018-03-01T00:00:06Z"], [""], ["2018-03-01T00:00:07Z"]) == [[SECOND], [None], [SECOND + 1]]


def test_the_unit_of_the_first_piece_holds_for_the_others():
    assert pieces([1_519_862_406], [700_000_000]) == [[SECOND], [700_000_000]]
    with pytest.raises(DataError, match=f"row 3, column 'ts': {SECOND * 1000} looks like another unit"):
        pieces([SECOND], [SECOND * 1000])
    assert pieces([10**11]) == [[10**8]]
    with pytest.raises(DataError, match="row 3, column 'ts': 100000000000 looks like another unit"):
        pieces([SECOND], [10**11])


def test_zones_agree_over_pieces():
    with pytest.raises(DataError, match=r"row 3.*others have none, here '2018-03-01T00:00:06'"):
        pieces(["2018-03-01T00:00:06Z"], ["2018-03-01T00:00:06"])
    with pytest.raises(DataError, match=r"row 4.*others have none, here '2018-03-01T00:00:07Z'"):
        pieces(["2018-03-01T00:00:06"], ["2018-03-01T00:00:06", "2018-03-01T00:00:07Z"])


def test_a_form_that_cannot_be_read_is_refused():
    with pytest.raises(ConfigError, match=r"time_format: .*12-hour directive and meridiem"):
        seconds("15/11/2023 10", time_format="%d/%m/%Y %I")

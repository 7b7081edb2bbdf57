"""Quotation marks, line ends and separators as exports write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import events_of, write

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.errors import DataError

ROWS = [f"s{n // 3},i{n % 5},{1700000000 + n}" for n in range(120)]


def log_of(folder: Path, content: str | bytes, name: str = "log.csv", **options: Any) -> InteractionLog:
    return read_log("events", write(folder, {name: content}) / name, ReadOptions(**options))


def titled(*titles: str) -> str:
    """A log whose last, unused column holds some titles, the others an ordinary one."""
    cells = [*titles, *["Shirt"] * (len(ROWS) - len(titles))]
    return "session,item,time,title\n" + "".join(f"{row},{cell}\n" for row, cell in zip(ROWS, cells, strict=True))


@pytest.mark.parametrize("scratch", [False, True])
@pytest.mark.parametrize(
    "title", ['TV 32"', 'a 5" and a 7" disk', '"quoted, with comma"', '"say ""hi"""', '""', "d'or", '"two\nlines"']
)
def test_marks_of_an_unused_column_lose_no_row(tmp_path, title, scratch):
    log = log_of(tmp_path, titled(title, title), scratch=tmp_path if scratch else None)
    assert len(events_of(log)) == 120
    assert "malformed_rows" not in log.notes


def test_a_mark_that_nothing_closes_costs_its_own_row_only(tmp_path):
    log = log_of(tmp_path, titled("Shirt", '"open', 'a "b" c', "Shirt"), malformed_limit=0.1)
    assert len(events_of(log)) == 119
    assert log.notes["malformed_examples"] == [
        "log.csv, row 3: a quotation mark is open or stray; --quote none reads marks as characters"
    ]


def test_a_field_that_swallows_rows_is_named_in_a_warning(tmp_path, caplog):
    content = titled(*["Shirt"] * 9, '"Shirt', *["Shirt"] * 30, 'Shirt"')
    log_of(tmp_path, content)
    assert "log.csv, row 11: a field begins here that spans 32 lines; if its quotation mark is only" in caplog.text
    with pytest.raises(DataError, match=r"log.csv, row 11: a field begins here that spans 32 lines"):
        log_of(tmp_path, content, strict=True)
    assert len(events_of(log_of(tmp_path, content, quote=False))) == 120


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_line_ends_of_every_system_are_read(tmp_path, end):
    content = end.join(["session,item,time", *ROWS]) + end
    assert len(events_of(log_of(tmp_path, content))) == 120


@pytest.mark.parametrize(
    ("separator", "between"), [(r"\t", "\t"), ("\t", "\t"), ("::", "::"), ("§", "§"), (r"\x01", "\x01")]
)
def test_separators_of_any_length_are_read(tmp_path, separator, between):
    content = "\n".join(["session,item,time", *ROWS]).replace(",", between)
    assert len(events_of(log_of(tmp_path, content, "log.dat", separator=separator))) == 120


def test_the_separator_that_a_message_proposes_reads_the_file(tmp_path):
    content = "\n".join(["session,item,time", *ROWS]).replace(",", "\t")
    with pytest.raises(DataError, match=r"others take --separator '(?P<separator>.*)'$") as caught:
        log_of(tmp_path, content)
    proposed = str(caught.value).rpartition("--separator ")[2].strip("'")
    assert len(events_of(log_of(tmp_path, content, separator=proposed))) == 120


@pytest.mark.parametrize("separator", ['"', "\n"])
def test_a_mark_or_a_line_end_is_no_separator(separator):
    with pytest.raises(ValueError, match="no separator"):
        ReadOptions(separator=separator)


@pytest.mark.parametrize("scratch", [False, True])
def test_blank_lines_before_the_header_do_no_harm(tmp_path, scratch):
    content = "\n\r\n" + "\n".join(["session,item,time", *ROWS[:5], "s,,", *ROWS[5:]])
    log = log_of(tmp_path, content, scratch=tmp_path if scratch else None)
    assert len(events_of(log)) == 120
    assert log.notes["malformed_examples"] == ["log.csv, row 9, column 'time': the time is missing"]


def test_blanks_around_names_are_no_part_of_them(tmp_path):
    assert len(events_of(log_of(tmp_path, "\n".join(["session, item , time", *ROWS])))) == 120


def test_names_that_are_empty_or_doubled_matter_only_where_they_are_used(tmp_path):
    content = "session,item,time,,,price,price\n" + "".join(f"{row},,,1,2\n" for row in ROWS)
    assert len(events_of(log_of(tmp_path, content))) == 120
    with pytest.raises(DataError, match=r"log.csv, row 1, column 'price': this name stands twice in the header"):
        log_of(tmp_path, content, columns={"operation": "price"})


CELL = st.text(alphabet=st.sampled_from('ab",\n ;|'), max_size=6).filter(lambda cell: cell.strip() != "")


@settings(deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_what_a_csv_writer_wrote_is_read_as_it_was(tmp_path_factory, cells):
    import csv

    path = tmp_path_factory.mktemp("csv") / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("user", "item"), *((f"u{user}", f"i{item}") for user, item in cells)])
    read = events_of(read_log("events", path, ReadOptions(malformed_limit=1)), "user_id")
    assert [(user, item) for user, item, *_ in read] == [(f"u{user}", f"i{item}") for user, item in cells]

"""Ids of every type become the text that people would write; words that stand for nothing are counted."""

from __future__ import annotations

import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from raw_files import events_of, triples_of, write

from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.data.readers.cells import as_text
from mkmsr.errors import DataError

UUID = uuid.UUID("0011e2f3-1111-4222-8333-444455556677")


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pl.Series([102.0, None, float("nan"), 7.0]), ["102", None, None, "7"]),
        (pl.Series([102.0, 10.5]), ["102", "10.5"]),
        (pl.Series([2.0**24, 3.0], dtype=pl.Float32), ["16777216", "3"]),
        (pl.Series([Decimal("102.000000000"), Decimal("10.50")], dtype=pl.Decimal(38, 9)), ["102", "10.5"]),
        (pl.Series([100, 2**63 - 1]), ["100", "9223372036854775807"]),
        (pl.Series([True, False]), ["true", "false"]),
        (pl.Series([b"00102", b"\xc3\xa9"]), ["00102", "\u00e9"]),
        (pl.Series([UUID.bytes, None]), [str(UUID), None]),
        (pl.Series(["102.0", " a ", "NaN"]), ["102.0", " a ", "NaN"]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
    ],
)
def test_an_id_is_the_text_that_people_would_write(values, texts):
    assert as_text(values, "log.parquet").to_list() == texts


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pl.Series("id", [2.0**53 + 2]), "9007199254740994 is more than a Float64 holds exactly"),
        (pl.Series("id", [2.0**24 + 2], dtype=pl.Float32), "16777218 is more than a Float32 holds exactly"),
        (pl.Series("id", [b"\xff\x00"]), "holds bytes that are no text"),
        (pl.Series("id", [["a"]]), r"has type List\(String\), should be one value a row"),
        (pl.Series("id", [{"a": 1}]), "has type Struct"),
    ],
)
def test_what_has_no_such_text_is_refused_by_name(values, message):
    with pytest.raises(DataError, match=rf"log.parquet, column 'id': {message}"):
        as_text(values, "log.parquet")


def test_ids_of_events_and_attributes_meet_though_one_file_has_them_as_floats(tmp_path):
    events = {"session": ["s", "s", "s"], "item": [102.0, 103.0, float("nan")]}
    pl.DataFrame(events).write_parquet(tmp_path / "events.parquet")
    write(tmp_path, {"items.csv": "item,brand\n102,acme\n103,zeta\n"})
    log = read_log("events", tmp_path / "events.parquet", ReadOptions(attributes=tmp_path / "items.csv"))
    assert [item for _, item, *_ in events_of(log)] == ["102", "103"]
    assert triples_of(log) == [("102", "brand", "acme"), ("103", "brand", "zeta")]
    assert log.notes["events_without_item"] == 1


def text_log(folder: Path, content: str, **options: Any) -> Any:
    return read_log("events", write(folder, {"log.csv": content}) / "log.csv", ReadOptions(**options))


FILLED = (
    "user,item,operation,time\nnull,a,view,1700000000\nu,b,None,1700000001\n"
    "\\N,c,view,1700000002\nnull,NaN,view,1700000003\n"
)


def test_words_that_may_stand_for_nothing_are_data_and_counted(tmp_path, caplog):
    log = text_log(tmp_path, FILLED)
    assert [user for user, *_ in events_of(log, "user_id")] == ["null", "u", "\\N", "null"]
    assert log.notes["filler_words"] == {
        "item_id": {"NaN": 1},
        "user_id": {"null": 2, "\\N": 1},
        "operation": {"None": 1},
    }
    assert "user_id holds 'null' (2), '\\\\N' (1); --missing WORDS takes words for missing values" in caplog.text


def test_words_that_are_said_to_stand_for_nothing_are_missing(tmp_path):
    log = text_log(tmp_path, FILLED, missing=("null", "NaN"), malformed_limit=0.9)
    assert [user for user, *_ in events_of(log, "user_id")] == ["u", "\\N"]
    assert log.notes["malformed_rows"] == 2


def test_ids_that_a_spreadsheet_shortened_are_counted(tmp_path):
    log = text_log(tmp_path, "user,item\nu,1.23457E+12\nu,1.23458E+12\n")
    assert log.notes["filler_words"] == {"item_id": {"1.23457E+12": 1, "1.23458E+12": 1}}


def test_a_header_again_is_left_out_and_counted_whatever_the_limit(tmp_path):
    content = "user,item\nu,a\nuser,item\nu,b\nuser,item\n"
    log = text_log(tmp_path, content)
    assert [item for _, item, *_ in events_of(log, "user_id")] == ["a", "b"]
    assert log.notes["repeated_headers"] == 2
    with pytest.raises(DataError, match=r"log.csv, row 3: the header again \(2 such rows\)"):
        text_log(tmp_path, content, strict=True)


class TestEventsWithoutAProduct:
    CONTENT = (
        "session,user,item,operation,time\ns,u,,page_view,1700000000\ns,u,a,view,1700000001\ns,,b,view,1700000002\n"
    )

    @pytest.mark.parametrize("strict", [False, True])
    def test_they_are_left_out_and_counted_and_no_fault(self, tmp_path, strict):
        log = text_log(tmp_path, self.CONTENT, strict=strict)
        assert [item for _, item, *_ in events_of(log)] == ["a", "b"]
        assert log.notes["events_without_item"] == 1
        assert "malformed_rows" not in log.notes

    def test_a_session_needs_no_user(self, tmp_path):
        log = text_log(tmp_path, self.CONTENT)
        assert log.events.collect()["user_id"].to_list() == ["u", None]
        assert log.notes["sessions_of_several_users"] == 0

    def test_sessions_of_nobody_are_no_visitors_of_each_other(self, tmp_path):
        sessions = [("s1", "u"), ("s2", ""), ("s3", "u"), ("s4", ""), ("s5", "")]
        rows = [
            f"{session},{user},{item},{1700000000 + 100 * n + place}"
            for n, (session, user) in enumerate(sessions)
            for place, item in enumerate("ab")
        ]
        log = text_log(tmp_path, "session,user,item,time\n" + "\n".join(rows) + "\n")
        dataset = prepare(log, PrepareOptions(visitors=True, test_share=0, validation_share=0))
        assert dataset.train.earlier is not None
        assert np.diff(dataset.train.earlier.offsets).tolist() == [0, 0, 2, 0, 0]


class TestSeveralItemsInOneCell:
    @pytest.mark.parametrize(
        ("cell", "separator"), [('"[""a"", ""b""]"', "[]"), ("a|b", "|"), ("['a' 'b']", "[]"), ("a;b", ";")]
    )
    def test_they_are_refused_with_a_hint_and_taken_apart_on_request(self, tmp_path, cell, separator):
        rows = [f"s,{cell},1700000000", *([] if separator == "[]" else ["s,a,1700000001", "s,b,1700000002"])]
        content = "session,item,time\n" + "\n".join(rows) + "\n"
        with pytest.raises(DataError, match=r"row 2, column 'item': .* holds several items; --item-separator"):
            text_log(tmp_path, content)
        log = text_log(tmp_path, content, item_separator=separator)
        assert [item for _, item, *_ in events_of(log)][:2] == ["a", "b"]
        assert len(log.events.collect()["row"].unique()) == log.events.collect().height

    def test_lists_of_parquet_are_taken_apart_on_request(self, tmp_path):
        pl.DataFrame({"session": ["s", "s"], "item": [["a", "b"], []]}).write_parquet(tmp_path / "log.parquet")
        log = read_log("events", tmp_path / "log.parquet", ReadOptions(item_separator="[]"))
        assert [item for _, item, *_ in events_of(log)] == ["a", "b"]
        assert log.notes["events_without_item"] == 1


def test_a_column_that_only_numbers_the_rows_may_order_them(tmp_path):
    content = "session,item,n\ns,late,30\ns,early,4\n"
    log = text_log(tmp_path, content, columns={"order": "n"})
    assert not log.has_time
    assert log.events.sort("row").collect()["item_id"].to_list() == ["early", "late"]
    with pytest.raises(DataError, match=r"row 2, column 'n': found 'x', should be a whole number"):
        text_log(tmp_path, content.replace("30", "x"), columns={"order": "n"})

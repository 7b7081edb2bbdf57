"""What becomes of rows and files that are not as they should be: counted and reported, or refused with a place."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import polars as pl
import pytest
from raw_files import events_of, triples_of, write

from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import PUBLIC_DATASETS, ReadOptions, read_log
from mkmsr.data.readers.public import Intake, needed
from mkmsr.errors import ConfigError, DataError

GOOD = [f"u{n % 40},i{n % 7},click,{1519862406 + n}" for n in range(400)]
HEADER = "user,item,operation,time"


def log_file(folder: Path, *bad: str | bytes, name: str = "log.csv") -> Path:
    """Four hundred good rows with some others in their midst, from row 202 on."""
    lines = [each.encode() if isinstance(each, str) else each for each in (HEADER, *GOOD[:200], *bad, *GOOD[200:])]
    return write(folder, {name: b"\n".join(lines) + b"\n"}) / name


class TestEventTables:
    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("u1,i1,click,soon", "row 202, column 'time': cannot read 'soon' as a time; should be unix seconds"),
            ("u1,i1,click,", "row 202, column 'time': the time is missing"),
            ("u1,i1,,1519862406", "row 202, column 'operation': the value is empty"),
            ("u1", "row 202, column 'operation': the value is empty"),
            ('u1,"i1,click,1519862406', "row 202: a quotation mark is open or stray; --quote none reads"),
            ("u1,i1,click,1519862406,7", "row 202: more fields than the file has columns"),
            ("u1,caf\u00e9,click,1519862406".encode("latin-1"), "row 202: not UTF-8 text"),
        ],
    )
    def test_a_malformed_row_is_left_out_and_reported(self, tmp_path, caplog, line, message):
        with caplog.at_level(logging.WARNING):
            log = read_log("events", log_file(tmp_path, line))
        assert len(events_of(log, "user_id")) == 400
        assert log.notes["malformed_rows"] == 1
        assert log.notes["malformed_examples"][0].startswith(f"log.csv, {message}")
        assert "1 of 401 rows are malformed and left out" in caplog.text

    def test_a_strict_reader_refuses_it(self, tmp_path):
        path = log_file(tmp_path, "u1,i1,click,soon")
        with pytest.raises(DataError, match=r"log.csv, row 202, column 'time': cannot read 'soon' as a time"):
            read_log("events", path, ReadOptions(strict=True))
        with pytest.raises(DataError, match=r"log.csv, row 202: more fields than the file has columns"):
            read_log("events", log_file(tmp_path, "u1,i1,click,1,1"), ReadOptions(strict=True))

    def test_too_many_are_refused_with_their_share(self, tmp_path):
        path = log_file(tmp_path, *(f"u1,i1,,{n}" for n in range(9)))
        message = r"row 202, column 'operation': the value is empty \(9 such rows\); 9 of 409 rows cannot be read"
        with pytest.raises(DataError, match=message):
            read_log("events", path)
        assert read_log("events", path, ReadOptions(malformed_limit=0.03)).notes["malformed_rows"] == 9

    def test_only_the_first_examples_are_kept(self, tmp_path):
        bad = [f"u1,i1,,{n}" for n in range(1, 9)]
        log = read_log("events", log_file(tmp_path, *bad), ReadOptions(malformed_limit=0.1))
        rows = [example.split(",")[1] for example in log.notes["malformed_examples"]]
        assert rows == [" row 202", " row 203", " row 204", " row 205", " row 206"]

    def test_rows_after_a_bad_line_are_numbered_as_in_the_file(self, tmp_path):
        path = log_file(tmp_path, b"u1,\xff,click,1519862406", "", "u1,i1,click,soon")
        log = read_log("events", path)
        assert [each[:16] for each in log.notes["malformed_examples"]] == ["log.csv, row 202", "log.csv, row 204"]

    def test_attributes_are_read_in_the_same_way(self, tmp_path):
        events = log_file(tmp_path)
        rows = "".join(f"i{n % 7},brand,b{n}\n" for n in range(300))
        table = write(tmp_path, {"attributes.csv": f"item,relation,value\n,brand,x\n{rows}"}) / "attributes.csv"
        log = read_log("events", events, ReadOptions(attributes=table))
        assert len(triples_of(log)) == 300
        assert log.notes["malformed_examples"] == ["attributes.csv, row 2, column 'item': the value is empty"]

    def test_mixed_time_zones_are_an_error_whatever_the_limit(self, tmp_path):
        content = "user,item,time\nu,a,2018-03-01T00:00:06Z\nu,b,2018-03-01T00:00:07\n"
        path = write(tmp_path, {"log.csv": content}) / "log.csv"
        with pytest.raises(DataError, match=r"row 3, column 'time': some times have a time zone and others have none"):
            read_log("events", path, ReadOptions(malformed_limit=1))

    def test_mixed_units_are_an_error_whatever_the_limit(self, tmp_path):
        content = "user,item,time\nu,a,1519862406000\n\nu,b,1519862407\n"
        path = write(tmp_path, {"log.csv": content}) / "log.csv"
        with pytest.raises(DataError, match=r"row 4, column 'time': 1519862407 looks like another unit than the rest"):
            read_log("events", path, ReadOptions(malformed_limit=1))

    def test_times_out_of_order_are_noted_and_then_sorted(self, tmp_path):
        content = "session,item,time\ns,b,20\ns,a,10\ns,c,30\nt,x,5\nt,y,6\n"
        log = read_log("events", write(tmp_path, {"log.csv": content}) / "log.csv")
        assert log.notes["events_out_of_order"] == 1
        dataset = prepare(log, PrepareOptions(test_share=0, validation_share=0))
        sessions = [[dataset.items.id(int(i)) for i in dataset.train.session(n)[0]] for n in range(2)]
        assert sessions == [["x", "y"], ["a", "b", "c"]]

    def test_duplicated_events_are_noted_and_dropped_on_request(self, tmp_path):
        content = "session,item,operation,time\n" + "s,a,view,10\n" * 3 + "s,a,buy,10\ns,b,view,11\n"
        log = read_log("events", write(tmp_path, {"log.csv": content}) / "log.csv")
        assert log.notes["duplicated_events"] == 2
        kept = prepare(log, PrepareOptions(test_share=0, validation_share=0, drop_duplicates=True))
        assert kept.train.num_events == 3

    def test_a_log_with_no_session_of_two_events_is_refused(self, tmp_path):
        log = read_log("events", write(tmp_path, {"log.csv": "session,item\na,x\nb,y\n"}) / "log.csv")
        with pytest.raises(DataError, match=r"no session is left: none has 2 events"):
            prepare(log)

    def test_a_session_over_the_split_of_its_owner_is_refused(self, tmp_path):
        content = "session,item,split\ns,a,train\ns,b,test\nt,a,train\nt,b,train\n"
        with pytest.raises(DataError, match=r"row 2: this session has events in more than one split"):
            prepare(read_log("events", write(tmp_path, {"log.csv": content}) / "log.csv"))


class TestFoldersOfParquet:
    def test_the_files_are_one_log_in_the_order_of_their_paths(self, tmp_path):
        for day, items in (("2024-01-02", ["c"]), ("2024-01-01", ["a", "b"])):
            folder = tmp_path / "log" / f"day={day}"
            folder.mkdir(parents=True)
            pl.DataFrame({"user": "u", "item": items}).write_parquet(folder / "part-0.parquet")
        (tmp_path / "log" / "_SUCCESS").write_text("")
        log = read_log("events", tmp_path / "log", ReadOptions(columns={"time": "day"}))
        assert [each[1:] for each in events_of(log, "user_id")] == [
            ("a", "event", 1704067200),
            ("b", "event", 1704067200),
            ("c", "event", 1704153600),
        ]
        assert len(log.sources) == 2

    def test_files_that_do_not_fit_together_are_named(self, tmp_path):
        pl.DataFrame({"user": ["u"], "item": ["a"]}).write_parquet(tmp_path / "a.parquet")
        pl.DataFrame({"user": ["u"], "sku": ["a"]}).write_parquet(tmp_path / "b.parquet")
        with pytest.raises(DataError, match=r"b.parquet, column 'item': no such column; the file has user, sku"):
            read_log("events", tmp_path)

    def test_a_damaged_file_is_named(self, tmp_path):
        pl.DataFrame({"user": ["u"], "item": ["a"]}).write_parquet(tmp_path / "a.parquet")
        (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing else")
        with pytest.raises(DataError, match=r"b.parquet: not a readable Parquet file"):
            read_log("events", tmp_path)

    def test_a_folder_without_any(self, tmp_path):
        with pytest.raises(DataError, match=r"holds no file that can be read: .csv, .tsv, .txt, .jsonl"):
            read_log("events", tmp_path)


def test_an_attribute_table_with_a_million_distinct_values_is_read(tmp_path):
    values = pl.DataFrame({"item": [f"i{n}" for n in range(7)] * 142_858}).with_columns(
        relation=pl.lit("tag"), value=pl.format("tag {}", pl.int_range(pl.len()))
    )
    values.write_parquet(tmp_path / "attributes.parquet")
    log = read_log("events", log_file(tmp_path), ReadOptions(attributes=tmp_path / "attributes.parquet"))
    dataset = prepare(log, PrepareOptions(min_item_events=1))
    assert len(dataset.knowledge.attributes) == len(dataset.knowledge) == 1_000_006


class TestLargeFiles:
    ACTIONS = "user_id,sku_id,action_time,module_id,type\n" + "".join(
        f"u{n % 5},i{n % 3},2018-02-04 08:{n // 60:02d}:{n % 60:02d},1,{1 + n % 5}\n" for n in range(600)
    )

    def test_they_stream_through_a_temporary_folder_that_goes_with_the_log(self, tmp_path):
        content = self.ACTIONS.replace("i2,2018-02-04 08:00:02", ",2018-02-04 08:00:02")
        folder = write(tmp_path / "raw", {"jdata_action.csv.gz": content})
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        log = read_log("jdata", folder, ReadOptions(relations=(), scratch=scratch))
        in_memory = read_log("jdata", folder, ReadOptions(relations=()))
        assert events_of(log, "user_id") == events_of(in_memory, "user_id")
        assert log.notes == in_memory.notes
        assert log.notes["malformed_rows"] == 1
        assert any(scratch.iterdir())
        del log
        gc.collect()
        assert not any(scratch.iterdir())

    def test_a_size_decides_which_files_stream(self, tmp_path, monkeypatch):
        path = write(tmp_path, {"table.csv": self.ACTIONS}) / "table.csv"
        for spill, streams in ((0, True), (1 << 20, False)):
            monkeypatch.setattr("mkmsr.data.readers.sources.SMALL_BYTES", spill)
            intake = Intake(PUBLIC_DATASETS["jdata"], path, ReadOptions())
            rows = intake.rows(path, {"item_id": needed("sku_id")})
            assert rows.collect().height == 600
            assert any(intake.scratch.folder.glob("*.parquet")) == streams

    def test_a_place_for_temporary_files_that_is_not_there(self, tmp_path):
        folder = write(tmp_path, {"jdata_action.csv": self.ACTIONS})
        with pytest.raises(DataError, match=r"nowhere: no such folder; it was named for temporary files"):
            read_log("jdata", folder, ReadOptions(relations=(), scratch=tmp_path / "nowhere"))


class TestTextFilesOfPublicDataSets:
    def read(self, folder: Path, content: str | bytes, **options: object):
        write(folder, {"jdata_action.csv": content})
        return read_log("jdata", folder, ReadOptions(relations=(), **options))

    def test_an_open_quotation_mark_is_located(self, tmp_path):
        content = TestLargeFiles.ACTIONS + '"u1,i1,2018-02-04 08:00:00,1,1\n'
        with pytest.raises(DataError, match=r"jdata_action.csv, row 602: a quotation mark is open or stray"):
            self.read(tmp_path, content, strict=True)
        assert self.read(tmp_path, content).notes["malformed_rows"] == 1

    def test_a_truncated_gzip_file(self, tmp_path):
        whole = write(tmp_path, {"jdata_action.csv.gz": TestLargeFiles.ACTIONS}) / "jdata_action.csv.gz"
        whole.write_bytes(whole.read_bytes()[:-20])
        with pytest.raises(DataError, match=r"the gzip file is truncated: it ends before its end mark"):
            read_log("jdata", tmp_path, ReadOptions(relations=()))

    def test_a_header_alone(self, tmp_path):
        with pytest.raises(DataError, match=r"the file has a header but no rows"):
            self.read(tmp_path, "user_id,sku_id,action_time,module_id,type\n")

    def test_an_empty_file(self, tmp_path):
        with pytest.raises(DataError, match=r"jdata_action.csv: the file is empty"):
            self.read(tmp_path, "")

    def test_a_name_twice_in_the_header(self, tmp_path):
        with pytest.raises(DataError, match=r"row 1, column 'type': this name stands twice"):
            self.read(tmp_path, "user_id,sku_id,action_time,type,type\n")

    def test_bytes_that_are_not_utf_8_make_one_malformed_row(self, tmp_path):
        bad = "u\u00e9,i1,2018-02-04 08:00:00,1,1\n".encode("latin-1")
        log = self.read(tmp_path, TestLargeFiles.ACTIONS.encode() + bad)
        assert log.notes["malformed_examples"] == [
            "jdata_action.csv, row 602: not UTF-8 text; convert the file to UTF-8"
        ]

    def test_windows_line_ends_a_byte_order_mark_and_blank_lines_do_no_harm(self, tmp_path):
        plain = events_of(self.read(tmp_path, TestLargeFiles.ACTIONS), "user_id")
        content = b"\xef\xbb\xbf" + TestLargeFiles.ACTIONS.replace("\n", "\r\n").encode() + b"\r\n\r\n"
        assert events_of(self.read(tmp_path, content, strict=True), "user_id") == plain

    def test_a_limit_outside_its_bounds(self):
        with pytest.raises(ValueError, match="malformed_limit"):
            ReadOptions(malformed_limit=2)

    def test_an_option_for_other_data_sets(self, tmp_path):
        with pytest.raises(ConfigError, match=r"attributes_at: the reader 'jdata' has no use for this option"):
            self.read(tmp_path, TestLargeFiles.ACTIONS, attributes_at="2018-03-01")

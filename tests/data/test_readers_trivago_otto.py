"""trivago's and OTTO's logs: small files in their exact schema, expected output by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from raw_files import events_of, triples_of, write

from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.errors import ConfigError, DataError


class TestTrivago:
    HEADER = "user_id,session_id,timestamp,step,action_type,reference,platform,city,device," + (
        "current_filters,impressions,prices"
    )
    ROWS = """00RL8Z82B2Z1,aff3928535f48,1541037460,1,search for poi,Newtown,AU,"Sydney, Australia",mobile,,,
00RL8Z82B2Z1,aff3928535f48,1541037522,2,interaction item image,666856,AU,"Sydney, Australia",mobile,,,
00RL8Z82B2Z1,aff3928535f48,1541037522,3,interaction item deals,unknown,AU,"Sydney, Australia",mobile,,,
00RL8Z82B2Z1,aff3928535f48,1541037532,4,filter selection,4 Star,AU,"Sydney, Australia",mobile,4 Star|Wifi,,
00RL8Z82B2Z1,aff3928535f48,1541037542,5,clickout item,109038,AU,"Sydney, Australia",mobile,,3400638|109038,95|66
XX,b1,1541037500,1,search for item,109038,BR,"São Paulo, Brazil",desktop,,,
XX,b1,1541037501,2,clickout item,,BR,"São Paulo, Brazil",desktop,,109038|1,95|66
XX,b1,1541037502,3,change of sort order,price only,BR,"São Paulo, Brazil",desktop,,,
"""
    ITEMS = "item_id,properties\n109038,Satellite TV|Golf Course|Hotel\n666856,\n5101,Free WiFi (Public Areas)\n"

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        return write(tmp_path, {"train.csv": f"{self.HEADER}\n{self.ROWS}", "item_metadata.csv.gz": self.ITEMS})

    def test_actions_about_hotels_are_events(self, folder):
        assert events_of(read_log("trivago", folder)) == [
            ("b1", "109038", "search for item", 1541037500),
            ("aff3928535f48", "666856", "interaction item image", 1541037522),
            ("aff3928535f48", "109038", "clickout item", 1541037542),
        ]

    def test_rows_that_name_no_hotel_are_counted_by_action(self, folder):
        log = read_log("trivago", folder)
        assert log.notes["rows_without_item"] == {
            "change of sort order": 1,
            "clickout item": 1,
            "filter selection": 1,
            "interaction item deals": 1,
            "search for poi": 1,
        }
        assert "malformed_rows" not in log.notes

    def test_hotels_have_properties(self, folder):
        assert triples_of(read_log("trivago", folder)) == [
            ("109038", "property", "Satellite TV"),
            ("109038", "property", "Golf Course"),
            ("109038", "property", "Hotel"),
            ("5101", "property", "Free WiFi (Public Areas)"),
        ]

    def test_the_metadata_is_not_needed_without_relations(self, folder):
        (folder / "item_metadata.csv.gz").unlink()
        assert read_log("trivago", folder, ReadOptions(relations=())).attributes is None

    def test_an_unknown_action_is_malformed(self, folder):
        content = f"{self.HEADER}\n{self.ROWS}".replace("clickout item,109038", "click,109038")
        with pytest.raises(DataError, match=r"train.csv, row 6, column 'action_type': found 'click', should be one of"):
            read_log("trivago", write(folder, {"train.csv": content}))


class TestOTTO:
    LINES = (
        '{"session": 0, "events": [{"aid": 1517085, "ts": 1659304800025, "type": "clicks"},'
        ' {"aid": 1563459, "ts": 1659304904511, "type": "carts"}]}',
        '{"session":12,"events":[{"aid":5,"ts":1659304904999,"type":"orders"},'
        '{"aid":6,"ts":1659304904500,"type":"clicks"}]}',
        '{"session":13,"events":[]}',
        "",
    )
    EVENTS = (
        ("0", "1517085", "clicks", 1659304800),
        ("12", "6", "clicks", 1659304904),
        ("0", "1563459", "carts", 1659304904),
        ("12", "5", "orders", 1659304904),
    )

    @pytest.mark.parametrize("name", ["otto-recsys-train.jsonl", "train.jsonl", "train.jsonl.gz"])
    def test_a_line_is_a_session(self, tmp_path, name):
        folder = write(tmp_path, {name: "\n".join(self.LINES)})
        assert events_of(read_log("otto", folder)) == [*self.EVENTS]
        assert events_of(read_log("otto", folder / name)) == [*self.EVENTS]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('{"session": 7, "events": [{"aid": 5, "ts": 1', 'should be like .*, found b\'{"session": 7'),
            ('{"session": "x", "events": []}', "should be like"),
            ('{"session": 7, "events": [{"aid": 5, "ts": 1, "type": "wishes"}]}', "should be like"),
            ('{"session": 7, "events": [{"aid": "5", "ts": 1, "type": "clicks"}]}', "should be like"),
            ('{"session": 7, "events": [{"aid": 5, "type": "clicks"}]}', "should be like"),
            ('{"session": 7}', "should be like"),
            ("[1, 2]", "should be like"),
        ],
    )
    def test_a_malformed_line_is_located_or_left_out(self, tmp_path, line, message):
        path = write(tmp_path, {"train.jsonl": "\n".join((*self.LINES[:2], line, *self.LINES[2:]))}) / "train.jsonl"
        with pytest.raises(DataError, match=rf"train.jsonl, row 3: {message}"):
            read_log("otto", path)
        log = read_log("otto", path, ReadOptions(malformed_limit=0.5))
        assert events_of(log) == [*self.EVENTS]
        assert log.notes["malformed_rows"] == 1

    def test_bytes_that_are_no_text_are_a_malformed_line(self, tmp_path):
        path = write(tmp_path, {"train.jsonl": b'{"session": 1, "events": "\xff"}\n'}) / "train.jsonl"
        with pytest.raises(DataError, match=r"row 1: should be like"):
            read_log("otto", path)

    def test_large_files_stream_through_a_folder_of_temporary_files(self, tmp_path):
        lines = [
            json.dumps({"session": n, "events": [{"aid": n, "ts": 1659304800025 + n, "type": "clicks"}]})
            for n in range(50)
        ]
        path = write(tmp_path, {"train.jsonl": "\n".join(lines)}) / "train.jsonl"
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        log = read_log("otto", path, ReadOptions(scratch=scratch))
        assert any(scratch.iterdir())
        assert events_of(log) == events_of(read_log("otto", path))

    def test_it_knows_no_relations(self, tmp_path):
        with pytest.raises(ConfigError, match=r"relations: the reader 'otto' has no use for this option"):
            read_log("otto", tmp_path, ReadOptions(relations=("brand",)))

    def test_an_empty_file(self, tmp_path):
        with pytest.raises(DataError, match=r"train.jsonl: the file is empty"):
            read_log("otto", write(tmp_path, {"train.jsonl": ""}))

"""Folders, patterns, packed files, hive folders, JSON lines: what a source may be."""

from __future__ import annotations

import bz2
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from raw_files import events_of, write

from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.errors import DataError

CSV = "user,item,time\nu,a,1700000000\nu,b,1700000001\n"
MORE = "time,item,user,page\n1700000002,c,u,7\n"


def items(source: str | Path, **options: Any) -> list[str]:
    return [item for _, item, *_ in events_of(read_log("events", source, ReadOptions(**options)), "user_id")]


def zipped(content: bytes) -> bytes:
    import io

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("__MACOSX/._log.csv", b"\x00")
        archive.writestr("log.csv", content)
    return packed.getvalue()


def zstandard(content: bytes) -> bytes:
    packed: bytes = pytest.importorskip("backports.zstd").compress(content)
    return packed


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("bz2", bz2.compress), ("xz", lzma.compress), ("zip", zipped), ("zst", zstandard), ("ZST", zstandard)],
)
def test_a_packed_file_is_read_and_named_where_it_is_damaged(tmp_path, ending, pack: Callable[[bytes], bytes]):
    path = tmp_path / f"LOG.CSV.{ending}"
    packed = pack(CSV.encode() * 1 if ending == "zip" else CSV.encode())
    path.write_bytes(packed)
    assert items(path) == ["a", "b"]
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=rf"LOG.CSV.{ending}: .*(truncated|damaged)"):
        items(path)


def test_a_zip_archive_of_several_files_is_one_log_and_names_the_file_at_fault(tmp_path):
    path = tmp_path / "log.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("2.csv", MORE)
        archive.writestr("1.csv", CSV)
    assert items(path) == ["a", "b", "c"]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("3.csv", "user,item,time\nu,d,soon\n")
    with pytest.raises(DataError, match=r"log.zip/3.csv, row 2, column 'time': cannot read 'soon'"):
        items(path)


class TestFolders:
    def test_csv_files_are_one_log_in_the_order_of_their_names_though_columns_differ(self, tmp_path):
        write(tmp_path / "log", {"2.CSV": MORE, "1.csv.gz": CSV, "_SUCCESS": "", ".hidden.csv": "x"})
        log = read_log("events", tmp_path / "log")
        assert [item for _, item, *_ in events_of(log, "user_id")] == ["a", "b", "c"]
        assert [Path(source.path).name for source in log.sources] == ["1.csv.gz", "2.CSV"]
        assert log.notes["unused_columns"] == ["page"]

    def test_days_without_events_do_no_harm(self, tmp_path):
        write(tmp_path / "log", {"1.csv": "user,item,time\n", "2.csv": CSV, "3.csv": ""})
        assert items(tmp_path / "log") == ["a", "b"]

    def test_files_of_several_kinds_are_refused_with_a_pattern(self, tmp_path):
        write(tmp_path / "log", {"1.csv": CSV, "2.jsonl": "{}"})
        with pytest.raises(DataError, match=r"holds files of several kinds, .csv and .jsonl; name .* pattern such as"):
            items(tmp_path / "log")

    def test_a_pattern_names_files_only_where_no_file_is_called_so(self, tmp_path):
        write(tmp_path, {"a.csv": CSV, "b.csv": MORE, "[a].csv": MORE})
        assert items(str(tmp_path / "[ab].csv")) == ["a", "b", "c"]
        log = read_log("events", tmp_path / "[a].csv")
        assert [item for _, item, *_ in events_of(log, "user_id")] == ["c"]
        assert Path(log.sources[0].path).name == "[a].csv"
        with pytest.raises(DataError, match="no file matches this pattern"):
            items(str(tmp_path / "x*.csv"))

    def test_values_in_the_names_of_folders_stay_text(self, tmp_path):
        for item in ("00102", "a%2Fb"):
            folder = tmp_path / "log" / f"item={item}"
            folder.mkdir(parents=True)
            pl.DataFrame({"user": ["u"], "time": [1700000000]}).write_parquet(folder / "1.parquet")
            write(tmp_path / "text" / f"item={item}", {"1.csv": "user,time\nu,1700000000\n"})
        assert items(tmp_path / "log") == items(tmp_path / "text") == ["00102", "a/b"]

    def test_parquet_files_may_differ_in_columns_that_are_not_used_and_in_types_of_ids(self, tmp_path):
        days = [
            {"user": ["u"], "item": [101], "time": [1700000000], "extra": [None]},
            {"user": ["u"], "item": ["102"], "time": [1700000001], "extra": ["x"]},
            {"user": ["u"], "item": [103.0], "time": [1700000002], "more": [[1]]},
        ]
        (tmp_path / "log").mkdir()
        for day, rows in enumerate(days):
            pl.DataFrame(rows).write_parquet(tmp_path / "log" / f"{day}.parquet")
        assert items(tmp_path / "log") == ["101", "102", "103"]
        log = read_log("events", tmp_path / "log", ReadOptions(scratch=tmp_path))
        assert log.events.collect()["row"].to_list() == [0, 1, 2]


class TestJsonLines:
    def test_values_are_found_by_their_path(self, tmp_path):
        rows = [
            {"who": {"id": "u"}, "sku": 102, "ts": 1700000000, "price": 9.0},
            {"who": {"id": "u"}, "sku": 103.0, "ts": 1700000001},
            {"who": {"id": None}, "sku": "104", "ts": 1700000002},
        ]
        path = tmp_path / "log.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
        columns = {"item": "sku", "time": "ts", "user": "who.id"}
        log = read_log("events", path, ReadOptions(columns=columns, malformed_limit=0.5))
        assert events_of(log, "user_id") == [("u", "102", "event", 1700000000), ("u", "103", "event", 1700000001)]
        assert log.notes["malformed_examples"] == ["log.jsonl, row 3, column 'who.id': the value is empty"]
        assert log.notes["unused_columns"] == ["price"]

    def test_an_event_of_several_items_is_several_events_as_analytics_exports_them(self, tmp_path):
        def event(name: str, session: int, *skus: str) -> str:
            parameters = [
                {"key": "page", "value": {"string_value": "x"}},
                {"key": "sid", "value": {"int_value": session}},
            ]
            listed = [{"item_id": sku, "price": 1} for sku in skus]
            return json.dumps(
                {
                    "event_timestamp": 1_700_000_000_000_000,
                    "event_name": name,
                    "event_params": parameters,
                    "items": listed,
                }
            )

        path = tmp_path / "events.json"
        path.write_text("\n".join([event("page_view", 1), event("purchase", 1, "a", "b"), event("view_item", 2, "c")]))
        columns = {
            "item": "items.item_id",
            "operation": "event_name",
            "time": "event_timestamp",
            "session": "event_params.sid",
        }
        log = read_log("events", path, ReadOptions(columns=columns))
        assert [each[:3] for each in events_of(log)] == [
            ("1", "a", "purchase"),
            ("1", "b", "purchase"),
            ("2", "c", "view_item"),
        ]
        assert log.notes["events_without_item"] == 1

    def test_lines_that_are_no_objects_are_malformed(self, tmp_path):
        good = [json.dumps({"user": "u", "item": "a"})] * 3
        path = write(tmp_path, {"log.ndjson": "\n".join([*good, "[1]", "{"])}) / "log.ndjson"
        log = read_log("events", path, ReadOptions(malformed_limit=0.5))
        assert log.notes["malformed_rows"] == 2
        assert log.notes["malformed_examples"][0] == "log.ndjson, row 4: not a JSON object"

    @pytest.mark.parametrize("half", [rb"\ud800", b"\xed\xa0\x80"])
    def test_half_a_character_is_malformed_whether_escaped_or_as_bytes(self, tmp_path, half):
        path = tmp_path / "log.jsonl"
        path.write_bytes(b'{"user": "u", "item": "a"}\n' * 3 + b'{"user": "u", "item": "' + half + b'"}\n')
        log = read_log("events", path, ReadOptions(malformed_limit=0.5))
        assert log.notes["malformed_examples"] == ["log.jsonl, row 4: not a JSON object"]

    def test_a_file_of_one_array_is_refused(self, tmp_path):
        path = write(tmp_path, {"log.json": '[{"user": "u",\n"item": "a"}]'}) / "log.json"
        with pytest.raises(DataError, match=r"row 1: not JSON lines: there should be one object a line"):
            read_log("events", path)

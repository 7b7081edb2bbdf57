"""Tables that are read piece by piece give what they give when they are read whole."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.errors import DataError

START = 1_700_000_000


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr("mkmsr.data.readers.table.PIECE_ROWS", 37)


def frame(*, per_second: int = 1, rows: int = 300) -> pl.DataFrame:
    """Events with ties, doubles and times that run backwards."""
    rng = random.Random(per_second)
    events = [(rng.choice("uvwxyz"), rng.choice("abcdefgh"), rng.choice("xyz")) for _ in range(rows)]
    times = [START * per_second + rng.randrange(60 * per_second) for _ in range(rows)]
    table = pl.DataFrame(events, schema=["user", "item", "operation"], orient="row").with_columns(time=pl.Series(times))
    return pl.concat([table, table.sample(20, seed=0)])


def read(path: Path, scratch: Path | None, **options: object) -> InteractionLog:
    log = read_log("events", path, ReadOptions.model_validate({"scratch": scratch, **options}))
    assert bool(log.files) == (scratch is not None)
    return log


def prepared(log: InteractionLog) -> PreparedDataset:
    return prepare(log, PrepareOptions(gap_seconds=3, min_item_events=2, drop_duplicates=True))


def assert_same(path: Path, scratch: Path, **options: object) -> InteractionLog:
    whole, pieces = read(path, None, **options), read(path, scratch, **options)
    assert pieces.notes == whole.notes
    assert pieces.sources == whole.sources
    one, two = prepared(whole), prepared(pieces)
    assert (one.fingerprint, one.metadata) == (two.fingerprint, two.metadata)
    return pieces


@pytest.mark.parametrize("per_second", [1, 1_000, 1_000_000, 1_000_000_000])
def test_parquet_in_pieces_is_parquet_read_whole(tmp_path, per_second):
    frame(per_second=per_second).write_parquet(tmp_path / "log.parquet")
    log = assert_same(tmp_path / "log.parquet", tmp_path)
    assert log.notes["duplicated_events"] >= 20
    assert log.notes["events_out_of_order"] > 50


def test_a_folder_of_parquet_in_pieces_is_the_folder_read_whole(tmp_path):
    for day, part in enumerate(frame().iter_slices(100)):
        folder = tmp_path / "log" / f"day={day}"
        folder.mkdir(parents=True)
        part.write_parquet(folder / "part.parquet")
    assert_same(tmp_path / "log", tmp_path, columns={"operation": "day"})


@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%.3fZ", "%Y-%m-%d %H:%M:%S+08:00"])
def test_text_in_pieces_is_text_read_whole(tmp_path, name, form):
    table = frame(per_second=1000).with_columns(pl.from_epoch("time", time_unit="ms").dt.strftime(form))
    table.write_csv(tmp_path / name, separator="," if name == "log.csv" else "\t")
    assert_same(tmp_path / name, tmp_path)


def test_malformed_rows_of_all_pieces_are_counted_once_with_the_first_examples(tmp_path):
    lines = frame().write_csv().splitlines()
    lines[40], lines[90], lines[200] = "u,a,,1700000001", "u,a,x,soon", "u,a,x,1700000001,more"
    lines[230] = "u,caf\xe9,x,1700000001"
    path = tmp_path / "log.csv"
    path.write_bytes("\n".join(lines).encode("latin-1"))
    notes = assert_same(path, tmp_path, malformed_limit=0.1).notes
    assert notes["malformed_rows"] == 4
    text = " ".join(notes["malformed_examples"])
    assert "row 41, column 'operation': the value is empty" in text
    assert "row 91, column 'time': cannot read 'soon' as a time" in text
    assert "row 201: more fields than the file has columns" in text
    assert "row 231: not UTF-8 text" in text
    for scratch in (None, tmp_path):
        with pytest.raises(DataError, match=r"log.csv, row \d+"):
            read_log("events", path, ReadOptions(scratch=scratch, strict=True))


def test_units_that_change_from_piece_to_piece_are_refused(tmp_path):
    table = pl.concat([frame(rows=54), frame(rows=54).with_columns(pl.col("time") * 1000)])
    table.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"looks like another unit than the rest, which looks like 's'"):
        read(tmp_path / "log.parquet", tmp_path)


def test_units_that_change_where_a_piece_begins_are_refused(tmp_path):
    table = pl.concat([frame(rows=54)[:74], frame(rows=54).with_columns(pl.col("time") * 1000)])
    table.write_parquet(tmp_path / "log.parquet")
    message = (
        r"row 76, column 'time': \d+ looks like another unit than the rest, which looks like 's'; bring the column"
    )
    with pytest.raises(DataError, match=message):
        read(tmp_path / "log.parquet", tmp_path)


def test_zones_that_begin_where_a_piece_begins_are_refused(tmp_path):
    bare = frame(rows=54)[:74].with_columns(pl.from_epoch("time").dt.strftime("%Y-%m-%d %H:%M:%S"))
    zoned = bare.with_columns(pl.col("time") + "Z")
    pl.concat([bare, zoned]).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"row 76, column 'time': some times have a time zone and others have none"):
        read(tmp_path / "log.parquet", tmp_path)


@pytest.mark.parametrize("wide", [True, False])
def test_attributes_in_pieces_are_attributes_read_whole(tmp_path, wide):
    frame().write_parquet(tmp_path / "log.parquet")
    rng = random.Random(1)
    items = [rng.choice("abcdefghijk") for _ in range(150)]
    known = pl.DataFrame(
        {"item": items, "brand": [rng.choice("123") for _ in items], "kind": [f"{n % 9}|x" for n in range(150)]}
    )
    if not wide:
        known = known.unpivot(index="item", variable_name="relation", value_name="value")
    known.write_parquet(tmp_path / "items.parquet")
    assert_same(tmp_path / "log.parquet", tmp_path, attributes=tmp_path / "items.parquet", multi="|")


def test_a_folder_whose_files_differ_is_refused_in_pieces_too(tmp_path):
    (tmp_path / "log").mkdir()
    frame().write_parquet(tmp_path / "log" / "1.parquet")
    frame().drop("operation").write_parquet(tmp_path / "log" / "2.parquet")
    with pytest.raises(
        DataError, match=r"2.parquet, column 'operation': no such column; the file has user, item, time"
    ):
        read(tmp_path / "log", tmp_path)


def test_no_temporary_file_is_left(tmp_path):
    frame().write_parquet(tmp_path / "log.parquet")
    log = read(tmp_path / "log.parquet", tmp_path)
    del log
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]

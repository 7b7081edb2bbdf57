"""Prepared datasets on disk: what is written comes back, and what is damaged is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from logs import log_of

from mkmsr.data.dataset import PreparedDataset, statistics
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.sessions import SessionTable
from mkmsr.data.storage import SPLITS
from mkmsr.errors import DataError
from mkmsr.runtime.files import sha256, signed_json

ROWS = [
    (f"s{n}", item, operation, n * 10_000 + at)
    for n in range(20)
    for at, (item, operation) in enumerate([("我們", "click"), ('a "b", c', "cart"), (f"item {n % 3}", "click")])
]
ATTRIBUTES = [("我們", "brand", "x|y"), ("item 1", "brand", "z"), ("item 2", "shop", "7")]


@pytest.fixture
def dataset() -> PreparedDataset:
    return prepare(log_of(ROWS, attributes=ATTRIBUTES), PrepareOptions(new_items="keep", max_session_events=9))


def same(one: PreparedDataset, other: PreparedDataset) -> bool:
    tables = [
        np.array_equal(getattr(getattr(one, split), name), getattr(getattr(other, split), name))
        for split in ("train", "validation", "test")
        for name in ("items", "operations", "offsets", "times")
    ]
    knowledge = np.array_equal(one.knowledge.triples, other.knowledge.triples)
    vocabularies = (
        one.items == other.items
        and one.operations == other.operations
        and one.knowledge.relations == other.knowledge.relations
        and one.knowledge.attributes == other.knowledge.attributes
    )
    settings = (one.name, one.new_items, one.max_session_events, one.metadata)
    return (
        all(tables)
        and knowledge
        and vocabularies
        and settings
        == (
            other.name,
            other.new_items,
            other.max_session_events,
            other.metadata,
        )
    )


def test_a_saved_dataset_comes_back_equal(dataset, tmp_path):
    dataset.save(tmp_path / "data")
    back = PreparedDataset.load(tmp_path / "data")
    assert same(dataset, back)
    assert back.fingerprint == dataset.fingerprint
    assert back.train.items.dtype == np.int32
    assert back.train.operations.dtype == np.int16


def test_a_dataset_without_knowledge_validation_or_test_comes_back_equal(tmp_path):
    bare = prepare(log_of(ROWS), PrepareOptions(test_share=0, validation_share=0))
    bare.save(tmp_path / "data")
    assert same(bare, PreparedDataset.load(tmp_path / "data"))


def test_sessions_without_events_come_back(dataset, tmp_path):
    empty = SessionTable(
        dataset.test.items[:2], dataset.test.operations[:2], np.array([0, 0, 2, 2]), dataset.test.times[:2]
    )
    hollow = dataclasses.replace(dataset, test=empty)
    hollow.save(tmp_path / "data")
    assert PreparedDataset.load(tmp_path / "data").test.offsets.tolist() == [0, 0, 2, 2]


def test_the_folder_holds_the_documented_files_and_no_others(dataset, tmp_path):
    dataset.save(tmp_path / "data")
    names = {
        "dataset.json",
        *(f"{each}.parquet" for each in ["sessions", "items", "operations", "relations", "attributes", "triples"]),
    }
    assert {file.name for file in (tmp_path / "data").iterdir()} == names
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


def test_the_description_states_format_sources_options_and_counts(dataset, tmp_path):
    dataset.save(tmp_path / "data")
    description = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert description["format_version"] == 2
    assert description["sources"] == []
    assert description["options"]["max_session_events"] == 9
    assert description["counts"] == statistics(dataset)
    assert set(description["files"]) >= {"sessions.parquet", "items.parquet", "operations.parquet", "triples.parquet"}


def test_saving_again_replaces_the_folder_whole(dataset, tmp_path):
    dataset.save(tmp_path / "data")
    (tmp_path / "data" / "stray.txt").write_text("old")
    other = dataclasses.replace(dataset, name="other")
    other.save(tmp_path / "data")
    assert PreparedDataset.load(tmp_path / "data").name == "other"
    assert not (tmp_path / "data" / "stray.txt").exists()


@pytest.mark.parametrize("name", ["data/precious.csv", "data"])
def test_what_is_no_dataset_is_not_overwritten(dataset, tmp_path, name):
    precious = tmp_path / name
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("years of work")
    with pytest.raises(DataError, match="something else is here, and it is not overwritten"):
        dataset.save(tmp_path / "data")
    assert precious.read_text() == "years of work"


def test_the_fingerprint_ignores_where_data_came_from_and_sees_every_content(dataset):
    assert dataclasses.replace(dataset, name="x", metadata={}).fingerprint == dataset.fingerprint
    times = dataclasses.replace(dataset.test, times=dataset.test.times + 1)
    items = dataclasses.replace(dataset.train, items=dataset.train.items[::-1].copy())
    triples = dataclasses.replace(dataset.knowledge, triples=dataset.knowledge.triples[:-1])
    changed = [
        dataclasses.replace(dataset, test=times),
        dataclasses.replace(dataset, train=items),
        dataclasses.replace(dataset, knowledge=triples),
        dataclasses.replace(dataset, new_items="drop"),
        dataclasses.replace(dataset, max_session_events=10),
        dataclasses.replace(dataset, train=dataset.validation, validation=dataset.train),
    ]
    prints = {each.fingerprint for each in changed}
    assert len(prints) == len(changed)
    assert dataset.fingerprint not in prints


@pytest.mark.parametrize("name", ["sessions", "items", "operations", "relations", "attributes", "triples"])
def test_one_flipped_byte_is_refused(dataset, tmp_path, name):
    dataset.save(tmp_path / "data")
    file = tmp_path / "data" / f"{name}.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.parquet: altered since it was written .expected sha256 [0-9a-f]+, f"):
        PreparedDataset.load(tmp_path / "data")


def edited(folder: Path, **changes: object) -> None:
    """What a forger can do: change the description, and make its checksum right again."""
    file = folder / "dataset.json"
    file.write_text(signed_json({**json.loads(file.read_text()), **changes}))


def sizes(sessions: int) -> dict[str, dict[str, int]]:
    return {split: {"sessions": sessions} for split in SPLITS}


def test_one_changed_letter_of_the_description_is_refused(dataset, tmp_path):
    dataset.save(tmp_path / "data")
    file = tmp_path / "data" / "dataset.json"
    file.write_text(file.read_text().replace('"gap_seconds": 3600', '"gap_seconds": 3601'))
    with pytest.raises(DataError, match=r"dataset.json: altered since it was written"):
        PreparedDataset.load(tmp_path / "data")


def test_a_folder_from_before_descriptions_had_checksums_is_read(dataset, tmp_path):
    dataset.save(tmp_path / "data")
    file = tmp_path / "data" / "dataset.json"
    old = {**json.loads(file.read_text()), "format_version": 1}
    del old["sha256"]
    file.write_text(json.dumps(old))
    assert same(PreparedDataset.load(tmp_path / "data"), dataset)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_session_events": 5}, "contents do not match the fingerprint"),
        ({"max_session_events": 1}, "entry 'max_session_events' is wrong: Input should be greater than or equal to 2"),
        ({"format_version": 99}, r"expected 1 or 2, found 99\); prepare it again"),
        ({"format_version": []}, r"expected 1 or 2, found \[\]\); prepare it again"),
        ({"files": ["items.parquet"]}, "entry 'files' is wrong: Input should be an object"),
        ({"files": {"items.parquet": 1}}, "entry 'files.items.parquet' is wrong: Input should be a valid string"),
        ({"files": {}}, "items.parquet: altered since it was written .expected sha256 none"),
        ({"counts": {}}, "its counts, tables and vocabularies contradict each other: 'train'"),
        ({"counts": sizes(-1)}, "contradict each other: -1 sessions of train in"),
        ({"counts": sizes(10**11)}, "100000000000 sessions of train in"),
        ({"counts": sizes(1)}, "sessions should be numbered from 0 to 0, in order"),
    ],
)
def test_a_forged_description_is_refused(dataset, tmp_path, changes, message):
    dataset.save(tmp_path / "data")
    edited(tmp_path / "data", **changes)
    with pytest.raises(DataError, match=message):
        PreparedDataset.load(tmp_path / "data")


def forged(folder: Path, name: str, table: pl.DataFrame) -> None:
    table.write_parquet(folder / f"{name}.parquet")
    files = json.loads((folder / "dataset.json").read_text())["files"]
    edited(folder, files={**files, f"{name}.parquet": sha256(folder / f"{name}.parquet")})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sessions", {"item": 99}, "an index of an item is 99 or 99, there are 5"),
        ("sessions", {"operation": 0}, "an index of an operation is 0 or 0, there are 2"),
        ("triples", {"entity": 1}, "an index of an attribute is -4 or -4, there are 3"),
    ],
)
def test_indexes_that_stand_for_nothing_are_refused(dataset, tmp_path, name, change, message):
    dataset.save(tmp_path / "data")
    table = pl.read_parquet(tmp_path / "data" / f"{name}.parquet")
    changed = [pl.lit(value).cast(table.schema[column]).alias(column) for column, value in change.items()]
    forged(tmp_path / "data", name, table.with_columns(changed))
    with pytest.raises(DataError, match=message):
        PreparedDataset.load(tmp_path / "data")


def test_a_small_file_that_would_fill_the_memory_is_refused_before_it_does(dataset, tmp_path):
    dataset.save(tmp_path / "data")
    forged(tmp_path / "data", "items", pl.select(index=pl.repeat(1, 6_000_000), id=pl.lit("x")))
    with pytest.raises(DataError, match=r"items.parquet: unpacks to far more than its [0-9,]+ bytes"):
        PreparedDataset.load(tmp_path / "data")


def test_a_missing_file_is_named(dataset, tmp_path):
    dataset.save(tmp_path / "data")
    (tmp_path / "data" / "triples.parquet").unlink()
    with pytest.raises(DataError, match=r"triples.parquet: missing; prepare it again"):
        PreparedDataset.load(tmp_path / "data")


def test_a_folder_that_is_no_dataset_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"lacks dataset.json; make one with `mkmsr prepare`"):
        PreparedDataset.load(tmp_path)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "found 'list'"), ('{"format": 1}', "found 1")])
def test_a_description_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=message):
        PreparedDataset.load(tmp_path)


def test_a_full_disk_leaves_the_old_dataset_intact(dataset, tmp_path, monkeypatch):
    dataset.save(tmp_path / "data")
    written = []

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"cannot write the dataset: No space left on device"):
            dataclasses.replace(dataset, name="new").save(tmp_path / "data")
    assert same(PreparedDataset.load(tmp_path / "data"), dataset)
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


LIMITED = """
import resource, sys
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import DataError
dataset = PreparedDataset.load(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
try:
    dataset.save(sys.argv[1])
except DataError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are of Unix")
def test_a_file_that_the_system_cuts_short_leaves_the_old_dataset_intact(dataset, tmp_path):
    dataset.save(tmp_path / "data")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "data")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "refused:" in done.stderr
    assert "cannot write the dataset: File too large" in done.stderr
    assert same(PreparedDataset.load(tmp_path / "data"), dataset)
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


def test_the_past_of_a_dataset_has_its_newest_training_sessions_as_validation(dataset):
    whole = dataset.fitting_sessions(refit=True)
    assert same(dataset.earlier(0), dataclasses.replace(dataset, test=SessionTable.empty()))
    past = dataset.earlier(2)
    size, end = len(dataset.validation), len(whole) - 2 * len(dataset.validation)
    assert (len(past.train), len(past.validation), len(past.test)) == (end - size, size, 0)
    assert past.validation.times.min() > past.train.times.max()
    for row in range(size):
        for one, other in zip(past.validation.session(row), whole.session(end - size + row), strict=True):
            assert np.array_equal(one, other)
    with pytest.raises(DataError, match="do not hold 99 further spans"):
        dataset.earlier(99)

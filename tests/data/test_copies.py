"""The catalogue of public data sets, and copies of them that are right or wrong."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from raw_files import write

from mkmsr.data.downloads import check_files, public_dataset
from mkmsr.data.readers import PUBLIC_DATASETS, READERS
from mkmsr.data.readers.public import PublicFile
from mkmsr.errors import ConfigError, DataError

CONTENT = "a,b\n1,2\n3,4\n"
FILE = PublicFile("x.csv", "a,b", bytes=len(CONTENT), rows=2, sha256=hashlib.sha256(CONTENT.encode()).hexdigest())


def problems(folder: Path, file: PublicFile = FILE) -> list[str]:
    dataset = replace(PUBLIC_DATASETS["kkbox"], files=(file,))
    return [problem for check in check_files(dataset, folder) for problem in check.problems]


def test_every_public_data_set_has_a_reader_and_every_reader_one():
    assert set(PUBLIC_DATASETS) == set(READERS) - {"events", "presplit"}


def test_only_data_sets_with_an_open_address_have_one():
    assert [name for name, each in PUBLIC_DATASETS.items() if each.address] == ["jdata-demo"]
    assert all(file.sha256 and file.bytes for file in PUBLIC_DATASETS["jdata-demo"].files)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"no public data set 'kkbx', did you mean 'kkbox'\?; known: jdata-demo"):
        public_dataset("kkbx")


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_a_right_copy_has_no_problems(tmp_path, name):
    assert problems(write(tmp_path, {name: CONTENT})) == []


def test_the_last_line_may_lack_its_end(tmp_path):
    folder = write(tmp_path, {"x.csv": CONTENT.rstrip()})
    assert problems(folder, replace(FILE, bytes=None, sha256=None)) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", ["8 bytes, should be 12", "1 rows, should be 2"]),
        ("a,c\n1,2\n3,4\n", ["lacks the column 'b'"]),
        ("a,b\n1,2\n3,5\n", ["other content than the owner's file (SHA-256 differs)"]),
        ("", ["the file is empty", "0 bytes, should be 12", "0 rows, should be 2"]),
    ],
)
def test_a_wrong_copy_says_what_is_wrong(tmp_path, content, message):
    assert problems(write(tmp_path, {"x.csv": content})) == message


def test_a_truncated_gzip_file_is_a_problem(tmp_path):
    path = write(tmp_path, {"x.csv.gz": CONTENT}) / "x.csv.gz"
    path.write_bytes(path.read_bytes()[:-6])
    assert "the gzip file is truncated" in problems(tmp_path)[0]


def test_a_missing_file_is_a_problem_if_the_reader_needs_it(tmp_path):
    assert problems(tmp_path) == ["the file is missing"]
    assert problems(tmp_path, replace(FILE, needed=False)) == []


def test_files_without_a_header_are_told_by_their_fields(tmp_path):
    file = PublicFile("x.dat", "a,b,c", header=False)
    assert problems(write(tmp_path, {"x.dat": "1,2\n"}), file) == ["the first line has 2 fields, should have 3"]
    assert problems(write(tmp_path, {"x.dat": "1,2,3\n"}), file) == []


def test_json_lines_are_told_by_their_keys(tmp_path):
    file = PublicFile("x.jsonl", "session,events", "", header=False)
    assert problems(write(tmp_path, {"x.jsonl": '{"session": 1}\n'}), file) == ["the first line lacks 'events'"]
    for line in ("session", "5", '["session"]'):
        assert problems(write(tmp_path, {"x.jsonl": f"{line}\n"}), file) == ["the first line is no JSON object"]
    assert problems(write(tmp_path, {"x.jsonl": '{"session": 1, "events": []}\n'}), file) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        problems(tmp_path / "nowhere")


def test_the_demo_sample_beside_the_checkout_is_the_authors_own(shared_data):
    folder = shared_data / "jdata_demo"
    if not folder.is_dir():
        pytest.skip("the Demo sample is not beside the checkout")
    checks = list(check_files(PUBLIC_DATASETS["jdata-demo"], folder))
    assert [check.problems for check in checks] == [()] * 5
    assert checks[0].rows == 27_183

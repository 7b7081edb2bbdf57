"""Pre-split data of other projects: RecBole's `.inter` files and SR-GNN's pickled lists."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest

from mkmsr.data.dataset import statistics
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.presplit import read_presplit
from mkmsr.errors import DataError

TRAIN = [[3, 1, 2], [1, 2], [2, 3, 1, 1]]
TEST = [[1, 3], [2, 1, 3]]


def examples(sessions: list[list[int]], *, longest_first: bool = True) -> tuple[list[list[int]], list[int]]:
    """Every prefix with its target, as SR-GNN's preparation writes them."""
    prefixes, targets = [], []
    for session in sessions:
        ends = range(1, len(session))
        for end in reversed(ends) if longest_first else ends:
            prefixes.append(session[:end])
            targets.append(session[end])
    return prefixes, targets


def pickled(folder: Path, *, longest_first: bool = True) -> Path:
    for name, sessions in (("train.txt", TRAIN), ("test.txt", TEST)):
        (folder / name).write_bytes(pickle.dumps(examples(sessions, longest_first=longest_first)))
    return folder


def listed(folder: Path) -> Path:
    for name, sessions in (("small.train.inter", TRAIN), ("small.test.inter", TEST)):
        lines = ["session_id:token\titem_id_list:token_seq\titem_id:token"]
        rows = zip(*examples(sessions, longest_first=False), strict=True)
        lines += [f"{number}\t{' '.join(map(str, prefix))}\t{target}" for number, (prefix, target) in enumerate(rows)]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def sessions_of(folder: Path, split: str) -> list[list[str]]:
    """The sessions of a split in the order of the log."""
    events = read_presplit(folder, ReadOptions()).events.collect().filter(split=split).sort("row")
    return [group["item_id"].to_list() for _, group in events.group_by("session_id", maintain_order=True)]


def as_text(sessions: list[list[int]]) -> list[list[str]]:
    return [[str(item) for item in session] for session in sessions]


@pytest.mark.parametrize("longest_first", [True, False])
def test_pickled_lists_become_the_sessions_that_they_were_made_from(tmp_path: Path, longest_first: bool) -> None:
    folder = pickled(tmp_path, longest_first=longest_first)
    assert sessions_of(folder, "train") == as_text(TRAIN)
    assert sessions_of(folder, "test") == as_text(TEST)


def test_example_rows_of_recbole_become_the_same_sessions(tmp_path: Path) -> None:
    folder = listed(tmp_path)
    assert sessions_of(folder, "train") == as_text(TRAIN)
    assert sessions_of(folder, "test") == as_text(TEST)


def test_event_rows_of_recbole_are_grouped_by_session_and_ordered_by_time(tmp_path: Path) -> None:
    header = "session_id:token\titem_id:token\ttimestamp:float\n"
    (tmp_path / "d.train.inter").write_text(header + "a\t5\t2.0\nb\t7\t1.0\na\t6\t1.0\nb\t5\t3.5\n", encoding="utf-8")
    (tmp_path / "d.valid.inter").write_text(header + "c\t5\t5.0\nc\t7\t6.0\n", encoding="utf-8")
    (tmp_path / "d.test.inter").write_text(header + "d\t7\t7.0\nd\t6\t8.0\n", encoding="utf-8")
    assert sessions_of(tmp_path, "train") == [["6", "5"], ["7", "5"]]
    assert sessions_of(tmp_path, "validation") == [["5", "7"]]
    assert sessions_of(tmp_path, "test") == [["7", "6"]]


def test_preparation_makes_exactly_the_examples_of_the_files(tmp_path: Path) -> None:
    log = read_presplit(pickled(tmp_path), ReadOptions())
    counts = statistics(prepare(log))
    assert log.notes["examples"] == {"train": 6, "test": 3}
    assert counts["train"]["examples"] + counts["validation"]["examples"] == 6
    assert counts["test"]["examples"] == 3


@pytest.mark.parametrize(
    ("options", "way_out"),
    [({"max_session_events": 3}, "--max-session-events 4"), ({"new_items": "drop"}, "--new-items keep")],
)
def test_examples_that_preparation_would_lose_are_an_error_that_says_how_to_keep_them(
    tmp_path: Path, options: dict[str, object], way_out: str
) -> None:
    pickled(tmp_path)
    if "new_items" in options:
        (tmp_path / "test.txt").write_bytes(pickle.dumps(examples([*TEST, [1, 2, 9]])))
    with pytest.raises(DataError, match=rf"the files hold 6 training and .* examples.*{way_out}"):
        prepare(read_presplit(tmp_path, ReadOptions()), PrepareOptions.model_validate(options))


def test_a_session_without_one_of_its_prefixes_is_an_error_that_names_the_record(tmp_path: Path) -> None:
    folder = pickled(tmp_path)
    prefixes, targets = examples(TRAIN)
    del prefixes[1], targets[1]  # the shorter prefix of the first session
    (folder / "train.txt").write_bytes(pickle.dumps((prefixes, targets)))
    with pytest.raises(DataError, match=r"train\.txt.*row 1.*that of record 1 has 2 prefixes, 1 are here"):
        read_presplit(folder, ReadOptions())


class Harmful:
    """A pickle that would call a function when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, ("harmed",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Harmful()), "only lists, tuples and integers"),
        (pickle.dumps(([[1], [2]], [1])), "2 prefixes and 1 targets"),
        (pickle.dumps(([["1"]], [2])), "row 1.*list of at least one integer"),
        (pickle.dumps(([[]], [2])), "row 1.*list of at least one integer"),
        (pickle.dumps([[1]]), "a pair of lists"),
        (pickle.dumps(([], [])), "holds no example"),
        (b"", "not a pickle"),
        (b"a,b\n1,2\n", "pickle"),
    ],
)
def test_a_pickle_of_anything_else_is_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    folder = pickled(tmp_path)
    (folder / "train.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"train\.txt.*{message}"):
        read_presplit(folder, ReadOptions())


def test_no_damaged_pickle_raises_anything_but_a_data_error(tmp_path: Path) -> None:
    folder = pickled(tmp_path)
    whole = (folder / "train.txt").read_bytes()
    random.seed(0)
    refused = 0
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        (folder / "train.txt").write_bytes(bytes(damaged[: random.randint(1, len(damaged))]))
        try:
            read_presplit(folder, ReadOptions())
        except DataError:
            refused += 1
    assert refused > 400


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7\t1 2", "row 3, column 'item_id:token': the value is empty"),
        ("7\t\t2", "row 3, column 'item_id_list:token_seq': the value is empty"),
        ("7\t1 2\t", "row 3, column 'item_id:token': the value is empty"),
    ],
)
def test_a_faulty_example_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    folder = listed(tmp_path)
    lines = (folder / "small.train.inter").read_text(encoding="utf-8").splitlines()
    (folder / "small.train.inter").write_text("\n".join([*lines[:2], line, *lines[2:]]), encoding="utf-8")
    with pytest.raises(DataError, match=rf"small\.train\.inter.*{message}"):
        read_presplit(folder, ReadOptions())


@pytest.mark.parametrize("time", ["soon", "nan", "inf"])
def test_a_time_that_cannot_order_events_is_named(tmp_path: Path, time: str) -> None:
    header = "session_id:token\titem_id:token\ttimestamp:float\n"
    for split in ("train", "test"):
        (tmp_path / f"d.{split}.inter").write_text(f"{header}a\t5\t1\na\t6\t{time}\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"train\.inter.*row 3.*timestamp.*found '{time}', should be a number"):
        read_presplit(tmp_path, ReadOptions())


def test_a_folder_without_the_files_is_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \*\.train\.inter and no train\.txt"):
        read_presplit(tmp_path, ReadOptions())

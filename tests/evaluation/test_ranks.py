"""The table of ranks: means, slices, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.ranks import SLICES, RankTable


def rank_table(ranks: list[int], *, new: list[bool] | None = None, repeat: list[bool] | None = None) -> RankTable:
    """Ranks of one session's examples."""
    count = len(ranks)
    return RankTable(
        rank=np.array(ranks, dtype=np.int32),
        target=np.arange(1, count + 1, dtype=np.int32),
        session=np.zeros(count, dtype=np.int32),
        prefix_length=np.arange(1, count + 1, dtype=np.int32),
        is_new_item=np.array(new or [False] * count, dtype=np.bool_),
        is_repeat=np.array(repeat or [False] * count, dtype=np.bool_),
    )


def test_metrics_are_means_over_examples() -> None:
    metrics = rank_table([1, 4, 21]).metrics((5, 20))
    assert list(metrics) == ["hit@5", "mrr@5", "ndcg@5", "hit@20", "mrr@20", "ndcg@20"]
    assert metrics["hit@5"] == pytest.approx(2 / 3)
    assert metrics["mrr@20"] == pytest.approx((1 + 1 / 4) / 3)
    assert metrics["ndcg@20"] == pytest.approx((1 + 1 / np.log2(5)) / 3)


def test_metrics_of_an_empty_table_are_an_error_and_not_nan() -> None:
    with pytest.raises(EvaluationError, match="no examples to average over"):
        rank_table([]).metrics()


def test_a_split_says_of_each_example_whether_it_repeats_or_is_new(dataset: PreparedDataset) -> None:
    split = dataset.evaluation_split("test")
    table = RankTable.of_split(np.arange(1, 8), split)
    assert table.target.tolist() == [2, 1, 7, 7, 8, 6, 5]
    assert table.session.tolist() == [0, 0, 0, 0, 2, 2, 2]
    assert table.prefix_length.tolist() == [1, 2, 3, 4, 1, 2, 3]
    assert table.is_repeat.tolist() == [False, True, False, True, False, False, True]
    assert table.is_new_item.tolist() == [False, False, True, True, True, False, False]


def test_slices_hold_repeats_new_items_and_what_is_neither(dataset: PreparedDataset) -> None:
    slices = RankTable.of_split(np.arange(1, 8), dataset.evaluation_split("test")).slices()
    assert {name: part.rank.tolist() for name, part in slices.items()} == {
        "repeat": [2, 4, 7],
        "new_item": [3, 4, 5],
        "seen": [1, 6],
    }
    assert set(slices) == set(SLICES)


@given(st.lists(st.tuples(st.integers(1, 99), st.booleans(), st.booleans()), max_size=20))
def test_every_example_is_in_some_slice_and_in_two_only_as_a_repeated_new_item(
    rows: list[tuple[int, bool, bool]],
) -> None:
    table = rank_table([row[0] for row in rows], new=[row[1] for row in rows], repeat=[row[2] for row in rows])
    both = sum(new and repeat for _, new, repeat in rows)
    assert sum(len(part) for part in table.slices().values()) == len(table) + both


def test_a_saved_table_is_read_back_equal(tmp_path: Path) -> None:
    table = rank_table([3, 1, 12_195], new=[True, False, False], repeat=[False, True, False])
    table.save(tmp_path / "ranks.parquet")
    read = RankTable.load(tmp_path / "ranks.parquet")
    for name in ("rank", "target", "session", "prefix_length", "is_new_item", "is_repeat"):
        np.testing.assert_array_equal(getattr(read, name), getattr(table, name))
        assert getattr(read, name).dtype == getattr(table, name).dtype


def test_an_empty_table_is_read_back_empty(tmp_path: Path) -> None:
    rank_table([]).save(tmp_path / "ranks.parquet")
    assert len(RankTable.load(tmp_path / "ranks.parquet")) == 0


def test_a_missing_file_of_ranks_says_which_command_writes_one(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"ranks\.parquet: no such file; `mkmsr evaluate"):
        RankTable.load(tmp_path / "ranks.parquet")


def test_a_truncated_file_of_ranks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ranks.parquet"
    rank_table([1, 2, 3]).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(EvaluationError, match="not a table of ranks in Parquet form"):
        RankTable.load(path)


def test_a_file_of_ranks_at_which_the_decoder_panics_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(_: bytes) -> None:
        raise pl.exceptions.PanicException("assertion failed")

    rank_table([1, 2, 3]).save(tmp_path / "ranks.parquet")
    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(EvaluationError, match="not a table of ranks in Parquet form: assertion failed"):
        RankTable.load(tmp_path / "ranks.parquet")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (None, "no column 'rank'"),
        (pl.Series("rank", [0, 1]), "rank must be at least 1, found 0"),
        (pl.Series("rank", [1.5, 1.0]), "column 'rank' must hold whole numbers"),
        (pl.Series("rank", [1, 2**32 + 1]), "column 'rank' must hold whole numbers below 2"),
        (pl.Series("rank", [1, 2**70], pl.Int128), "column 'rank' must hold whole numbers below 2"),
        (pl.Series("rank", [1, None]), "column 'rank' must hold whole numbers below 2.* without gaps"),
        (pl.Series("is_repeat", [0, 1]), "column 'is_repeat' must hold true or false"),
    ],
)
def test_a_file_that_is_no_table_of_ranks_is_an_error(tmp_path: Path, column: pl.Series | None, message: str) -> None:
    path = tmp_path / "ranks.parquet"
    rank_table([1, 2]).save(path)
    frame = pl.read_parquet(path)
    (frame.drop("rank") if column is None else frame.with_columns(column)).write_parquet(path)
    with pytest.raises(EvaluationError, match=message):
        RankTable.load(path)


def test_tables_of_the_same_examples_may_differ_in_rank_only() -> None:
    rank_table([1, 2]).check_same_examples(rank_table([9, 9]))
    with pytest.raises(EvaluationError, match="different examples: 2 against 3"):
        rank_table([1, 2]).check_same_examples(rank_table([1, 2, 3]))
    other = rank_table([1, 2])
    other.target[1] = 40
    with pytest.raises(EvaluationError, match=r"1 of 2 rows differ in target, the first is row 1 \(2 against 40\)"):
        rank_table([1, 2]).check_same_examples(other)

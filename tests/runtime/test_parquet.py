from __future__ import annotations

import io
import random
from typing import Any

import polars as pl
import pytest

from mkmsr.errors import DataError
from mkmsr.runtime.parquet import BYTES_A_VALUE, read_table, unpacked_bytes

ROWS = 5_000


def parquet(table: pl.DataFrame, **options: Any) -> bytes:
    file = io.BytesIO()
    table.write_parquet(file, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """Texts that do not pack, and numbers that pack into nothing."""
    generator = random.Random(0)
    return pl.DataFrame({"item": [generator.randbytes(20).hex() for _ in range(ROWS)], "count": [7] * ROWS})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "uncompressed"},
        {"compression": "snappy"},
        {"row_group_size": 700},
        {"data_page_size": 2_000},
        {"statistics": "full"},
    ],
)
def test_it_is_what_texts_and_values_take(options: dict[str, Any], table: pl.DataFrame) -> None:
    content = parquet(table, **options)
    texts = ROWS * 40
    assert texts + 2 * ROWS * BYTES_A_VALUE <= unpacked_bytes(content) <= 1.2 * (texts + 4 * ROWS * BYTES_A_VALUE)


def test_neither_long_texts_nor_equal_values_hide(table: pl.DataFrame) -> None:
    long = parquet(pl.DataFrame({"item": ["0" * 1_000_000 + str(number) for number in range(20)]}))
    assert len(long) < 20_000
    assert 20_000_000 < unpacked_bytes(long) < 21_000_000
    equal = parquet(pl.DataFrame({"item": pl.repeat("x", 1_000_000, eager=True)}))
    assert len(equal) < 20_000
    assert 16_000_000 <= unpacked_bytes(equal) < 17_000_000
    assert unpacked_bytes(parquet(table.head(0))) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin and end"),
        (b"PAR1PAR1", "does not begin and end"),
        (b"PAR1" + (999).to_bytes(4, "little") + b"PAR1", "does not begin and end"),
        (b"PAR1\x00" + (1).to_bytes(4, "little") + b"PAR1", "is damaged .KeyError"),
        (b"PAR1" + b"\x1c" * 90_000 + (90_000).to_bytes(4, "little") + b"PAR1", "is damaged .RecursionError"),
        (b"PAR1" + b"\x19" * 90_000 + (90_000).to_bytes(4, "little") + b"PAR1", "is damaged .RecursionError"),
        (b"PAR1" + b"\x16" + b"\xff" * 30 + (31).to_bytes(4, "little") + b"PAR1", "is damaged .*more than 64 bits"),
        (b"PAR1" + b"\x19\xf1" + b"\xff" * 8 + b"\x01" + (11).to_bytes(4, "little") + b"PAR1", "of the unknown kind 1"),
        (b"PAR1\x18\x7fabc" + (5).to_bytes(4, "little") + b"PAR1", "is damaged .IndexError"),
    ],
)
def test_what_is_no_parquet_is_an_error(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        unpacked_bytes(content)


def test_any_changed_byte_gives_a_number_or_an_error_of_ours(table: pl.DataFrame) -> None:
    content, refused = parquet(table.head(50)), 0
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1 << place % 8
        try:
            assert unpacked_bytes(bytes(altered)) >= 0
        except DataError:
            refused += 1
    assert refused > 40


def test_counts_that_contradict_each_other_are_an_error(table: pl.DataFrame) -> None:
    content, refused = parquet(table.head(4321)), []
    right, wrong = bytes([0x16, 0xC2, 0x43]), bytes([0x16, 0xC0, 0x43])  # 4321 and 4320, as 64 bits in zigzag.
    for place in (place for place in range(len(content)) if content.startswith(right, place)):
        try:
            unpacked_bytes(content[:place] + wrong + content[place + 3 :])
        except DataError as error:
            refused.append(str(error))
    assert sum("its footer counts 4320 rows" in each for each in refused) == 1  # Of the file.
    assert sum("a column of 4320 rows" in each for each in refused) == 1  # Of the only group.
    assert sum("says that it has 4320 values" in each for each in refused) == 2  # Of its columns.


def test_a_table_comes_back_as_it_was_written(table: pl.DataFrame) -> None:
    assert read_table(parquet(table), {"item": pl.String(), "count": pl.Int64()}).equals(table)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            pl.DataFrame({"item": ["a"]}),
            r"should have the columns item \(String\), count \(Int64\), has item \(String\)",
        ),
        (pl.DataFrame({"item": ["a"], "count": [1.0]}), r"has item \(String\), count \(Float64\)"),
        (pl.DataFrame({"item": ["a", None], "count": [1, 2]}), "column 'item': has empty cells"),
    ],
)
def test_other_columns_and_empty_cells_are_named(other: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(parquet(other), {"item": pl.String(), "count": pl.Int64()})


@pytest.mark.parametrize(
    "bomb",
    [
        pl.DataFrame({"item": pl.repeat("x", 6_000_000, eager=True), "count": 1}),
        pl.DataFrame({"item": ["0" * 5_000_000 + str(number) for number in range(36)], "count": 1}),
        pl.DataFrame({"item": pl.repeat("0" * 100_000, 2_000, eager=True), "count": 1}),
    ],
)
def test_a_small_file_that_unpacks_to_far_more_is_refused(bomb: pl.DataFrame) -> None:
    content = parquet(bomb)
    assert len(content) < 100_000
    with pytest.raises(DataError, match=r"unpacks to far more than its .* bytes: to .*, allowed are"):
        read_table(content, {"item": pl.String(), "count": pl.Int64()})

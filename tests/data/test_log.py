"""The canonical event table checks itself once."""

from __future__ import annotations

import polars as pl
import pytest

from mkmsr.data.log import InteractionLog, LogSource
from mkmsr.errors import DataError

EVENTS = pl.DataFrame(
    {
        "session_id": ["a", "a"],
        "item_id": ["x", "y"],
        "operation": ["click", "order"],
        "time": [1, 2],
        "row": [0, 1],
    }
)


def test_a_correct_table_is_accepted_and_tells_what_it_has():
    log = InteractionLog(EVENTS.lazy())
    assert log.has_time
    assert not log.has_split
    assert log.path is None


def test_a_table_without_events_is_refused():
    with pytest.raises(DataError, match="holds no events"):
        InteractionLog(EVENTS.clear().lazy())


def test_a_missing_canonical_column_is_named():
    with pytest.raises(DataError, match="lacks the canonical column 'operation'"):
        InteractionLog(EVENTS.drop("operation").lazy())


def test_a_table_without_sessions_and_users_is_refused():
    with pytest.raises(DataError, match="needs a session or a user column"):
        InteractionLog(EVENTS.drop("session_id").lazy())


def test_an_unknown_column_is_named_with_the_known_ones():
    with pytest.raises(DataError, match=r"column 'price'.*canonical ones are session_id"):
        InteractionLog(EVENTS.with_columns(price=1).lazy())


def test_a_column_of_another_type_is_named_with_the_right_type():
    with pytest.raises(DataError, match=r"column 'time': has type Float64, should be Int64"):
        InteractionLog(EVENTS.cast({"time": pl.Float64}).lazy())


def test_an_empty_value_is_located_by_file_row_and_the_column_of_the_file(tmp_path):
    file = tmp_path / "raw.csv"
    file.write_text("content")
    broken = EVENTS.with_columns(item_id=pl.Series(["x", None]))
    with pytest.raises(DataError) as caught:
        InteractionLog(broken.lazy(), sources=(LogSource.of(file),), column_names={"item_id": "sku"})
    assert (caught.value.path, caught.value.row, caught.value.column) == (str(file), 3, "sku")
    assert "the value is empty" in str(caught.value)


def test_an_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"found 'dev', should be one of \('train', 'validation', 'test'\)"):
        InteractionLog(EVENTS.with_columns(split=pl.Series(["train", "dev"])).lazy())


@pytest.mark.parametrize("name", ["item_id", "relation"])
@pytest.mark.parametrize("empty", ["", None])
def test_an_attribute_of_no_item_or_no_relation_is_refused(name, empty):
    attributes = pl.DataFrame(
        {"item_id": ["x", "y"], "relation": ["brand", "brand"], "value": ["", None], "row": [0, 1]}
    )
    InteractionLog(EVENTS.lazy(), attributes.lazy())
    broken = attributes.with_columns(pl.Series(name, ["x", empty]))
    with pytest.raises(DataError, match=f"row 3, column '{name}': the value is empty in the attribute table"):
        InteractionLog(EVENTS.lazy(), broken.lazy())

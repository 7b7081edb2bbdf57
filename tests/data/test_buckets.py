from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkmsr.cli.app import run
from mkmsr.data.buckets import bucket_bounds, bucket_names, bucket_of, scattered_numbers, unshared_texts
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.errors import ConfigError, DataError

PRICES = np.random.default_rng(2).lognormal(3, 1, 60).round(2)


def shop(prices: list[str], **options: object) -> PreparedDataset:
    rng = np.random.default_rng(0)
    rows = [(f"s{s:03d}", f"item-{rng.integers(60)}", s * 1000 + e) for s in range(150) for e in range(4)]
    rows += [("t999", f"item-{n}", 10**7 + n) for n in range(60)]
    events = pl.DataFrame(rows, schema=["session_id", "item_id", "time"], orient="row")
    known = pl.DataFrame(
        [(f"item-{n}", "price", price) for n, price in enumerate(prices)]
        + [(f"item-{n}", "brand", f"b{n % 3}") for n in range(60)],
        schema=["item_id", "relation", "value"],
        orient="row",
    )
    row = pl.int_range(pl.len(), dtype=pl.Int64).alias("row")
    events = events.with_columns(row, operation=pl.lit("click"))
    log = InteractionLog(events.lazy(), known.with_columns(row).lazy(), name="prices")
    return prepare(log, PrepareOptions.model_validate({"new_items": "keep", **options}))


def test_prices_fall_into_buckets_of_equal_size_by_the_training_items() -> None:
    data = shop([str(price) for price in PRICES], buckets={"price": 5})
    seen = {data.items.id(int(item)) for item in np.unique(data.train.items)}
    count: Counter[str] = Counter()
    for item in data.items.ids:
        (bucket,) = data.knowledge.describe_item(data.items.index(item))["price"]
        low, high = bucket_bounds(bucket) or (math.nan, math.nan)
        assert low <= PRICES[int(item.removeprefix("item-"))] < high
        count[bucket] += item in seen
    assert len(count) == 5
    assert max(count.values()) - min(count.values()) <= 2
    assert len(data.knowledge.relations) == 2


def test_prices_of_later_items_move_no_bound() -> None:
    plain = shop([str(price) for price in PRICES], buckets={"price": 4}, test_share=0.2, validation_share=0.2)
    late = set(range(60)) - {int(plain.items.id(int(item))[5:]) for item in np.unique(plain.train.items)}
    changed = [str(price * 1000 if number in late else price) for number, price in enumerate(PRICES)]
    other = shop(changed, buckets={"price": 4}, test_share=0.2, validation_share=0.2)
    bounds = [{name for name in data.knowledge.attributes.ids if name.startswith("price=")} for data in (plain, other)]
    assert bounds[0] == bounds[1]


def test_equal_prices_share_a_bucket_and_empty_cells_have_none() -> None:
    data = shop(["5"] * 50 + [""] * 5 + ["9"] * 5, buckets={"price": 10})
    names = {name for name in data.knowledge.attributes.ids if name.startswith("price=")}
    assert names <= {"price=..9", "price=9..", "price=.."}
    assert "price" not in data.knowledge.describe_item(data.items.index("item-52"))


def test_numbers_that_hardly_two_items_share_are_found() -> None:
    prices = [f"{5 + number}.50" for number in range(60)]
    assert scattered_numbers(shop(prices).knowledge) == {"price": (60, 60)}
    assert not scattered_numbers(shop(prices, buckets={"price": 5}).knowledge)
    assert not scattered_numbers(shop([*prices[:-1], "on request"]).knowledge)
    assert not scattered_numbers(shop(prices[:20] * 3).knowledge)


def test_texts_that_hardly_two_items_share_are_found() -> None:
    names = [f"phone {number}" for number in range(60)]
    assert unshared_texts(shop(names).knowledge) == ["price"]
    assert not unshared_texts(shop(names[:30] * 2).knowledge)
    assert not unshared_texts(shop([str(number) for number in range(60)]).knowledge)


def test_what_is_no_number_is_named() -> None:
    with pytest.raises(DataError, match=r"^column 'price': should be a number .*, found 'cheap' \(item 'item-59'\)"):
        shop(["1"] * 59 + ["cheap"], buckets={"price": 3})
    with pytest.raises(ConfigError, match="no relation 'prize', did you mean 'price'"):
        shop(["1"] * 60, buckets={"prize": 3})


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8, unique_by=lambda edge: f"{edge:g}"), st.floats(-2e6, 2e6))
def test_a_number_is_in_exactly_one_bucket(edges: list[float], value: float) -> None:
    rounded = sorted({float(f"{edge:g}") for edge in edges})
    names = bucket_names(rounded)
    inside = [name for name in names if bucket_of(value, [name])]
    assert inside == [names[int(np.searchsorted(rounded, value, side="right"))]]
    assert bucket_of(value, names) == inside[0]


@pytest.mark.parametrize("text", ["", "10", "a..b", "10-20", "...", ". .", "1..2..3"])
def test_another_text_is_no_bucket(text: str) -> None:
    assert bucket_bounds(text) is None


def test_the_command_line_takes_buckets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    events = tmp_path / "events.csv"
    rows = [f"s{s},item-{(s * 7 + e) % 20},click,{s * 1000 + e}" for s in range(60) for e in range(3)]
    events.write_text("session,item,operation,time\n" + "\n".join(rows))
    table = tmp_path / "attributes.csv"
    table.write_text("item,price\n" + "\n".join(f"item-{n},{n + 0.5}" for n in range(20)))
    call = ["prepare", "events", str(events), "--attributes", str(table), "--out", str(tmp_path / "data")]
    assert run([*call, "--buckets", "price=4"]) == 0
    found = PreparedDataset.load(tmp_path / "data")
    assert len(found.knowledge.attributes) == 4
    assert found.metadata["options"]["buckets"] == {"price": 4}
    capfd.readouterr()
    assert run([*call, "--buckets", "price"]) == 2
    assert "'price' should read relation=number" in " ".join(capfd.readouterr().err.split())

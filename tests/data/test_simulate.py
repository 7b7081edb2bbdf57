"""The simulated shop: reproducible, of the promised shape, and with the promised signals in it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mkmsr.data.dataset import statistics
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.data.shop import SimulateOptions, group_names
from mkmsr.data.simulate import SimulatedLog, simulate
from mkmsr.errors import DataError


@pytest.fixture(scope="module")
def shop() -> SimulatedLog:
    """The demo's log."""
    return simulate()


@pytest.fixture(scope="module")
def steps(shop) -> pl.DataFrame:
    """Every event with the next of its session, and what the two items have in common."""
    ordered = shop.events.sort("session", "time", maintain_order=True)
    later = ordered.with_columns(pl.col("item", "operation").shift(-1).over("session").name.prefix("next_"))
    steps = later.filter(pl.col("next_item").is_not_null())
    for relation in ("brand", "shop", "category"):
        first = shop.attributes.filter(pl.col("relation") == relation).unique("item", keep="first", maintain_order=True)
        values = first.select("item", value="value")
        steps = steps.join(values, on="item").rename({"value": relation})
        steps = steps.join(values.rename({"item": "next_item"}), on="next_item").rename({"value": f"next_{relation}"})
        steps = steps.with_columns((pl.col(relation) == pl.col(f"next_{relation}")).alias(f"same_{relation}"))
    return steps.with_columns(repeat=pl.col("item") == pl.col("next_item"))


def share(steps: pl.DataFrame, column: str, operation: str) -> float:
    return float(steps.filter(pl.col("operation") == operation)[column].mean())


def test_the_demo_log_has_the_promised_size(shop):
    assert shop.events["session"].n_unique() >= 20_000
    assert shop.attributes["item"].n_unique() == 5_000
    assert set(shop.events["operation"]) == {"click", "cart", "favourite", "order", "comment"}
    assert set(shop.attributes["relation"]) == {"brand", "shop", "category", "launch_year"}
    assert shop.events.group_by("session").len()["len"].min() == 2


def test_the_same_seed_gives_the_same_log_and_another_seed_another():
    options = SimulateOptions(sessions=300, items=200)
    assert simulate(options).events.equals(simulate(options).events)
    assert simulate(options).attributes.equals(simulate(options).attributes)
    assert not simulate(options).events.equals(simulate(SimulateOptions(sessions=300, items=200, seed=1)).events)


def test_sessions_of_a_user_are_more_than_an_hour_apart_and_pauses_inside_are_shorter(shop):
    gaps = shop.events.sort("user", "time").with_columns(
        gap=pl.col("time").diff().over("user"), new=(pl.col("session") != pl.col("session").shift(1)).over("user")
    )
    assert gaps.filter(pl.col("new"))["gap"].min() > 3600
    assert gaps.filter(~pl.col("new"))["gap"].max() <= 3600
    assert shop.events.select("user", "session").unique().group_by("user").len()["len"].mean() > 2


def test_cutting_by_gap_finds_the_simulated_sessions(shop):
    whole = prepare(shop.to_log())
    log = shop.to_log()
    cut = prepare(type(log)(log.events.drop("session_id"), log.attributes))
    assert cut.fingerprint == whole.fingerprint


def test_repeats_depend_on_the_last_operation(steps):
    assert share(steps, "repeat", "cart") > 0.45
    assert share(steps, "repeat", "click") < 0.2
    assert share(steps, "repeat", "comment") < 0.1


def test_the_last_operation_decides_which_attribute_leads_on(steps):
    fresh = steps.filter(~pl.col("repeat"))
    assert share(fresh, "same_category", "click") > 0.6
    assert share(fresh, "same_shop", "cart") > 0.5 > 2 * share(fresh, "same_shop", "click")
    assert share(fresh, "same_brand", "favourite") > 0.5 > 2 * share(fresh, "same_brand", "click")


def test_after_an_order_few_companions_follow_an_item(steps):
    fresh = steps.filter(~pl.col("repeat"))
    counts = fresh.group_by("operation", "item", "next_item").len()
    top = counts.group_by("operation", "item").agg(pl.col("len").top_k(3).sum(), total=pl.col("len").sum())
    often = top.filter(pl.col("total") >= 10).group_by("operation").agg(pl.col("len").sum() / pl.col("total").sum())
    shares = dict(often.iter_rows())
    assert shares["order"] > 0.6 > shares["click"]


def test_popularity_has_a_long_tail(shop):
    counts = np.sort(shop.events.group_by("item").len()["len"].to_numpy())[::-1]
    assert counts[: len(counts) // 10].sum() > 0.3 * counts.sum()
    assert np.median(counts) < 0.6 * counts.mean()


def test_about_a_tenth_of_test_targets_are_new_items_with_attributes(shop):
    dataset = prepare(shop.to_log(), PrepareOptions(new_items="keep"))
    assert 0.07 < statistics(dataset)["test"]["new_item_target_share"] < 0.14
    assert dataset.metadata["preparation"]["attributes"]["items_without_attributes"] == 0


def test_no_item_is_sold_before_it_is_launched(shop):
    first = shop.events.group_by("item").agg(pl.col("time").min())
    newest = shop.attributes.filter((pl.col("relation") == "launch_year") & (pl.col("value") == "2025"))
    start = shop.events["time"].min()
    end = shop.events["time"].max()
    assert len(newest) == 600
    assert first.join(newest, on="item")["time"].min() > start + 0.8 * (end - start)


def test_a_saved_log_is_read_by_the_generic_reader_without_options(tmp_path):
    shop = simulate(SimulateOptions(sessions=300, items=200))
    shop.save(tmp_path / "shop")
    log = read_log(
        "events", tmp_path / "shop" / "events.parquet", ReadOptions(attributes=tmp_path / "shop" / "attributes.parquet")
    )
    assert prepare(log).fingerprint == prepare(shop.to_log()).fingerprint


def test_every_item_has_a_name_a_price_and_a_picture_that_are_shown_and_not_learnt_from(tmp_path):
    shop = simulate(SimulateOptions(sessions=300, items=200))
    shop.save(tmp_path)
    shown = ReadOptions(attributes=tmp_path / "attributes*.parquet", attribute_columns={"display": "name+price+image"})
    dataset = prepare(read_log("events", tmp_path / "events.parquet", shown))
    plain = prepare(
        read_log("events", tmp_path / "events.parquet", ReadOptions(attributes=tmp_path / "attributes.parquet"))
    )
    assert dataset.fingerprint == plain.fingerprint
    assert set(dataset.items.ids) == set(dataset.display)
    for product in dataset.display.values():
        assert list(product) == ["name", "price", "image"]
        assert float(product["price"].removeprefix("€ ")) > 0
        assert product["image"].startswith("data:image/svg+xml,%3Csvg%20xmlns=")
    assert len({product["name"] for product in dataset.display.values()}) == len(dataset.display)


def test_brands_shops_and_categories_have_names_of_their_own_however_many_there_are():
    for group in ("brand", "shop", "category"):
        assert group_names(group, 5_000).n_unique() == 5_000


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write: (Not a directory|File exists)"):
        simulate(SimulateOptions(sessions=20, items=60)).save(tmp_path / "file")


def test_sessions_are_as_long_as_asked_for() -> None:
    for mean in (4.0, 8.0):
        log = simulate(SimulateOptions(sessions=4_000, items=200, events_per_session=mean))
        assert log.events.height / 4_000 == pytest.approx(mean, rel=0.08)

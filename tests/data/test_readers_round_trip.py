"""A simulated log, written in the schema of each public data set, is the same log when its reader has read it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import READERS, read_log
from mkmsr.data.shop import SimulateOptions
from mkmsr.data.simulate import simulate

Relations = Mapping[str, Callable[[int], str]]
"""Each relation's value by the item's number."""


@dataclass(frozen=True)
class Schema:
    """How a data set writes a log.

    Args:
        write: Writes events (session, user, item, operation, time, milli) and the table of items (item and a column a
            relation) as raw files.
        operations: Its words for click, cart, favourite, order and comment.
        relations: What it knows of items.
        owner: What divides its events into sessions.
    """

    write: Callable[[pl.DataFrame, pl.DataFrame, Path], None]
    operations: tuple[str, str, str, str, str]
    relations: Relations
    owner: str = "user"


def text(seconds: str, form: str) -> pl.Expr:
    return pl.from_epoch(seconds).dt.strftime(form)


def jdata(events: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    types = {"click": "1", "order": "2", "follow": "3", "comment": "4", "cart": "5"}
    events.select(
        user_id="user",
        sku_id="item",
        action_time=text("time", "%Y-%m-%d %H:%M:%S"),
        module_id=pl.lit(7),
        type=pl.col("operation").replace_strict(types),
    ).write_csv(folder / "jdata_action.csv")
    market_time = pl.col("launch_year") + "-07-02 11:19:04.0"
    items.select(sku_id="item", brand="brand", shop_id="shop", cate="category", market_time=market_time).write_csv(
        folder / "jdata_product.csv"
    )


def kkbox(events: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    screen = pl.col("operation").replace("null", None)
    empty = pl.lit("")
    events.select(
        msno="user",
        song_id="item",
        source_system_tab=empty,
        source_screen_name=screen,
        source_type=empty,
        target=pl.lit(1),
    ).write_csv(folder / "train.csv")
    songs = items.select("item", "genre", "artist", "language")
    songs.select(
        song_id="item",
        song_length=pl.lit(1),
        genre_ids="genre",
        artist_name="artist",
        composer=empty,
        lyricist=empty,
        language="language",
    ).write_csv(folder / "songs.csv")
    isrc = "TWUM7" + pl.col("release_year").str.slice(2) + "00043"
    items.select(song_id="item", name=pl.lit('a "name", quoted'), isrc=isrc).write_csv(folder / "song_extra_info.csv")


def retailrocket(events: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    stamp = pl.col("time") * 1000 + pl.col("milli")
    events.select(
        timestamp=stamp, visitorid="user", event="operation", itemid="item", transactionid=pl.lit("")
    ).write_csv(folder / "events.csv")
    first = events["time"].min() * 1000
    rows = items.select(timestamp=pl.lit(first), itemid="item", property=pl.lit("categoryid"), value="category")
    rows[::2].write_csv(folder / "item_properties_part1.csv")
    rows[1::2].write_csv(folder / "item_properties_part2.csv")
    tree = items.select(categoryid="category", parentid="parent_category").unique()
    tree.write_csv(folder / "category_tree.csv")


def trivago(events: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    empty = {name: pl.lit("") for name in ("platform", "device", "current_filters", "impressions", "prices")}
    events.select(
        user_id="user",
        session_id="session",
        timestamp="time",
        step=pl.lit(1),
        action_type="operation",
        reference="item",
        city=pl.lit("São Paulo, Brazil"),
        **empty,
    ).write_csv(folder / "train.csv")
    items.select(item_id="item", properties="property").write_csv(folder / "item_metadata.csv")


def rees46(events: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    table = events.join(items, on="item", maintain_order="left").select(
        event_time=text("time", "%Y-%m-%d %H:%M:%S UTC"),
        event_type="operation",
        product_id="item",
        category_id="category",
        category_code="category_code",
        brand="brand",
        price=pl.lit(9.5),
        user_id="user",
        user_session="session",
    )
    table[:500].write_csv(folder / "2019-a.csv")
    table[500:].write_csv(folder / "2019-b.csv")


def yoochoose(events: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    stamp = text("time", "%Y-%m-%dT%H:%M:%S.") + pl.col("milli").cast(pl.String).str.zfill(3) + "Z"
    rows = events.join(items, on="item", maintain_order="left").with_columns(stamp=stamp)
    clicks = rows.filter(pl.col("operation") == "click").select("session", "stamp", "item", "category")
    clicks.write_csv(folder / "yoochoose-clicks.dat", include_header=False)
    buys = rows.filter(pl.col("operation") == "buy").select("session", "stamp", "item", price=pl.lit(0), n=pl.lit(0))
    buys.write_csv(folder / "yoochoose-buys.dat", include_header=False)


def diginetica(events: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    day = text("time", "%Y-%m-%d")
    passed = pl.col("time") % 86_400 * 1000 + pl.col("milli")
    rows = events.select(
        "operation", sessionId="session", userId=pl.lit("NA"), itemId="item", timeframe=passed, eventdate=day
    )
    for operation, name in (("view", "train-item-views.csv"), ("purchase", "train-purchases.csv")):
        rows.filter(pl.col("operation") == operation).drop("operation").write_csv(folder / name, separator=";")
    items.select(itemId="item", categoryId="category").write_csv(folder / "product-categories.csv", separator=";")
    products = items.select(
        pl.col("item").alias("itemId"),
        pl.col("price").str.slice(2).alias("pricelog2"),
        pl.lit("1,2").alias("product.name.tokens"),
    )
    products.write_csv(folder / "products.csv", separator=";")


def otto(events: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    lines = []
    for (session,), rows in events.group_by("session", maintain_order=True):
        parts = [
            {"aid": int(row["item"]), "ts": row["time"] * 1000 + row["milli"], "type": row["operation"]}
            for row in rows.iter_rows(named=True)
        ]
        lines.append(json.dumps({"session": int(session), "events": parts}))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")


def numbered(name: str, count: int, *, first: int = 0) -> Callable[[int], str]:
    return lambda item: f"{name}{first + item % count}"


SCHEMAS = {
    "jdata": Schema(
        jdata,
        ("click", "cart", "follow", "order", "comment"),
        {
            "brand": numbered("", 7),
            "shop": numbered("", 5),
            "category": numbered("", 3),
            "launch_year": numbered("", 9, first=2010),
        },
    ),
    "kkbox": Schema(
        kkbox,
        ("Radio", "Explore", "null", "My library", "Search"),
        {
            "artist": numbered("某 artist, ", 7),
            "genre": numbered("", 5),
            "language": numbered("", 3),
            "release_year": numbered("", 70, first=1948),
        },
    ),
    "retailrocket": Schema(
        retailrocket,
        ("view", "addtocart", "view", "transaction", "view"),
        {"category": numbered("", 12), "parent_category": lambda item: str(100 + item % 12 % 3)},
    ),
    "trivago": Schema(
        trivago,
        (
            "clickout item",
            "search for item",
            "interaction item image",
            "interaction item deals",
            "interaction item info",
        ),
        {"property": numbered("Golf Course ", 9)},
        "session",
    ),
    "rees46": Schema(
        rees46,
        ("view", "cart", "remove_from_cart", "purchase", "view"),
        {"brand": numbered("b", 7), "category": numbered("", 5), "category_code": numbered("code", 4)},
        "session",
    ),
    "yoochoose": Schema(
        yoochoose, ("click", "click", "click", "buy", "click"), {"category": numbered("", 12, first=1)}, "session"
    ),
    "diginetica": Schema(
        diginetica,
        ("view", "view", "view", "purchase", "view"),
        {"category": numbered("", 12), "price": numbered("2^", 11)},
        "session",
    ),
    "otto": Schema(otto, ("clicks", "carts", "clicks", "orders", "clicks"), {}, "session"),
}


@pytest.fixture(scope="module")
def shop() -> pl.DataFrame:
    """A simulated log with numbers for ids; milli counts the events of a second."""
    events = simulate(SimulateOptions(sessions=220, items=90, seed=5)).events
    numbers = pl.col("session", "user", "item").str.extract(r"(\d+)$").cast(pl.Int64) + 1000
    return events.with_columns(numbers.cast(pl.String), milli=pl.int_range(pl.len()).over("time"))


def expected(kind: str, schema: Schema, events: pl.DataFrame, items: pl.DataFrame) -> InteractionLog:
    """The log that should come out."""
    row = pl.int_range(pl.len(), dtype=pl.Int64).alias("row")
    time = [] if kind == "kkbox" else ["time"]
    canonical = events.select(
        pl.col(schema.owner).alias(f"{schema.owner}_id"), pl.col("item").alias("item_id"), "operation", *time, row
    )
    table = None
    if schema.relations:
        told = items.rename({"item": "item_id"}).unpivot(index="item_id", variable_name="relation")
        if kind == "yoochoose":  # only clicks tell of items
            clicked = events.filter(pl.col("operation") == "click")["item"]
            told = told.filter(pl.col("item_id").is_in(clicked.implode()))
        table = told.with_columns(row).lazy()
    gap = {"kkbox": 2000, "jdata": 3600, "retailrocket": 1800}.get(kind)
    return InteractionLog(canonical.lazy(), table, gap=gap)


def test_every_public_kind_has_a_round_trip():
    assert set(SCHEMAS) == set(READERS) - {"events", "jdata-demo", "presplit"}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_simulated_log_reads_back_equal(kind, shop, tmp_path):
    schema = SCHEMAS[kind]
    words = dict(zip(("click", "cart", "favourite", "order", "comment"), schema.operations, strict=True))
    events = shop.with_columns(pl.col("operation").replace(words))
    numbers = sorted(set(events["item"]))
    items = pl.DataFrame({"item": numbers}).with_columns(
        pl.Series(name, [value(int(each)) for each in numbers]) for name, value in schema.relations.items()
    )
    schema.write(events, items, tmp_path)
    options = PrepareOptions(new_items="keep")
    found = prepare(read_log(kind, tmp_path), options, name="x")
    wanted = prepare(expected(kind, schema, events, items), options, name="x")
    assert found.train.num_events > 500
    assert list(found.operations.ids) == list(wanted.operations.ids)
    assert (found.train.items == wanted.train.items).all()
    assert (found.train.offsets == wanted.train.offsets).all()
    assert list(found.knowledge.attributes.ids) == list(wanted.knowledge.attributes.ids)
    assert found.fingerprint == wanted.fingerprint

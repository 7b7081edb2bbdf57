"""YooChoose's shop log as given out for the RecSys Challenge 2015: clicks and buys, without headers.

The competition's own test file is not read.
"""

from __future__ import annotations

import polars as pl

from mkmsr.data.readers.attributes import values_at
from mkmsr.data.readers.public import Intake, PublicDataset, PublicFile, Value, clock, needed, price_bucket, relation

CATEGORY, BRAND = r"^(?:[1-9]|1[0-2])$", r"^\d{8,10}$"
"""What stands in a click's category. Source: the data set's readme. "S" is a special offer and "0" is unknown: both say
where the click happened and nothing of the item."""


def _events(intake: Intake) -> pl.LazyFrame:
    """Clicks tell categories (1 to 12) and brands of their items, buys the price; many buys have a price of 0."""
    values = {
        "session_id": needed("session"),
        "item_id": needed("item"),
        "time": clock("timestamp", "%Y-%m-%dT%H:%M:%S%.fZ", like="2014-04-07T10:51:09.277Z"),
    }
    category = pl.col("category").str.strip_chars()
    of_clicks = {
        "operation": Value(pl.lit("click")),
        "category": Value(pl.when(category.str.contains(CATEGORY)).then(category)),
        "brand": Value(pl.when(category.str.contains(BRAND)).then(category)),
    }
    of_buys = {"operation": Value(pl.lit("buy")), "price": price_bucket("price")}
    clicks = intake.events("yoochoose-clicks.dat", {**values, **of_clicks})
    buys = intake.events("yoochoose-buys.dat", {**values, **of_buys}, number=1)
    return pl.concat([clicks, buys], how="diagonal")


def _attributes(intake: Intake, events: pl.LazyFrame) -> list[pl.LazyFrame]:
    time = intake.moment(events)
    return [relation(values_at(events.rename({name: "value"}), time), name, "value") for name in intake.relations]


DATASET = PublicDataset(
    name="yoochoose",
    title="clicks and buys in a shop, April to September 2014, RecSys Challenge 2015",
    owner="YooChoose",
    page="https://2015.recsyschallenge.com/challenge.html",
    terms="CC BY-NC-ND 4.0, as the files' own readme says",
    files=(
        PublicFile("yoochoose-clicks.dat", "session,timestamp,item,category", header=False, rows=33_003_944),
        PublicFile("yoochoose-buys.dat", "session,timestamp,item,price,quantity", header=False, rows=1_150_753),
    ),
    events=_events,
    attributes=_attributes,
    relations=("category", "brand"),
    more_relations=("price",),
    is_dated=True,
)

"""RetailRocket's shop log: events, item_properties_part1 and _part2, category_tree.

Properties were recorded every week, so an item has several values of one; those of one moment are read. All but two
properties have hidden names, numbers, and are called by them.
"""

from __future__ import annotations

import polars as pl

from mkmsr.data.readers.attributes import values_at
from mkmsr.data.readers.public import (
    SECOND,
    Intake,
    PublicDataset,
    PublicFile,
    Value,
    counted,
    needed,
    one_of,
    relation,
    text,
)

PROPERTIES = {"category": "categoryid", "parent_category": "categoryid"}
"""Properties that relations with another name are made of."""


def _events(intake: Intake) -> pl.LazyFrame:
    values = {
        "user_id": needed("visitorid"),
        "item_id": needed("itemid"),
        "time": counted("timestamp", "unix milliseconds"),
        "operation": one_of("event", ("view", "addtocart", "transaction")),
    }
    return intake.events("events.csv", values)


def _attributes(intake: Intake, events: pl.LazyFrame) -> list[pl.LazyFrame]:
    time = intake.moment(events)
    wanted = sorted({PROPERTIES.get(name, name) for name in intake.relations})
    micros = counted("timestamp", "unix milliseconds")
    values = {
        "item_id": needed("itemid"),
        "property": text("property"),
        "value": text("value"),
        "time": Value(micros.expr // SECOND, micros.faults),
    }
    only = pl.col("property").is_in(wanted)
    properties = pl.concat([intake.rows(f"item_properties_part{part}.csv", values, only=only) for part in (1, 2)])
    known = {name: values_at(properties.filter(pl.col("property") == name), time) for name in wanted}
    if "parent_category" in intake.relations:
        tree = intake.rows("category_tree.csv", {"child": needed("categoryid"), "parent": text("parentid")})
        parents = tree.filter(pl.col("parent").is_not_null()).unique("child", keep="first", maintain_order=True)
        categories = known["categoryid"].join(parents, left_on="value", right_on="child")
        known["parent_category"] = categories.select("item_id", value="parent").sort("item_id")
    tables = {name: known.get(name, known[PROPERTIES.get(name, name)]) for name in intake.relations}
    return [relation(table, name, "value") for name, table in tables.items()]


DATASET = PublicDataset(
    name="retailrocket",
    title="views, carts and transactions of a shop, May to September 2015",
    owner="RetailRocket, on Kaggle",
    page="https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
    terms="CC BY-NC-SA 4.0",
    files=(
        PublicFile("events.csv", "timestamp,visitorid,event,itemid,transactionid", bytes=94_237_913, rows=2_756_101),
        PublicFile("item_properties_part1.csv", "timestamp,itemid,property,value", bytes=484_315_749),
        PublicFile("item_properties_part2.csv", "timestamp,itemid,property,value", bytes=408_929_907),
        PublicFile("category_tree.csv", "categoryid,parentid", bytes=14_454, rows=1_669),
    ),
    events=_events,
    attributes=_attributes,
    relations=("category", "parent_category"),
    more_relations=("available",),
    numbered_relations=True,
    is_dated=True,
    gap=1800,  # half an hour, as is usual for this data set
)

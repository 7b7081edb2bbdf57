"""Diginetica's shop log as given out for the CIKM Cup 2016: item views and purchases, fields between ';'.

Most rows have no user ("NA"), so users are left out; sessions are the log's own. Clicks on search results
(train-clicks.csv) belong to queries and are not read.
"""

from __future__ import annotations

import polars as pl

from mkmsr.data.readers.public import Intake, PublicDataset, PublicFile, Value, clock, counted, needed, relation, text
from mkmsr.errors import DataError

VIEWS, PURCHASES = "train-item-views.csv", "train-purchases.csv"


def _events(intake: Intake) -> pl.LazyFrame:
    """A time is the date of the session plus the milliseconds since its first query."""
    day, passed = clock("eventdate", "%Y-%m-%d", like="2016-05-09"), counted("timeframe", "milliseconds")
    values = {
        "session_id": needed("sessionId"),
        "item_id": needed("itemId"),
        "time": Value(day.expr + passed.expr, (*day.faults, *passed.faults)),
    }
    parts = [intake.events(VIEWS, {**values, "operation": Value(pl.lit("view"))})]
    try:
        intake.find(PURCHASES)
    except DataError:
        intake.notes["missing_files"] = [PURCHASES]
    else:
        parts.append(intake.events(PURCHASES, {**values, "operation": Value(pl.lit("purchase"))}, number=1))
    return pl.concat(parts)


def _attributes(intake: Intake, events: pl.LazyFrame) -> list[pl.LazyFrame]:
    """A price is a power of two; tokens are the words of a name, as numbers."""
    found: dict[str, pl.LazyFrame] = {}
    if "category" in intake.relations:
        values = {"item_id": needed("itemId"), "category": text("categoryId")}
        found["category"] = relation(intake.rows("product-categories.csv", values), "category")
    if {"price", "name_token"} & set(intake.relations):
        values = {
            "item_id": needed("itemId"),
            "price": Value("2^" + pl.col("pricelog2")),
            "name_token": text("product.name.tokens"),
        }
        products = intake.rows("products.csv", values)
        found["price"] = relation(products, "price")
        found["name_token"] = relation(products, "name_token", separator=",")
    return [found[name] for name in intake.relations]


DATASET = PublicDataset(
    name="diginetica",
    title="item views and purchases of a shop, January to June 2016, CIKM Cup 2016",
    owner="Diginetica, on CodaLab",
    page="https://competitions.codalab.org/competitions/11161",
    terms="the competition's terms, accepted with an account",
    files=(
        PublicFile(VIEWS, "sessionId,itemId,timeframe,eventdate", ";"),
        PublicFile(PURCHASES, "sessionId,timeframe,eventdate,itemId", ";", needed=False),
        PublicFile("products.csv", "itemId,pricelog2,product.name.tokens", ";"),
        PublicFile("product-categories.csv", "itemId,categoryId", ";"),
    ),
    events=_events,
    attributes=_attributes,
    relations=("category", "price"),
    more_relations=("name_token",),
    spellings={"session_id": "sessionId", "item_id": "itemId", "category_id": "categoryId"},
)

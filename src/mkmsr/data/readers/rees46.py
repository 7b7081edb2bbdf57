"""The shop logs of REES46's Open CDP project: the multi-category store, the cosmetics shop; a file a month.

Item knowledge stands in the events themselves and changes now and then; that of one moment is read.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mkmsr.data.readers.attributes import path_levels, values_at
from mkmsr.data.readers.public import (
    Intake,
    PublicDataset,
    PublicFile,
    clock,
    needed,
    one_of,
    price_bucket,
    relation,
    text,
)
from mkmsr.errors import DataError

COLUMNS = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
TIMES = ("%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S")


def _events(intake: Intake) -> pl.LazyFrame:
    """The events of all files, with what they tell of their items."""
    values = {
        "item_id": needed("product_id"),
        "user_id": needed("user_id"),
        "session_id": needed("user_session"),
        "time": clock("event_time", *TIMES, like="2019-10-01 00:00:00 UTC"),
        "operation": one_of("event_type", ("view", "cart", "remove_from_cart", "purchase")),
    }
    told = {
        "brand": text("brand"),
        "category": text("category_id"),
        "category_code": text("category_code"),
        "price": price_bucket("price"),
    }
    values |= {name: told[name] for name in intake.relations}
    return pl.concat([intake.events(path, values, number=number) for number, path in enumerate(_files(intake.source))])


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    files = sorted(path for path in source.iterdir() if path.name.endswith((".csv", ".csv.gz")))
    if not files:
        raise DataError("holds no .csv file (also .csv.gz)", path=source)
    return files


def _attributes(intake: Intake, events: pl.LazyFrame) -> list[pl.LazyFrame]:
    time, tables = intake.moment(events), []
    for name in intake.relations:
        known = values_at(events.select("item_id", "time", value=name), time)
        if name == "category_code":
            known = known.with_columns(value=path_levels(".")).explode("value").sort("item_id", "value")
        tables.append(relation(known, name, "value"))
    return tables


DATASET = PublicDataset(
    name="rees46",
    title="a multi-category store, October and November 2019; other months and the cosmetics shop have the same form",
    owner="REES46 Open CDP, on Kaggle and on its own pages",
    page="https://www.kaggle.com/datasets/mkechinov/ecommerce-behavior-data-from-multi-category-store",
    terms="free to use with a link to that page and to https://rees46.com",
    files=(
        PublicFile("2019-Oct.csv", COLUMNS, needed=False, bytes=5_668_612_855, rows=42_448_764),
        PublicFile("2019-Nov.csv", COLUMNS, needed=False, bytes=9_006_762_395, rows=67_501_979),
    ),
    events=_events,
    attributes=_attributes,
    relations=("brand", "category", "category_code"),
    more_relations=("price",),
    is_dated=True,
)

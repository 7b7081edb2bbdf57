"""Reader of Diginetica's shop log as given out for the CIKM Cup 2016: item views and purchases, fields between ';'."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.intake import Intake, folder_of
from mkmsr.data.readers.knowledge import relation
from mkmsr.data.readers.malformed import Fault, empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.parsing import clock, event_row, seconds, whole_number
from mkmsr.data.readers.public import PublicDataset, PublicFile
from mkmsr.data.readers.table import find_file
from mkmsr.errors import DataError

__all__ = ["DATASET"]

KIND = "diginetica"
OWN = ("category", "price")
MORE = ("name_token",)

SPELLINGS = {"session_id": "sessionId", "item_id": "itemId", "category_id": "categoryId"}
"""Copies in circulation spell some columns in another way."""

VIEWS, PURCHASES = "train-item-views.csv", "train-purchases.csv"


def read_diginetica(source: Path, options: ReadOptions) -> InteractionLog:
    """The log in the folder of the unpacked files, each plain or .gz; operations are `view` and `purchase`.

    A time is the date of the session plus the milliseconds since its first query. Most rows have no user ("NA"), so
    users are left out; sessions are the log's own. Clicks on search results (train-clicks.csv) belong to queries and
    are not read. Without a file of purchases, the views alone are the log.

    Relations: `category`; `price`, a power of two as the file has it; on request `name_token`, the words of the name as
    numbers.

    Raises:
        DataError: A file or column is missing, or too many rows are malformed.
        ConfigError: An option or relation is none of this reader's.
    """
    intake = Intake(KIND, options, allowed=("relations",))
    relations = options.choose_relations(KIND, default=OWN, more=MORE)
    parts = [_rows(find_file(folder_of(source), VIEWS), "view", 0, intake)]
    try:
        purchases = find_file(source, PURCHASES)
    except DataError:
        intake.notes["missing_files"] = [PURCHASES]
    else:
        parts.append(_rows(purchases, "purchase", 1, intake))
    names = {"session_id": "sessionId", "item_id": "itemId", "time": "timeframe"}
    return intake.log(pl.concat(parts), _attributes(source, relations, intake), column_names=names)


def _rows(path: Path, operation: str, number: int, intake: Intake) -> pl.LazyFrame:
    day, passed = clock("eventdate", "%Y-%m-%d"), whole_number("timeframe")
    micros = day + passed * 1000
    return intake.rows(
        intake.table(path, "sessionId", "itemId", "timeframe", "eventdate", separator=";", rename=SPELLINGS),
        {
            "session_id": pl.col("sessionId"),
            "item_id": pl.col("itemId"),
            "operation": pl.lit(operation),
            "time": seconds(micros),
            "row": event_row(file=number, micros=micros),
        },
        [
            empty("sessionId"),
            empty("itemId"),
            Fault(day.is_null(), "cannot read {value} as a date; should be like 2016-05-09", "eventdate"),
            Fault(passed.is_null(), "found {value}, should be milliseconds", "timeframe"),
        ],
    )


def _attributes(source: Path, relations: tuple[str, ...], intake: Intake) -> list[pl.LazyFrame]:
    found: dict[str, pl.LazyFrame] = {}
    if "category" in relations:
        table = intake.table(
            find_file(source, "product-categories.csv"), "itemId", "categoryId", separator=";", rename=SPELLINGS
        )
        values = {"item_id": pl.col("itemId"), "category": pl.col("categoryId")}
        categories = intake.rows(table, values, [empty("itemId")])
        found["category"] = relation(categories, "category", pl.col("category"))
    if {"price", "name_token"} & set(relations):
        table = intake.table(
            find_file(source, "products.csv"),
            "itemId",
            "pricelog2",
            "product.name.tokens",
            separator=";",
            rename=SPELLINGS,
        )
        values = {
            "item_id": pl.col("itemId"),
            "price": "2^" + pl.col("pricelog2"),
            "tokens": pl.col("product.name.tokens"),
        }
        products = intake.rows(table, values, [empty("itemId")])
        found["price"] = relation(products, "price", pl.col("price"))
        found["name_token"] = relation(products, "name_token", pl.col("tokens"), separator=",")
    return [found[name] for name in relations]


DATASET = PublicDataset(
    name=KIND,
    read=read_diginetica,
    title="item views and purchases of a shop, January to June 2016, CIKM Cup 2016",
    owner="Diginetica, on CodaLab",
    page="https://competitions.codalab.org/competitions/11161",
    terms="the competition's terms, accepted with an account",
    files=(
        PublicFile("train-item-views.csv", "sessionId,itemId,timeframe,eventdate", ";"),
        PublicFile("train-purchases.csv", "sessionId,timeframe,eventdate,itemId", ";", needed=False),
        PublicFile("products.csv", "itemId,pricelog2,product.name.tokens", ";"),
        PublicFile("product-categories.csv", "itemId,categoryId", ";"),
    ),
)

"""Reader of YooChoose's shop log as given out for the RecSys Challenge 2015: clicks and buys, without headers."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.intake import Intake, folder_of
from mkmsr.data.readers.knowledge import known_at, moment, relation, values_at
from mkmsr.data.readers.malformed import Fault, empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.parsing import clock, event_row, price_bucket, seconds
from mkmsr.data.readers.public import PublicDataset, PublicFile
from mkmsr.data.readers.table import find_file

__all__ = ["DATASET"]

KIND = "yoochoose"
CLICKS = ("session", "timestamp", "item", "category")
BUYS = ("session", "timestamp", "item", "price", "quantity")
OWN = ("category", "brand")
MORE = ("price",)

TIME = "%Y-%m-%dT%H:%M:%S%.fZ"

CATEGORY, BRAND = r"^(?:[1-9]|1[0-2])$", r"^\d{8,10}$"
"""What stands in a click's category. Source: the data set's readme. "S" is a special offer and "0" is unknown: both say
where the click happened and nothing of the item."""


def read_yoochoose(source: Path, options: ReadOptions) -> InteractionLog:
    """The log in the folder of the unpacked files, each plain or .gz; operations are `click` and `buy`.

    Relations: `category` (1 to 12) and `brand`, from the clicks; on request `price`, from the buys, in buckets from
    each power of two to the next (many buys have a price of 0, which says nothing). The competition's own test file is
    not read.

    Raises:
        DataError: A file is missing, or too many rows are malformed.
        ConfigError: An option or relation is none of this reader's.
    """
    intake = Intake(KIND, options, allowed=("relations", "attributes_at"))
    relations = options.choose_relations(KIND, default=OWN, more=MORE)
    folder_of(source)
    category = pl.col("category").str.strip_chars()
    clicks = _rows(
        find_file(source, "yoochoose-clicks.dat"),
        0,
        intake,
        category=pl.when(category.str.contains(CATEGORY)).then(category),
        brand=pl.when(category.str.contains(BRAND)).then(category),
    )
    price = price_bucket(pl.col("price").cast(pl.Float64, strict=False))
    buys = _rows(find_file(source, "yoochoose-buys.dat"), 1, intake, price=price)
    events = pl.concat([clicks, buys], how="diagonal")
    attributes = []
    if relations:
        time = moment(events, options)
        intake.notes["attributes_at"] = known_at(time)
        for name in relations:
            given = (buys if name == "price" else clicks).select("item_id", "time", value=name)
            attributes.append(relation(values_at(given, time).collect().lazy(), name, pl.col("value")))
    return intake.log(events, attributes)


def _rows(path: Path, number: int, intake: Intake, **knowledge: pl.Expr) -> pl.LazyFrame:
    """Events of one file, with what they tell of their items."""
    names = BUYS if number else CLICKS
    wanted = (*names[:3], "price" if number else "category")
    time = clock("timestamp", TIME)
    return intake.rows(
        intake.table(path, *wanted, names=names),
        {
            "session_id": pl.col("session"),
            "item_id": pl.col("item"),
            "operation": pl.lit("buy" if number else "click"),
            "time": seconds(time),
            "row": event_row(file=number, micros=time),
            **knowledge,
        },
        [
            empty("session"),
            empty("item"),
            Fault(
                time.is_null(), "cannot read {value} as a time; should be like 2014-04-07T10:51:09.277Z", "timestamp"
            ),
        ],
    )


DATASET = PublicDataset(
    name=KIND,
    read=read_yoochoose,
    title="clicks and buys in a shop, April to September 2014, RecSys Challenge 2015",
    owner="YooChoose",
    page="https://2015.recsyschallenge.com/challenge.html",
    terms="CC BY-NC-ND 4.0, as the files' own readme says",
    files=(
        PublicFile("yoochoose-clicks.dat", "session,timestamp,item,category", header=False, rows=33_003_944),
        PublicFile("yoochoose-buys.dat", "session,timestamp,item,price,quantity", header=False, rows=1_150_753),
    ),
)

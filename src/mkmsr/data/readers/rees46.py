"""Reader of the shop logs of REES46's Open CDP project: the multi-category store, the cosmetics shop; a file a month.

Item knowledge stands in the events themselves and changes now and then; the reader takes that of one moment.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.intake import Intake
from mkmsr.data.readers.knowledge import known_at, moment, relation, values_at
from mkmsr.data.readers.malformed import Fault, empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.parsing import clock, event_row, one_of, price_bucket, seconds
from mkmsr.data.readers.public import PublicDataset, PublicFile
from mkmsr.errors import DataError

__all__ = ["DATASET"]

KIND = "rees46"
OPERATIONS = ("view", "cart", "remove_from_cart", "purchase")
OWN = ("brand", "category", "category_code")
MORE = ("price",)

COLUMNS = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
TIMES = ("%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S")


def read_rees46(source: Path, options: ReadOptions) -> InteractionLog:
    """The log in one file, or in all files (.csv, .csv.gz) of a folder; sessions are the log's own.

    Relations: `brand`; `category` (its number); `category_code`, every level of it (`a.b.c` gives `a`, `a.b` and
    `a.b.c`); on request `price`, in buckets from each power of two to the next.

    Raises:
        DataError: A file or column is missing, or too many rows are malformed.
        ConfigError: An option or relation is none of this reader's.
    """
    intake = Intake(KIND, options, allowed=("relations", "attributes_at"))
    relations = options.choose_relations(KIND, default=OWN, more=MORE)
    rows = pl.concat([_rows(path, number, intake, relations) for number, path in enumerate(_files(source))])
    attributes = _attributes(rows, relations, moment(rows, options), intake) if relations else []
    names = {
        "item_id": "product_id",
        "session_id": "user_session",
        "operation": "event_type",
        "time": "event_time",
    }
    return intake.log(rows, attributes, column_names=names)


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    files = sorted(path for path in source.iterdir() if path.name.endswith((".csv", ".csv.gz")))
    if not files:
        raise DataError("holds no .csv file (also .csv.gz)", path=source)
    return files


def _rows(path: Path, number: int, intake: Intake, relations: tuple[str, ...]) -> pl.LazyFrame:
    """Events of one file, with the wanted relations as columns."""
    time = clock("event_time", *TIMES)
    knowledge = {
        "brand": pl.col("brand"),
        "category": pl.col("category_id"),
        "category_code": pl.col("category_code"),
        "price": price_bucket(pl.col("price").cast(pl.Float64, strict=False)),
    }
    needed = ("event_time", "event_type", "product_id", "category_id", "category_code", "brand", "price")
    return intake.rows(
        intake.table(path, *needed, "user_id", "user_session"),
        {
            "session_id": pl.col("user_session"),
            "user_id": pl.col("user_id"),
            "item_id": pl.col("product_id"),
            "operation": pl.col("event_type"),
            "time": seconds(time),
            "row": event_row(file=number),
            **{name: knowledge[name] for name in relations},
        },
        [
            empty("product_id"),
            empty("user_id"),
            empty("user_session"),
            Fault(
                time.is_null(), "cannot read {value} as a time; should be like 2019-10-01 00:00:00 UTC", "event_time"
            ),
            one_of("event_type", OPERATIONS),
        ],
    )


def _attributes(rows: pl.LazyFrame, relations: tuple[str, ...], time: int, intake: Intake) -> list[pl.LazyFrame]:
    intake.notes["attributes_at"] = known_at(time)
    tables = []
    for name in relations:
        known = values_at(rows.select("item_id", "time", value=name), time).collect().lazy()
        if name == "category_code":
            known = known.join(_levels(known), on="value").select("item_id", value="level").sort("item_id", "value")
        tables.append(relation(known, name, pl.col("value")))
    return tables


def _levels(codes: pl.LazyFrame) -> pl.LazyFrame:
    """Each code with every level of it: `value`, `level`."""
    parts = pl.col("value").str.split(".")
    depths = codes.select(pl.col("value").unique()).with_columns(depth=pl.int_ranges(1, parts.list.len() + 1))
    return depths.explode("depth").select("value", level=parts.list.head(pl.col("depth")).list.join("."))


DATASET = PublicDataset(
    name=KIND,
    read=read_rees46,
    title="a multi-category store, October and November 2019; other months and the cosmetics shop have the same form",
    owner="REES46 Open CDP, on Kaggle and on its own pages",
    page="https://www.kaggle.com/datasets/mkechinov/ecommerce-behavior-data-from-multi-category-store",
    terms="free to use with a link to that page and to https://rees46.com",
    files=(
        PublicFile("2019-Oct.csv", COLUMNS, needed=False, bytes=5_668_612_855, rows=42_448_764),
        PublicFile("2019-Nov.csv", COLUMNS, needed=False, bytes=9_006_762_395, rows=67_501_979),
    ),
)

"""Reader of JD's log of micro-behaviours as given out for its 2019 competition: jdata_action, _product and _shop."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.intake import Intake, folder_of
from mkmsr.data.readers.jdata_demo import OPERATIONS
from mkmsr.data.readers.knowledge import relation
from mkmsr.data.readers.malformed import Fault, empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.parsing import clock, event_row, seconds
from mkmsr.data.readers.public import PublicDataset, PublicFile
from mkmsr.data.readers.table import find_file

__all__ = ["DATASET"]

KIND = "jdata"
OWN = ("brand", "shop", "category", "launch_year")
MORE = ("shop_category",)

GAP_SECONDS = 3600
"""Source: the paper, and the smallest gap between two sessions of its Demo sample."""

TIME = "%Y-%m-%d %H:%M:%S"


def read_jdata(source: Path, options: ReadOptions) -> InteractionLog:
    """The log in the folder of the unpacked files, each plain or .gz.

    Times have no zone and are taken as UTC, as the Demo sample's are. The relation `shop_category`, the main category
    of an item's shop, is read from jdata_shop.csv if it is asked for; otherwise that file is not needed.

    Raises:
        DataError: A file or column is missing, or too many rows are malformed.
        ConfigError: An option or relation is none of this reader's.
    """
    intake = Intake(KIND, options, allowed=("relations",))
    relations = options.choose_relations(KIND, default=OWN, more=MORE)
    path = find_file(folder_of(source), "jdata_action.csv")
    time = clock("action_time", TIME)
    operation = pl.col("type").str.strip_chars().replace_strict(OPERATIONS, default=None, return_dtype=pl.String)
    events = intake.rows(
        intake.table(path, "user_id", "sku_id", "action_time", "type"),
        {
            "user_id": pl.col("user_id"),
            "item_id": pl.col("sku_id"),
            "operation": operation,
            "time": seconds(time),
            "row": event_row(),
        },
        [
            empty("user_id"),
            empty("sku_id"),
            Fault(time.is_null(), "cannot read {value} as a time; should be like 2018-02-04 08:28:15", "action_time"),
            Fault(operation.is_null(), "found {value}, should be 1 to 5", "type"),
        ],
    )
    names = {"item_id": "sku_id", "operation": "type", "time": "action_time"}
    return intake.log(events, _attributes(source, relations, intake), gap=GAP_SECONDS, column_names=names)


def _attributes(source: Path, relations: tuple[str, ...], intake: Intake) -> list[pl.LazyFrame]:
    if not relations:
        return []
    table = intake.table(find_file(source, "jdata_product.csv"), "sku_id", "brand", "shop_id", "cate", "market_time")
    values = {
        "item_id": pl.col("sku_id"),
        "brand": pl.col("brand"),
        "shop": pl.col("shop_id"),
        "category": pl.col("cate"),
        "launch_year": pl.col("market_time").str.extract(r"^\s*(\d{4})-"),
    }
    products = intake.rows(table, values, [empty("sku_id")])
    if "shop_category" in relations:
        shops = intake.rows(
            intake.table(find_file(source, "jdata_shop.csv"), "shop_id", "cate"),
            {"shop": pl.col("shop_id"), "shop_category": pl.col("cate")},
            [empty("shop_id")],
        )
        products = products.join(shops.unique("shop", keep="first", maintain_order=True), on="shop", how="left")
    return [relation(products, name, pl.col(name)) for name in relations]


DATASET = PublicDataset(
    name=KIND,
    read=read_jdata,
    title="micro-behaviours in JD's shop, February to April 2018 (the paper's JDATA)",
    owner="JD",
    page="https://jdata.jd.com/html/detail.html?id=8",
    terms="the competition's terms, accepted with an account: for research, not for redistribution",
    files=(
        PublicFile("jdata_action.csv", "user_id,sku_id,action_time,module_id,type", rows=37_214_269),
        PublicFile("jdata_product.csv", "sku_id,brand,shop_id,cate,market_time"),
        PublicFile("jdata_shop.csv", "vender_id,shop_id,fans_num,vip_num,shop_reg_tm,cate,shop_score", needed=False),
    ),
)

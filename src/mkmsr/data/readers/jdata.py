"""JD's log of micro-behaviours: as given out for its competition of 2019, and the Demo sample of the authors."""

from __future__ import annotations

import polars as pl

from mkmsr.data.readers.malformed import ROW
from mkmsr.data.readers.public import (
    Intake,
    PublicDataset,
    PublicFile,
    Value,
    clock,
    coded,
    counted,
    needed,
    relation,
    text,
)
from mkmsr.errors import DataError

OPERATIONS = {"1": "click", "2": "order", "3": "follow", "4": "comment", "5": "cart"}
"""Names of the operation types. The Demo sample holds only the first four."""


def _events(intake: Intake) -> pl.LazyFrame:
    """Times have no zone and are taken as UTC, as the Demo sample's are."""
    values = {
        "user_id": needed("user_id"),
        "item_id": needed("sku_id"),
        "time": clock("action_time", "%Y-%m-%d %H:%M:%S", like="2018-02-04 08:28:15"),
        "operation": coded("type", OPERATIONS),
    }
    return intake.events("jdata_action.csv", values)


def _attributes(intake: Intake, events: pl.LazyFrame) -> list[pl.LazyFrame]:
    """The main category of an item's shop needs jdata_shop.csv; without that relation the file may be missing."""
    values = {
        "item_id": needed("sku_id"),
        "brand": text("brand"),
        "shop": text("shop_id"),
        "category": text("cate"),
        "launch_year": Value(pl.col("market_time").str.extract(r"^\s*(\d{4})-")),
    }
    products = intake.rows("jdata_product.csv", values)
    if "shop_category" in intake.relations:
        shops = intake.rows("jdata_shop.csv", {"shop": needed("shop_id"), "shop_category": text("cate")})
        products = products.join(shops.unique("shop", keep="first", maintain_order=True), on="shop", how="left")
    return [relation(products, name) for name in intake.relations]


DATASET = PublicDataset(
    name="jdata",
    title="micro-behaviours in JD's shop, February to April 2018 (the paper's JDATA)",
    owner="JD",
    page="https://jdata.jd.com/html/detail.html?id=8",
    terms="the competition's terms, accepted with an account: for research, not for redistribution",
    files=(
        PublicFile("jdata_action.csv", "user_id,sku_id,action_time,module_id,type", rows=37_214_269),
        PublicFile("jdata_product.csv", "sku_id,brand,shop_id,cate,market_time"),
        PublicFile("jdata_shop.csv", "vender_id,shop_id,fans_num,vip_num,shop_reg_tm,cate,shop_score", needed=False),
    ),
    events=_events,
    attributes=_attributes,
    relations=("brand", "shop", "category", "launch_year"),
    more_relations=("shop_category",),
    gap=3600,  # the paper's, and the smallest gap between two sessions of its Demo sample
)


def _demo_events(intake: Intake) -> pl.LazyFrame:
    """Every test event; preparing with `new_items="drop"` gives the smaller set."""
    parts = []
    for number, (file, split) in enumerate((("train.csv", "train"), ("test_new_item.csv", "test"))):
        values = {
            "session_id": needed("sessionId"),
            "user_id": needed("user_id"),
            "item_id": needed("sku_id"),
            "time": counted("index", "unix seconds"),
            "operation": coded("type", OPERATIONS),
            "split": Value(pl.lit(split)),
        }
        parts.append(intake.events(file, values, number=number))
    return pl.concat(parts)


def _demo_attributes(intake: Intake, events: pl.LazyFrame) -> list[pl.LazyFrame]:
    """All knowledge, from the authors' numbers of entities and relations."""
    tables = {}
    for name, columns, other in (
        ("entity2id", ("entity", "id"), ()),
        ("kg2id", ("head", "tail", "relation"), ()),
        ("relation2id", ("relation", "id"), ("relation_operation2id",)),
    ):
        places = [f"{folder}{each}" for folder in ("with_new_item/", "") for each in (name, *other)]
        values = {each: text(each) for each in columns}
        tables[name] = intake.rows(places, {**values, "row": Value(pl.col(ROW))}).collect()
    entity, triple, relations = tables.values()
    named = triple.select(
        "row",
        item_id=_named(triple, "head", entity["id"], entity["entity"]),
        relation=_named(triple, "relation", relations["id"], relations["relation"]),
        value=_named(triple, "tail", entity["id"], entity["entity"]),
    )
    order = relations.select("relation", place="row")
    return [named.join(order, on="relation").sort("place", "row").select("item_id", "relation", "value").lazy()]


def _named(triple: pl.DataFrame, column: str, numbers: pl.Series, names: pl.Series) -> pl.Series:
    found = triple[column].replace_strict(numbers, names, default=None, return_dtype=pl.String)
    if found.null_count():
        place = int(found.is_null().arg_max() or 0)
        raise DataError(
            f"number {triple[column][place]!r} has no name", path="kg2id", row=triple["row"][place] + 2, column=column
        )
    return found


_DEMO_EVENTS = "action_time,user_id,sku_id,type,sessionId,index"

DEMO = PublicDataset(
    name="jdata-demo",
    title="the paper's Demo sample of JDATA, cut into sessions (29,445 events)",
    owner="the authors of MKM-SR",
    page="https://github.com/ciecus/MKM-SR",
    terms="none stated in the repository: for research, not for redistribution",
    files=(
        PublicFile(
            "train.csv",
            _DEMO_EVENTS,
            bytes=1_491_596,
            sha256="5219c3e3f9f05a7e680ea3fbe29c42e33580ed361de828054f7ed7ec145e3413",
        ),
        PublicFile(
            "test_new_item.csv",
            _DEMO_EVENTS,
            bytes=175_981,
            sha256="a929df93c7b13ff52304819a37f05db7ecf3982ac19a7bf48d484cf3b68e90c3",
        ),
        PublicFile(
            "with_new_item/entity2id",
            "entity,id,type",
            "\t",
            bytes=295_262,
            sha256="303ea8c6779912aa3a8c3c148603cb12e9042841cbb9a0e7857e8c45291891eb",
        ),
        PublicFile(
            "with_new_item/kg2id",
            "head,tail,relation",
            "\t",
            bytes=681_971,
            sha256="581c3b8b763531b1b6ce3b3f6b1244f843dc71bc4176c40598e287acdf622c5c",
        ),
        PublicFile(
            "with_new_item/relation2id",
            "relation,id",
            "\t",
            bytes=62,
            sha256="4b82f8e199a132d0d01d6a61dd41dcf69d67863257f0162ea5b7c1f381888e77",
        ),
    ),
    events=_demo_events,
    attributes=_demo_attributes,
    address="https://raw.githubusercontent.com/ciecus/MKM-SR/84f7fae1f811dc068c3f9eb7a2857fce2e5ad3a0/data/demo/",
)

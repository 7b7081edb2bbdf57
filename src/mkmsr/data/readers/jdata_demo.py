"""Reader of the paper's Demo sample of JDATA, as its authors publish it: cut into sessions, split, knowledge as ids.

A folder holds `train.csv`, `test.csv`, `test_new_item.csv`, and the folders `no_new_item` and `with_new_item` with
`entity2id`, `kg2id` and `relation2id` (in one variant only `relation_operation2id`). Any of them may be gzipped.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.intake import Intake
from mkmsr.data.readers.malformed import ROW, Fault, empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.public import PublicDataset, PublicFile
from mkmsr.data.readers.table import find_file
from mkmsr.errors import DataError

__all__ = ["DATASET", "OPERATIONS"]

OPERATIONS = {"1": "click", "2": "order", "3": "follow", "4": "comment", "5": "cart"}
"""Names of JDATA's operation types. The Demo sample holds only the first four."""

VARIANT = "with_new_item"


def read_jdata_demo(source: Path, options: ReadOptions) -> InteractionLog:
    """The Demo log with every test event and all knowledge; preparing with `new_items="drop"` gives the smaller set.

    Raises:
        DataError: A file or column is missing, or too many values are not as the authors' files have them.
    """
    intake = Intake("jdata-demo", options)
    train, test = find_file(source, "train.csv"), find_file(source, "test_new_item.csv")
    parts = [_events(train, "train", intake), _events(test, "test", intake)]
    events = pl.concat(parts).with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    names = {"item_id": "sku_id", "session_id": "sessionId", "operation": "type", "time": "index"}
    return intake.log(events, [_attributes(source, intake)], column_names=names)


def _events(path: Path, split: str, intake: Intake) -> pl.LazyFrame:
    time = pl.col("index").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    operation = pl.col("type").replace_strict(OPERATIONS, default=None, return_dtype=pl.String)
    return intake.rows(
        intake.table(path, "user_id", "sku_id", "type", "sessionId", "index"),
        {
            "session_id": pl.col("sessionId"),
            "user_id": pl.col("user_id"),
            "item_id": pl.col("sku_id"),
            "operation": operation,
            "time": time,
            "split": pl.lit(split),
        },
        [
            *map(empty, ("sessionId", "user_id", "sku_id")),
            Fault(time.is_null(), "found {value}, should be unix seconds", "index"),
            Fault(operation.is_null(), "found {value}, should be 1 to 5", "type"),
        ],
    )


def _attributes(source: Path, intake: Intake) -> pl.LazyFrame:
    """`item_id`, `relation`, `value` from the authors' numbers of entities and relations."""
    paths = {
        "entity": find_file(source, f"{VARIANT}/entity2id", "entity2id"),
        "triple": find_file(source, f"{VARIANT}/kg2id", "kg2id"),
        "relation": find_file(
            source, f"{VARIANT}/relation2id", f"{VARIANT}/relation_operation2id", "relation2id", "relation_operation2id"
        ),
    }
    columns = {"entity": ("entity", "id"), "triple": ("head", "tail", "relation"), "relation": ("relation", "id")}
    entity, triple, relation = (
        intake.rows(
            intake.table(paths[name], *columns[name], separator="\t"),
            {**{each: pl.col(each) for each in columns[name]}, "row": pl.col(ROW)},
            [],
        ).collect()
        for name in columns
    )
    named = triple.select(
        item_id=_named(triple, "head", entity["id"], entity["entity"], paths["triple"]),
        relation=_named(triple, "relation", relation["id"], relation["relation"], paths["triple"]),
        value=_named(triple, "tail", entity["id"], entity["entity"], paths["triple"]),
        row="row",
    )
    order = relation.select("relation", place="row")
    return named.join(order, on="relation").sort("place", "row").select("item_id", "relation", "value").lazy()


def _named(triple: pl.DataFrame, column: str, numbers: pl.Series, names: pl.Series, path: Path) -> pl.Series:
    found = triple[column].replace_strict(numbers, names, default=None, return_dtype=pl.String)
    if found.null_count():
        place = int(found.is_null().arg_max() or 0)
        raise DataError(
            f"number {triple[column][place]!r} has no name", path=path, row=triple["row"][place] + 2, column=column
        )
    return found


DATASET = PublicDataset(
    name="jdata-demo",
    read=read_jdata_demo,
    title="the paper's Demo sample of JDATA, cut into sessions (29,445 events)",
    owner="the authors of MKM-SR",
    page="https://github.com/ciecus/MKM-SR",
    terms="none stated in the repository: for research, not for redistribution",
    files=(
        PublicFile(
            "train.csv",
            "action_time,user_id,sku_id,type,sessionId,index",
            bytes=1_491_596,
            sha256="5219c3e3f9f05a7e680ea3fbe29c42e33580ed361de828054f7ed7ec145e3413",
        ),
        PublicFile(
            "test_new_item.csv",
            "action_time,user_id,sku_id,type,sessionId,index",
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
    address="https://raw.githubusercontent.com/ciecus/MKM-SR/84f7fae1f811dc068c3f9eb7a2857fce2e5ad3a0/data/demo/",
)

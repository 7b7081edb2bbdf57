"""Reader of RetailRocket's shop log: events, item_properties_part1 and _part2, category_tree.

Properties were recorded every week, so an item has several values of one; the reader takes those of one moment.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.intake import Intake, folder_of
from mkmsr.data.readers.knowledge import known_at, moment, relation, values_at
from mkmsr.data.readers.malformed import Fault, empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.parsing import event_row, one_of, seconds, whole_number
from mkmsr.data.readers.public import PublicDataset, PublicFile
from mkmsr.data.readers.table import find_file

__all__ = ["DATASET"]

KIND = "retailrocket"
OPERATIONS = ("view", "addtocart", "transaction")
OWN = ("category", "parent_category")
MORE = ("available",)
PROPERTIES = {"category": "categoryid", "parent_category": "categoryid"}
"""Properties of a relation by its own name; all others have hidden names, numbers, and are called by them."""

GAP_SECONDS = 1800
"""Half an hour, as is usual for this data set."""

BAD_TIME = "found {value}, should be unix milliseconds"


def read_retailrocket(source: Path, options: ReadOptions) -> InteractionLog:
    """The log in the folder of the unpacked files, each plain or .gz.

    Relations are `category`, its parent in the tree, and on request `available` and properties by their number.

    Raises:
        DataError: A file or column is missing, or too many rows are malformed.
        ConfigError: An option or relation is none of this reader's.
    """
    intake = Intake(KIND, options, allowed=("relations", "attributes_at"))
    numbers = tuple(name for name in options.relations or () if name.isdigit())
    relations = options.choose_relations(KIND, default=OWN, more=(*MORE, *numbers))
    path = find_file(folder_of(source), "events.csv")
    millis = whole_number("timestamp")
    events = intake.rows(
        intake.table(path, "timestamp", "visitorid", "event", "itemid"),
        {
            "user_id": pl.col("visitorid"),
            "item_id": pl.col("itemid"),
            "operation": pl.col("event"),
            "time": seconds(millis * 1000),
            "row": event_row(micros=millis * 1000),
        },
        [
            empty("visitorid"),
            empty("itemid"),
            Fault(millis.is_null(), BAD_TIME, "timestamp"),
            one_of("event", OPERATIONS),
        ],
    )
    attributes = _attributes(source, relations, moment(events, options), intake) if relations else []
    names = {"user_id": "visitorid", "item_id": "itemid", "operation": "event", "time": "timestamp"}
    return intake.log(events, attributes, gap=GAP_SECONDS, column_names=names)


def _attributes(source: Path, relations: tuple[str, ...], time: int, intake: Intake) -> list[pl.LazyFrame]:
    intake.notes["attributes_at"] = known_at(time)
    wanted = {PROPERTIES.get(name, name) for name in relations}
    parts = [_properties(find_file(source, f"item_properties_part{part}.csv"), wanted, intake) for part in (1, 2)]
    properties = pl.concat(parts)
    known = {
        name: values_at(properties.filter(pl.col("property") == name), time).collect().lazy() for name in sorted(wanted)
    }
    if "parent_category" in relations:
        parents = _parents(find_file(source, "category_tree.csv"), intake)
        known["parent_category"] = (
            known["categoryid"].join(parents, left_on="value", right_on="child").select("item_id", value="parent")
        ).sort("item_id")
    tables = {name: known.get(name, known[PROPERTIES.get(name, name)]) for name in relations}
    return [relation(tables[name], name, pl.col("value")) for name in relations]


def _properties(path: Path, wanted: set[str], intake: Intake) -> pl.LazyFrame:
    """`item_id`, `property`, `value`, `time` of the wanted properties."""
    millis = whole_number("timestamp")
    return intake.rows(
        intake.table(path, "timestamp", "itemid", "property", "value"),
        {
            "item_id": pl.col("itemid"),
            "property": pl.col("property"),
            "value": pl.col("value"),
            "time": seconds(millis * 1000),
        },
        [empty("itemid"), Fault(millis.is_null(), BAD_TIME, "timestamp")],
        only=pl.col("property").is_in(sorted(wanted)),
    )


def _parents(path: Path, intake: Intake) -> pl.LazyFrame:
    """`child` and `parent` of the category tree; roots have no parent and are left out."""
    tree = intake.rows(
        intake.table(path, "categoryid", "parentid"),
        {"child": pl.col("categoryid"), "parent": pl.col("parentid")},
        [empty("categoryid")],
    )
    return tree.filter(pl.col("parent").is_not_null()).unique("child", keep="first", maintain_order=True)


DATASET = PublicDataset(
    name=KIND,
    read=read_retailrocket,
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
)

"""Reader of trivago's hotel search log as given out for the RecSys Challenge 2019: train and item_metadata.

An action's `reference` is an item only where the action is about one; searches for places, filters and sort orders have
words there. The impressions of a click-out are the hotels on screen and not events, so they are not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.intake import Intake, folder_of
from mkmsr.data.readers.knowledge import relation
from mkmsr.data.readers.malformed import Fault, empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.parsing import event_row, one_of, whole_number
from mkmsr.data.readers.public import PublicDataset, PublicFile
from mkmsr.data.readers.table import find_file

__all__ = ["DATASET"]

KIND = "trivago"
ABOUT_ITEMS = (
    "clickout item",
    "interaction item image",
    "interaction item info",
    "interaction item rating",
    "interaction item deals",
    "search for item",
)
OTHERS = ("search for destination", "search for poi", "filter selection", "change of sort order")
OWN = ("property",)

ITEM = r"^\d+$"
"""A hotel is a number; "unknown" and nothing occur too."""


def read_trivago(source: Path, options: ReadOptions) -> InteractionLog:
    """The log in the folder of the unpacked files, each plain or .gz.

    The competition's test.csv is not read: the items to be predicted are blanked out in it.

    Raises:
        DataError: A file or column is missing, or too many rows are malformed.
        ConfigError: An option or relation is none of this reader's.
    """
    intake = Intake(KIND, options, allowed=("relations",))
    relations = options.choose_relations(KIND, default=OWN)
    path = find_file(folder_of(source), "train.csv")
    time = whole_number("timestamp")
    actions = (*ABOUT_ITEMS, *OTHERS)
    is_item = pl.col("action_type").is_in(ABOUT_ITEMS) & pl.col("reference").str.contains(ITEM)
    rows = intake.rows(
        intake.table(path, "user_id", "session_id", "timestamp", "action_type", "reference"),
        {
            "session_id": pl.col("session_id"),
            "user_id": pl.col("user_id"),
            "item_id": pl.when(is_item).then(pl.col("reference")),
            "operation": pl.col("action_type"),
            "time": time,
            "row": event_row(),
        },
        [
            empty("user_id"),
            empty("session_id"),
            Fault(time.is_null(), "found {value}, should be unix seconds", "timestamp"),
            one_of("action_type", actions),
        ],
    )
    intake.notes["rows_without_item"] = _without_item(rows)
    events = rows.filter(pl.col("item_id").is_not_null())
    names = {"item_id": "reference", "operation": "action_type", "time": "timestamp"}
    return intake.log(events, _attributes(source, intake) if relations else [], column_names=names)


def _without_item(rows: pl.LazyFrame) -> dict[str, Any]:
    """How many rows of each action name no item."""
    counts = rows.filter(pl.col("item_id").is_null()).group_by("operation").agg(rows=pl.len()).sort("operation")
    return dict(counts.collect().iter_rows())


def _attributes(source: Path, intake: Intake) -> list[pl.LazyFrame]:
    table = intake.table(find_file(source, "item_metadata.csv"), "item_id", "properties")
    values = {"item_id": pl.col("item_id"), "property": pl.col("properties")}
    items = intake.rows(table, values, [empty("item_id")])
    return [relation(items, "property", pl.col("property"), separator="|")]


DATASET = PublicDataset(
    name=KIND,
    read=read_trivago,
    title="hotel searches, RecSys Challenge 2019",
    owner="trivago",
    page="https://recsys.trivago.cloud/challenge/dataset/",
    terms="the challenge's terms, accepted with an account",
    files=(
        PublicFile(
            "train.csv",
            "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,"
            "impressions,prices",
            rows=15_932_992,
        ),
        PublicFile("item_metadata.csv", "item_id,properties", rows=927_142),
    ),
)

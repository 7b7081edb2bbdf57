"""trivago's hotel search log as given out for the RecSys Challenge 2019: train and item_metadata.

An action's `reference` is an item only where the action is about one; searches for places, filters and sort orders have
words there. The impressions of a click-out are the hotels on screen and not events, so they are not read; nor is the
competition's test.csv, where the items to be predicted are blanked out.
"""

from __future__ import annotations

import polars as pl

from mkmsr.data.readers.public import Intake, PublicDataset, PublicFile, Value, counted, needed, one_of, relation, text

ABOUT_ITEMS = (
    "clickout item",
    "interaction item image",
    "interaction item info",
    "interaction item rating",
    "interaction item deals",
    "search for item",
)
OTHERS = ("search for destination", "search for poi", "filter selection", "change of sort order")

ITEM = r"^\d+$"
"""A hotel is a number; "unknown" and nothing occur too."""


def _events(intake: Intake) -> pl.LazyFrame:
    is_item = pl.col("action_type").is_in(ABOUT_ITEMS) & pl.col("reference").str.contains(ITEM)
    values = {
        "user_id": needed("user_id"),
        "session_id": needed("session_id"),
        "item_id": Value(pl.when(is_item).then(pl.col("reference"))),
        "time": counted("timestamp", "unix seconds"),
        "operation": one_of("action_type", (*ABOUT_ITEMS, *OTHERS)),
    }
    rows = intake.events("train.csv", values)
    without = rows.filter(pl.col("item_id").is_null()).group_by("operation").agg(rows=pl.len()).sort("operation")
    intake.notes["rows_without_item"] = dict(without.collect().iter_rows())
    return rows.filter(pl.col("item_id").is_not_null())


def _attributes(intake: Intake, events: pl.LazyFrame) -> list[pl.LazyFrame]:
    items = intake.rows("item_metadata.csv", {"item_id": needed("item_id"), "property": text("properties")})
    return [relation(items, "property", separator="|")]


DATASET = PublicDataset(
    name="trivago",
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
    events=_events,
    attributes=_attributes,
    relations=("property",),
)

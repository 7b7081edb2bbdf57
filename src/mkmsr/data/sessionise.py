"""Sessions from raw events: number the ids, drop doubles, cut by gap, filter rare items and short sessions.

Every step is a query description in Narwhals, over Polars here and over other engines as it stands. Orders are total
(time, then row) and numbers are int64, so that the result does not depend on the engine.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import narwhals as nw

__all__ = ["Query", "cut_sessions", "drop_duplicates", "filter_events", "number_items", "persist"]

Query: TypeAlias = "nw.LazyFrame[Any]"


def persist(query: Query) -> Query:
    """The same rows, computed now: a lazy frame has no cache, so steps that are read twice go through here."""
    return query.collect(backend="polars").lazy()


def number_items(events: Query) -> Query:
    """Adds `item`, a number that stands for the item id: the row of its first event, so distinct and stable."""
    return events.with_columns(item=nw.col("row").min().over("item_id"))


def drop_duplicates(events: Query, *, owner: str) -> Query:
    """Only the first of events that agree in owner (a session or user), item, operation and time."""
    first = nw.col("row").min().over(owner, "item", "operation", "time")
    return events.filter(nw.col("row") == first)


def cut_sessions(events: Query, *, gap: int) -> Query:
    """Adds `session`, the row of the session's first event.

    With a column `session_id` that decides. Without, a user's events (by time, then row) are cut where two neighbours
    are more than `gap` seconds apart (rows apart, in a log without times).
    """
    if "session_id" in events.collect_schema().names():
        return events.with_columns(session=nw.col("row").min().over("session_id"))
    users = events.with_columns(user=nw.col("row").min().over("user_id"))
    previous = nw.col("time").shift(1).over("user", order_by=["time", "row"])
    opens = (nw.col("time") - previous > gap).cast(nw.Int64).fill_null(1)
    cut = users.with_columns(opens=opens).with_columns(
        number=nw.col("opens").cum_sum().over("user", order_by=["time", "row"])
    )
    return cut.with_columns(session=nw.col("row").min().over("user", "number")).drop("user", "number", "opens")


def filter_events(events: Query, *, min_session_events: int, min_item_events: int) -> tuple[Query, int]:
    """Only items and sessions with enough events, repeated until nothing changes; also the number of rounds.

    Dropping an item shortens sessions and dropping a session thins items, so one pass of each is not enough.
    """
    rounds, before = 0, -1
    while True:
        after = _count(events)
        if after in {before, 0}:
            return events, rounds
        before = after
        if min_item_events > 1:
            events = events.filter(nw.len().over("item") >= min_item_events)
        if min_session_events > 1:
            events = events.filter(nw.len().over("session") >= min_session_events)
        events = persist(events)
        rounds += 1
        if min_item_events == 1 or min_session_events == 1:
            return events, rounds  # one filter alone leaves nothing for itself to do again


def _count(query: Query) -> int:
    return int(query.select(nw.len()).collect(backend="polars").item())

"""Sessions from raw events: number the ids, drop doubles, cut by gap, filter rare items and short sessions.

Every step is a query description in Narwhals, which any of the engines runs. Orders are total (time, then row) and
numbers are int64, so that the result does not depend on the engine.
"""

from __future__ import annotations

import narwhals as nw

from mkmsr.data.engines import Engine, Query

__all__ = ["cut_sessions", "drop_duplicates", "drop_long_sessions", "filter_events", "number_ids"]


def number_ids(log: Query, engine: Engine, *, visitors: bool = False) -> Query:
    """Events as whole numbers: `item`, `action`, `owner`, `time`, `row`; `split`, if the log has one; and `visitor`.

    A number stands for an id and is the row where the id first occurs, so it is distinct and stable. The owner is the
    session, or in a log without sessions the user. The visitor is the user, if `visitors` asks for it.
    """
    names = log.collect_schema().names()
    external = {"item": "item_id", "action": "operation", "owner": "session_id" if "session_id" in names else "user_id"}
    if visitors:
        external["visitor"] = "user_id"
        if "session_id" in names:  # sessions of nobody have nobody in common
            nobody = nw.concat_str([nw.lit("\x00"), nw.col("session_id")])
            user = nw.when(nw.col("user_id").is_null()).then(nobody).otherwise(nw.col("user_id"))
            log = log.with_columns(user_id=user)
    events = log if "time" in names else log.with_columns(time=nw.col("row"))
    for number, name in external.items():
        events = engine.with_least(events, "row", of=[name], name=number, source=log)
    return engine.persist(events.select(*external, "time", "row", *(["split"] if "split" in names else [])))


def drop_duplicates(events: Query, engine: Engine) -> Query:
    """Only the first of events that agree in owner, item, operation and time."""
    keys = ["owner", "item", "action", "time"]
    marked = engine.with_least(events, "row", of=keys, name="first", source=events)
    return engine.persist(marked.filter(nw.col("row") == nw.col("first")).drop("first"), instead_of=events)


def cut_sessions(events: Query, engine: Engine, *, gap: int | None) -> Query:
    """Add `session`, the row of the session's first event, in place of `owner`; without a gap owners are sessions.

    An owner's events (by time, then row) are cut where two neighbours are more than `gap` seconds apart (rows, in a log
    without times).
    """
    if gap is None:
        return events.rename({"owner": "session"})
    return engine.cut(events, gap=gap)


def drop_long_sessions(events: Query, engine: Engine, *, longest: int) -> tuple[Query, int]:
    """Return only sessions of at most so many events, and the number of the others: few people click so often."""
    counted = events.group_by("session").agg(rows=nw.len())
    dropped = engine.count(counted.filter(nw.col("rows") > longest))
    if dropped:
        events = engine.persist(engine.frequent(events, of="session", most=longest), instead_of=events)
    return events, dropped


def filter_events(events: Query, engine: Engine, *, min_session_events: int, min_item_events: int) -> tuple[Query, int]:
    """Only items and sessions with enough events, repeated until nothing changes; also the number of rounds.

    Dropping an item shortens sessions and dropping a session thins items, so one pass of each is not enough.
    """
    rounds, before = 0, -1
    while True:
        after = engine.count(events)
        if after in {before, 0}:
            return events, rounds
        before = after
        for column, least in (("item", min_item_events), ("session", min_session_events)):
            if least > 1:
                events = engine.persist(engine.frequent(events, of=column, least=least), instead_of=events)
        rounds += 1
        if min_item_events == 1 or min_session_events == 1:
            return events, rounds  # one filter alone leaves nothing for itself to do again

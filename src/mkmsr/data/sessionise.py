"""Sessions from raw events: number the ids, drop doubles, cut by gap, filter, split into train, validation and test.

Every step is a query description in Narwhals, which any of the engines runs. Orders are total (time, then row) and
numbers are int64, so that the result does not depend on the engine.
"""

from __future__ import annotations

import narwhals as nw

from mkmsr.data.engines import Engine, Query
from mkmsr.data.log import SPLITS
from mkmsr.errors import DataError

TRAIN, VALIDATION, TEST = range(3)


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


def order_sessions(
    events: Query, engine: Engine, *, test_share: float, validation_share: float, path: str | None = None
) -> Query:
    """One row a session: `session`, `rank` (0 train, 1 validation, 2 test) and `place`, its index over all splits.

    Sessions are ordered by the time of their last event. The newest ones that hold `test_share` of the events are test,
    and of the others the newest ones that hold `validation_share` of the others' events are validation; a session that
    straddles a boundary belongs to the newer side. A column `split` is kept instead where the log brings one, and only
    validation is cut from its training sessions if it has none of its own. A divided session, or none to train on, is a
    DataError.
    """
    sessions = _sessions(events, engine, path)
    if "split" not in events.collect_schema().names():
        sessions = _move_newest(sessions, engine, test_share, to=TEST)
    if _events(sessions, engine, VALIDATION) == 0:
        sessions = _move_newest(sessions, engine, validation_share, to=VALIDATION)
    if _events(sessions, engine, TRAIN) == 0:
        raise DataError(
            "the split leaves no training session; give more data or smaller test and validation shares", path=path
        )
    return engine.persist(
        sessions.with_row_index("place", order_by=["rank", "end", "session"]).select("session", "rank", "place")
    )


def drop_new_items(events: Query, engine: Engine, *, min_session_events: int) -> Query:
    """Without the test events of items that neither train nor validation knows, and test sessions thus too short.

    The other sessions lose nothing, and were long enough before.
    """
    marked = engine.with_least(events, "rank", of=["item"], name="first_rank", source=events)
    known = engine.persist(marked.filter(nw.col("first_rank") < TEST).drop("first_rank"), instead_of=events)
    if min_session_events == 1:
        return known
    return engine.persist(engine.frequent(known, of="session", least=min_session_events), instead_of=known)


def _sessions(events: Query, engine: Engine, path: str | None) -> Query:
    """`session`, `end` (time of the last event), `events` and `rank` (all 0 in a log without a split)."""
    ends = {"end": nw.col("time").max(), "events": nw.len().cast(nw.Int64)}
    if "split" not in events.collect_schema().names():
        sessions = events.group_by("session").agg(**ends)
        return engine.persist(sessions.with_columns(rank=nw.lit(TRAIN, nw.Int64)))
    rank = nw.when(nw.col("split") == SPLITS[TEST]).then(TEST).otherwise(TRAIN)
    rank = nw.when(nw.col("split") == SPLITS[VALIDATION]).then(VALIDATION).otherwise(rank).cast(nw.Int64)
    ranked = events.with_columns(rank=rank).group_by("session")
    sessions = engine.persist(ranked.agg(**ends, rank=nw.col("rank").min(), last=nw.col("rank").max()))
    divided = engine.fetch(sessions.filter(nw.col("rank") != nw.col("last")).sort("session").head(1))
    if divided.height:
        row = int(divided["session"][0]) + 2
        raise DataError("this session has events in more than one split", path=path, row=row)
    return sessions.drop("last")


def _move_newest(sessions: Query, engine: Engine, share: float, *, to: int) -> Query:
    """Gives the rank `to` to the newest training sessions that hold a share of their events."""
    total = _events(sessions, engine, TRAIN)
    if share == 0 or total == 0:
        return sessions
    older = total - max(1, round(total * share))
    counted = nw.when(nw.col("rank") == TRAIN).then(nw.col("events")).otherwise(0)
    running = sessions.with_columns(counted=counted).with_columns(
        running=nw.col("counted").cum_sum().over(order_by=["end", "session"])
    )
    moved = (nw.col("rank") == TRAIN) & (nw.col("running") > older)
    rank = nw.when(moved).then(nw.lit(to, nw.Int64)).otherwise(nw.col("rank"))
    return engine.persist(running.with_columns(rank=rank).drop("counted", "running"))


def _events(sessions: Query, engine: Engine, rank: int) -> int:
    total = engine.fetch(sessions.filter(nw.col("rank") == rank).select(nw.col("events").sum())).item()
    return int(total or 0)

"""From an interaction log to a prepared dataset: sessions, filters, temporal split, indexes, knowledge triples."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from mkmsr.config import StrictModel
from mkmsr.data.buckets import bucketed
from mkmsr.data.dataset import NewItems, PreparedDataset, SplitName
from mkmsr.data.encode import column_of, encode_knowledge, encode_sessions, index_ids
from mkmsr.data.engines import Engine, PolarsEngine, Query
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.log import SPLITS, InteractionLog
from mkmsr.data.sessionise import (
    drop_duplicates,
    drop_long_sessions,
    drop_new_items,
    filter_events,
    number_ids,
    order_sessions,
)
from mkmsr.data.sessions import MAX_SESSION_EVENTS
from mkmsr.data.storage import Display, display_of
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

GAP_SECONDS = 3600
MUCH_OF_A_SPLIT = 0.1
"""Share of a split's events that one session should not hold."""


class PrepareOptions(StrictModel):
    """How a log becomes a prepared dataset."""

    gap_seconds: int | None = Field(default=None, ge=1)
    """Without a session column, a user's pause longer than this starts a new session (rows, in a log without times).
    None: what the log's reader says, or else 3600. Source: JDATA's one hour."""
    min_session_events: int | None = Field(default=None, ge=1)
    """Shorter sessions are dropped. None: 2, or 1 for a log that comes already split, whose sessions are kept."""
    min_item_events: int = Field(default=1, ge=1)
    """Items with fewer events are dropped. The paper uses 3 on the full logs."""
    longest_session: int | None = Field(default=None, ge=2)
    """Sessions of more events are dropped, such as those of robots; None keeps all."""
    drop_duplicates: bool = False
    """Keep one of events that agree in user or session, item, operation and time."""
    test_share: float = Field(default=0.1, ge=0, lt=1)
    """The newest sessions that hold this share of all events are test. Not used where the log comes already split."""
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """The newest sessions that hold this share of the events before the test are validation."""
    new_items: NewItems = "drop"
    """Test events of items that occur in no earlier session: dropped, or kept (the paper's data sets marked (N))."""
    catalogue: Literal["log", "attributes"] = "log"
    """Candidates: the items of the log, or also those that only the attribute table knows."""
    visitors: bool = False
    """Whether each session remembers what its visitor touched in earlier ones (`EarlierItems`). Needs users."""
    max_session_events: int = Field(default=MAX_SESSION_EVENTS, ge=2)
    """Examples use the last so many events of a session."""
    buckets: dict[str, Annotated[int, Field(ge=2)]] = Field(default_factory=dict)
    """Numeric relations whose values become so many buckets of about equal size, such as {"price": 20}; the bounds are
    quantiles over the items of the training part."""


def prepare(
    log: InteractionLog,
    options: PrepareOptions | None = None,
    *,
    name: str | None = None,
    engine: Engine | None = None,
) -> PreparedDataset:
    """Prepare a log: vocabularies, sessions in three splits, and knowledge triples.

    Args:
        log: What a reader returned.
        options: None is the defaults.
        name: None takes the log's.
        engine: From `open_engine`; None is Polars. The result is the same on all of them.

    Raises:
        DataError: Nothing is left after the filters, no training session is left, a split divides a session, or has
            nothing to rank although its share is not 0.
        ConfigError: An option asks for what the log does not have.
    """
    options = options or PrepareOptions()
    least = options.min_session_events or (1 if log.has_split else 2)
    engine = engine or PolarsEngine()
    raw = engine.table(log.events, files=log.files)
    events, counts = _sessions(raw, log, options, least, engine)
    order = order_sessions(
        events, engine, test_share=options.test_share, validation_share=options.validation_share, path=log.path
    )
    events = engine.persist(events.join(order, on="session", how="inner"), instead_of=events)
    if options.new_items == "drop":
        events = drop_new_items(events, engine, min_session_events=least)
    items = index_ids(events, raw, engine, number="item", external="item_id")
    operations = index_ids(events, raw, engine, number="action", external="operation")
    train, validation, test = encode_sessions(events, items, operations, engine)
    ids = column_of(items.sort("index"), "id", engine)
    vocabulary = Vocabulary([*ids, *_extra_items(log, ids, options)], kind="item")
    seen = [vocabulary.id(index) for index in np.unique(train.items).tolist()] if options.buckets else []
    knowledge, attributes = _knowledge(log, vocabulary, options, seen, engine)
    left = sum(table.num_events for table in (train, validation, test))
    counts["events_of_new_items_dropped"] = counts["events_after_filters"] - left
    sessions = len(train) + len(validation) + len(test)
    logger.info("prepared %d sessions, %d items, %d triples", sessions, len(vocabulary), len(knowledge))
    display: Display = {}
    if log.display is not None:  # What is shown with the items of the catalogue.
        shown = log.display.filter(pl.col("value").is_not_null(), pl.col("item_id").is_in(list(vocabulary.ids)))
        display = display_of(shown.select("item_id", "relation", "value").collect())
    dataset = PreparedDataset(
        name=name or log.name,
        items=vocabulary,
        operations=Vocabulary(column_of(operations.sort("index"), "id", engine), kind="operation"),
        knowledge=knowledge,
        train=train,
        validation=validation,
        test=test,
        new_items=options.new_items,
        max_session_events=options.max_session_events,
        display=display,
        metadata={
            "log": log.name,
            "sources": [{"path": source.path, "sha256": source.sha256} for source in log.sources],
            "notes": dict(log.notes),
            "options": {**options.model_dump(mode="json"), "gap_seconds": _gap(log, options)},
            "preparation": {"events": counts, "attributes": attributes},
        },
    )
    _check_splits(dataset, options, log.path)
    _check_examples(dataset, log)
    return dataset


def _sessions(
    raw: Query, log: InteractionLog, options: PrepareOptions, least: int, engine: Engine
) -> tuple[Query, dict[str, int]]:
    """Events as numbers (`item`, `action`, `session`, `time`, `row`, `split`?) after all filters, and their counts."""
    if options.drop_duplicates and not log.has_time:
        raise ConfigError("needs a time column to tell a double from a repeat", key="drop_duplicates", path=log.path)
    if options.visitors and "user_id" not in log.columns:
        raise ConfigError("needs a user column to know who comes back", key="visitors", path=log.path)
    counts = {"read": engine.count(raw)}
    events = number_ids(raw, engine, visitors=options.visitors)
    if options.drop_duplicates:
        events = drop_duplicates(events, engine)
    counts["duplicates_dropped"] = counts["read"] - engine.count(events)
    if "session_id" in log.columns:
        events = events.rename({"owner": "session"})
    else:
        events = engine.cut(events, gap=_gap(log, options))
    counts["long_sessions_dropped"] = counts["events_of_long_sessions_dropped"] = 0
    if options.longest_session is not None:
        before = engine.count(events)
        events, counts["long_sessions_dropped"] = drop_long_sessions(events, engine, longest=options.longest_session)
        counts["events_of_long_sessions_dropped"] = before - engine.count(events)
    events, counts["filter_rounds"] = filter_events(
        events, engine, min_session_events=least, min_item_events=options.min_item_events
    )
    counts["events_after_filters"] = engine.count(events)
    if counts["events_after_filters"] == 0:
        often = "once" if options.min_item_events == 1 else f"{options.min_item_events} times"
        longer = f" (longer ones than {options.longest_session} events are dropped)" if options.longest_session else ""
        text = f"no session is left: none has {least} events of items that occur {often} or more{longer}"
        raise DataError(text, path=log.path)
    return events, counts


def _check_splits(dataset: PreparedDataset, options: PrepareOptions, path: str | None) -> None:
    """Refuse a split with nothing to rank, unless its share is 0; warn where one session is much of a split."""
    for split in SPLITS:
        sessions = getattr(dataset, split)
        longest, events = int(sessions.lengths.max(initial=0)), sessions.num_events
        if longest > max(MUCH_OF_A_SPLIT * events, dataset.max_session_events):
            way_out = "if it is a robot's, drop such sessions with longest_session (--longest-session N)"
            logger.warning("one session holds %d of the %d events of %s; %s", longest, events, split, way_out)
    shares: dict[SplitName, float] = {"test": options.test_share, "validation": options.validation_share}
    for split, share in shares.items():
        if share and not dataset.num_examples(dataset.evaluation_sessions(split)):
            new = " of items that earlier sessions have" if dataset.new_items == "drop" else ""
            keep = ", new items too (--new-items keep)" if dataset.new_items == "drop" else ""
            raise DataError(
                f"the {split} is empty: none of its sessions has two events{new}; give more data{keep}, or another "
                f"share, 0 for no {split} (--{split}-share)",
                path=path,
            )


def _check_examples(dataset: PreparedDataset, log: InteractionLog) -> None:
    """Make sure that data which came as examples still has them all, and no other."""
    given: dict[str, int] = log.notes.get("examples", {})
    if not given:
        return
    fitting, test = dataset.fitting_sessions(refit=True), dataset.test
    wanted = (sum(count for split, count in given.items() if split != "test"), given["test"])
    made = (dataset.num_examples(fitting), dataset.num_examples(test))
    if made != wanted:
        longest = max(int(sessions.lengths.max(initial=0)) for sessions in (fitting, test))
        reason = f"sessions have up to {longest} events: --max-session-events {longest}"
        if longest <= dataset.max_session_events:
            reason = "test items that training lacks were dropped: --new-items keep"
        raise DataError(
            f"the files hold {wanted[0]} training and {wanted[1]} test examples, {made[0]} and {made[1]} are left; "
            f"{reason} keeps them all",
            path=log.path,
        )


def _gap(log: InteractionLog, options: PrepareOptions) -> int:
    return options.gap_seconds or log.gap or GAP_SECONDS


def _knowledge(
    log: InteractionLog, items: Vocabulary, options: PrepareOptions, seen: list[str], engine: Engine
) -> tuple[KnowledgeGraph, dict[str, int]]:
    if log.attributes is None:
        if options.buckets:
            raise ConfigError("the log has no attribute table", key="buckets", path=log.path)
        return KnowledgeGraph.empty(len(items)), {}
    attributes = bucketed(log.attributes, options.buckets, seen)
    knowledge, counts = encode_knowledge(engine.table(attributes), items, engine, path=log.path)
    if not len(knowledge) and counts["unknown_items"]:
        other = log.attributes.select("item_id").head(1).collect().item()
        alike = "no item of the log stands in the attribute table; ids must be written alike"
        logger.warning("%s: %r in the log, %r in the table", alike, items.id(1), other)
    return knowledge, counts


def _extra_items(log: InteractionLog, items: list[str], options: PrepareOptions) -> list[str]:
    """Items that only the attribute table knows, in its order."""
    if options.catalogue == "log":
        return []
    if log.attributes is None:
        raise ConfigError("the log has no attribute table to take items from", key="catalogue", path=log.path)
    named = log.attributes.group_by("item_id").agg(pl.col("row").min()).sort("row")
    inside = set(items)
    return [each for each in named.collect()["item_id"].to_list() if each not in inside]

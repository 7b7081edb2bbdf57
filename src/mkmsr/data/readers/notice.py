"""What is odd in a log and no error: shared sessions, doubled events, times that run backwards. Counted and logged."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.readers.cells import FILLERS

logger = logging.getLogger(__name__)

LONGEST_FILLER = max(map(len, FILLERS))
MOST_WORDS = 5
"""So many of the words are named."""
SHORTENED = r"^\d(?:\.\d+)?[eE]\+\d+$"
"""An id of which a spreadsheet kept only the first digits: 1.23457E+12."""


def notice(events: pl.LazyFrame, label: str, notes: dict[str, Any]) -> None:
    """Write the counts into the notes. Of each event only hashes and the time are in memory, 24 bytes."""
    names = events.collect_schema().names()
    if {"session_id", "user_id"} <= set(names):
        notes["sessions_of_several_users"] = _shared_sessions(events, label)
    _count_fillers(events, names, label, notes)
    if "time" not in names:
        return
    owner = "session_id" if "session_id" in names else "user_id"
    numbers = events.select(
        "time", owner=pl.col(owner).hash(), event=pl.struct(owner, "item_id", "operation", "time").hash()
    ).collect(engine="streaming")
    event = np.sort(numbers["event"].to_numpy())
    if doubles := int(np.count_nonzero(event[1:] == event[:-1])):
        notes["duplicated_events"] = doubles
        logger.info("%s: %d events repeat an earlier one; --drop-duplicates keeps one of each", label, doubles)
    del event
    if backwards := _backwards(numbers["owner"].to_numpy(), numbers["time"].to_numpy()):
        notes["events_out_of_order"] = backwards
        logger.info("%s: %d events are older than the one before of their session; times decide", label, backwards)


def _count_fillers(events: pl.LazyFrame, names: list[str], label: str, notes: dict[str, Any]) -> None:
    """Counts ids and operations that are words for a missing value, or numbers as spreadsheets shorten them."""
    found = {}
    for name in (each for each in ("item_id", "user_id", "session_id", "operation") if each in names):
        text = pl.col(name)
        odd = events.filter(
            (text.str.len_bytes() <= LONGEST_FILLER) & text.is_in(FILLERS) | text.str.contains(SHORTENED)
        )
        words = odd.group_by(name).len().sort("len", name, descending=[True, False]).head(MOST_WORDS)
        if counts := dict(words.collect(engine="streaming").iter_rows()):
            found[name] = counts
            counted = ", ".join(f"{word!r} ({count:,})" for word, count in counts.items())
            if any(word not in FILLERS for word in counts):
                way_out = "a spreadsheet has shortened them; export them as text"
            else:
                way_out = "--missing WORDS takes words for missing values"
            logger.warning("%s: %s holds %s; %s", label, name, counted, way_out)
    if found:
        notes["filler_words"] = found


def _backwards(owner: NDArray[np.uint64], time: NDArray[np.int64]) -> int:
    """How many events are older than the one before them of the same owner."""
    if (time[1:] >= time[:-1]).all():
        return 0
    order = np.argsort(owner, kind="stable")
    owner, time = owner[order], time[order]
    return int(np.count_nonzero((owner[1:] == owner[:-1]) & (time[1:] < time[:-1])))


def _shared_sessions(events: pl.LazyFrame, label: str) -> int:
    """How many sessions hold events of more than one user: a login inside a session, or numbers that start again."""
    named = events.filter(pl.col("user_id").is_not_null())
    users = named.select(pl.col("session_id").hash(), user=pl.col("user_id").hash()).group_by("session_id")
    several = users.agg(several=pl.col("user").min() != pl.col("user").max()).select(pl.col("several").sum())
    count = int(several.collect(engine="streaming").item())
    if count:
        logger.warning(
            "%s: %d sessions hold events of several users; if session numbers start again with each user, "
            "make them distinct before, or leave the sessions to the gap (session= without a name)",
            label,
            count,
        )
    return count

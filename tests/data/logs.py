"""Small logs written down by hand, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mkmsr.data.log import InteractionLog


def log_of(
    rows: Sequence[tuple[str, str, str, int]],
    *,
    owner: str = "session_id",
    splits: Sequence[str] | None = None,
    attributes: Sequence[tuple[str, str, str]] | None = None,
) -> InteractionLog:
    """A log of rows (session or user, item, operation, time) in file order."""
    frame = pl.DataFrame(rows, schema=[owner, "item_id", "operation", "time"], orient="row")
    events = frame.cast({"time": pl.Int64}).with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    if splits is not None:
        events = events.with_columns(split=pl.Series(splits))
    table = None
    if attributes is not None:
        table = pl.DataFrame(attributes, schema=["item_id", "relation", "value"], orient="row")
        table = table.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).lazy()
    return InteractionLog(events.lazy(), table)

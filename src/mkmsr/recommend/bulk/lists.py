"""The ranked items of encoded sessions as one table: session, rank, item, score.

Dimension letters: S sessions, K list length.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from mkmsr.data.batching import SessionBatch
from mkmsr.recommend import BatchRanker
from mkmsr.recommend.bulk.encoding import EncodedSessions

__all__ = ["ranked_lists"]


def ranked_lists(sessions: EncodedSessions, ranker: BatchRanker, told: Callable[[int], None]) -> pl.DataFrame:
    """The lists of all sessions, in their order; one without a known event gets the most popular items.

    Args:
        sessions: The sessions.
        ranker: What ranks.
        told: Hears of each batch how many sessions it had.
    """
    count = len(sessions.ids)
    lengths = np.diff(sessions.offsets)
    columns_SK = np.zeros((count, min(ranker.k, len(ranker.bundle.items) + 1)), np.int64)
    scores_SK = np.zeros(columns_SK.shape, np.float32)
    empty = lengths == 0
    if empty.any():
        columns_SK[empty], scores_SK[empty] = ranker.rank_by_popularity()
    places = np.flatnonzero(~empty)
    for begin in range(0, len(places), ranker.batch_size):
        rows = places[begin : begin + ranker.batch_size]
        # Sessions without events lie between these and take no room.
        events = slice(sessions.offsets[rows[0]], sessions.offsets[rows[-1] + 1])
        batch = SessionBatch.from_arrays(sessions.items[events], sessions.operations[events], lengths[rows])
        columns_SK[rows], scores_SK[rows] = ranker.rank(batch)
        told(len(rows))
    there = columns_SK > 0
    owner, place = np.nonzero(there)
    ids = pl.Series(ranker.bundle.items.ids, dtype=pl.String)
    return pl.DataFrame(
        {
            "session": sessions.ids.gather(owner),
            "rank": pl.Series(place + 1, dtype=pl.Int32),
            "item": ids.gather(columns_SK[there] - 1),
            "score": pl.Series(scores_SK[there], dtype=pl.Float32),
        }
    )

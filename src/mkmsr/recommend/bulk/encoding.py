"""Events of many sessions as the indexes that a model reads, without a loop over sessions.

The policies are those of the `Recommender`: events of unknown items are left out and counted, an unknown operation
counts as the most common one (and is counted), so does a missing one, and of what is left the newest events are kept.
Each session stands by itself: what its visitor touched in earlier ones is not looked for.
Dimension letters: S sessions, P events that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.recommend.session_input import default_operation

__all__ = ["EncodedSessions", "Encoder"]


@dataclass(frozen=True)
class EncodedSessions:
    """Sessions in indexes, one after the other.

    Args:
        ids: External id of each session. Length S.
        items: Item of each event, oldest first. Shape [P], int64.
        operations: Operation of each event. Shape [P], int64.
        offsets: Where each session begins, and P; one of which nothing is left is empty. Shape [S + 1].
        skipped: Events left out because their item is not in the catalogue.
        replaced: Events whose operation is unknown, and was taken for the most common one.
    """

    ids: pl.Series
    items: NDArray[np.int64]
    operations: NDArray[np.int64]
    offsets: NDArray[np.int64]
    skipped: int
    replaced: int


class Encoder:
    """Turns events into indexes of a bundle's vocabularies."""

    def __init__(self, bundle: ModelBundle):
        self._items, self._operations = _kind(bundle.items), _kind(bundle.operations)
        self._default = default_operation(bundle)
        self._newest = bundle.max_session_events - 1

    def encode(self, events: pl.DataFrame) -> EncodedSessions:
        """The sessions of such events as `SessionFile.read` gives."""
        runs = events["run"].to_numpy().astype(np.int64)
        ids = events["session"].gather(np.flatnonzero(np.diff(runs, prepend=-1)))
        items = _indexes(events["item"], self._items)
        operations = _indexes(events["operation"], self._operations)
        known = items > 0
        unknown_operation = (operations == 0) & events["operation"].is_not_null().to_numpy()
        operations[operations == 0] = self._default
        kept_runs = runs[known]
        ends = np.cumsum(np.bincount(kept_runs, minlength=len(ids)))
        newest = ends[kept_runs] - np.arange(len(kept_runs)) <= self._newest
        lengths = np.bincount(kept_runs[newest], minlength=len(ids))
        return EncodedSessions(
            ids=ids,
            items=items[known][newest],
            operations=operations[known][newest],
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            skipped=int((~known).sum()),
            replaced=int((unknown_operation & known).sum()),
        )


def _kind(vocabulary: Vocabulary) -> pl.Enum:
    return pl.Enum(vocabulary.ids)


def _indexes(values: pl.Series, kind: pl.Enum) -> NDArray[np.int64]:
    """Indexes 1..n of texts, 0 for unknown and missing ones."""
    places: pl.Series = values.cast(kind, strict=False).to_physical().cast(pl.Int64)
    return np.array((places + 1).fill_null(0).to_numpy(), np.int64)  # A copy: polars lends its own, which is read-only.

"""Takes a visitor's sessions out of prepared data, and out of what neighbour models keep of their training sessions.

Neither knows visitors. A session is the visitor's if all of its events are among those that the visitor asks to have
forgotten, by item and second. What a network learnt from them stays in its weights until it is trained again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mkmsr.bundle.model_bundle import load_bundle, save_bundle
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.log import SPLITS, InteractionLog
from mkmsr.data.sessions import SessionTable
from mkmsr.errors import BundleError, DataError
from mkmsr.models.neighbours.indexed_sessions import IndexedSessions, places_of
from mkmsr.runtime.files import locked


@dataclass(frozen=True)
class Forgotten:
    """What was taken out: sessions of the prepared data by split, their events, and sessions of each bundle's index.

    A bundle that keeps no sessions, or none of these, has 0.
    """

    sessions: dict[str, int]
    events: int
    bundles: dict[str, int]


def forget(data: str | Path, log: InteractionLog, bundles: Sequence[str | Path] = ()) -> Forgotten:
    """Take the sessions of some events out of prepared data and bundles, each of which is replaced whole or not at all.

    The events, such as all of a visitor, are read as the log was; they need times. Bundles come first. After a call
    that was broken off, the same call takes out the rest. A bundle that learnt from other data raises BundleError.
    """
    with locked(data):
        dataset = PreparedDataset.load(data)
        theirs = _sessions_of(dataset, log)
        left = {
            split: table.select(~theirs[split][table.session_of_event]) for split, table in _splits(dataset).items()
        }
        sessions = {split: int(rows.sum()) for split, rows in theirs.items()}
        count = sum(sessions.values())
        if count and not len(left["train"]):
            raise DataError("these are all sessions of training; remove the folder instead", path=data)
        before = int(dataset.metadata.get("forgotten_sessions", 0))
        after = replace(
            dataset,
            train=left["train"],
            validation=left["validation"],
            test=left["test"],
            metadata={**dataset.metadata, "forgotten_sessions": before + count},
        )
        taken = {str(path): _take_out_of_bundle(Path(path), dataset, after, theirs) for path in bundles}
        if count:
            after.save(data)
    events = sum(table.num_events - left[split].num_events for split, table in _splits(dataset).items())
    return Forgotten(sessions, events, taken)


def _splits(dataset: PreparedDataset) -> dict[str, SessionTable]:
    return {split: getattr(dataset, split) for split in SPLITS}


def _sessions_of(dataset: PreparedDataset, log: InteractionLog) -> dict[str, NDArray[np.bool_]]:
    """Whether each session of each split has no other events than these. Shapes [S]."""
    if not log.has_time:
        raise DataError("has no times: without them nobody can tell which sessions are the visitor's", path=log.path)
    events, width = log.events.select("item_id", "time").collect(), len(dataset.items) + 1
    items = dataset.items.indexes(events["item_id"].to_list(), missing="zero")
    wanted = events["time"].to_numpy() * width + items
    found = {}
    for split, table in _splits(dataset).items():
        is_wanted = np.isin(table.times * width + table.items, wanted)
        others = np.bincount(table.session_of_event[~is_wanted], minlength=len(table))
        found[split] = (others == 0) & (table.lengths > 0)
    return found


def _take_out_of_bundle(
    path: Path, before: PreparedDataset, after: PreparedDataset, theirs: dict[str, NDArray[np.bool_]]
) -> int:
    """Take the sessions out of one bundle's index, which then belongs to the data as they are afterwards."""
    with locked(path):
        bundle = load_bundle(path)
        known = bundle.metadata["data"]
        if known["fingerprint"] == after.fingerprint:
            return 0
        if known["fingerprint"] != before.fingerprint:
            raise BundleError("it learnt from other data; give the prepared data that it learnt from", path=path)
        refit = known["fitted_on"] != "train"
        rows = np.concatenate([theirs["train"], theirs["validation"]]) if refit else theirs["train"]
        sessions = before.fitting_sessions(refit=refit)
        places = places_of(sessions)[rows]
        indexes = [part for part in bundle.model.modules() if isinstance(part, IndexedSessions)]
        for index in indexes:
            if index.num_sessions != np.count_nonzero(sessions.lengths):
                raise BundleError("its index is of other sessions than the data", path=path)
            index.forget(places)
        known = {**known, "fingerprint": after.fingerprint}
        save_bundle(path, replace(bundle, metadata={**bundle.metadata, "data": known}))
    return len(places) if indexes else 0

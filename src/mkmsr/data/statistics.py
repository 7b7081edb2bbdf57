"""Counts of a prepared dataset: the paper's Table 1, and what is new in the test."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.sessions import SessionTable

__all__ = ["statistics"]


def statistics(dataset: PreparedDataset) -> dict[str, Any]:
    """What `mkmsr describe --json` prints; shares are 0..1, lengths in events.

    Train and validation are disjoint and count every prefix of their sessions; `train_and_validation` is what the paper
    calls training. New items are those of no session before the test. Returning sessions, counted where the data know
    visitors, are those whose visitor has touched something in earlier sessions.
    """
    train, validation, test = (_counts(dataset, table) for table in (dataset.train, dataset.validation, dataset.test))
    seen = dataset.seen_before("test")
    test["new_item_event_share"] = _new_share(dataset.test.items, seen)
    test["new_item_target_share"] = _new_share(dataset.examples(dataset.test).targets, seen)
    sessions, events = (sum(part[key] for part in (train, validation, test)) for key in ("sessions", "events"))
    return {
        "sessions": sessions,
        "events": events,
        "items": len(dataset.items),
        "operations": len(dataset.operations),
        "relations": len(dataset.knowledge.relations),
        "triples": len(dataset.knowledge),
        "train": train,
        "validation": validation,
        "test": test,
        "train_and_validation": {key: train[key] + validation[key] for key in train},
        "mean_session_length": events / sessions if sessions else 0.0,
        "mean_item_frequency": events / len(dataset.items) if len(dataset.items) else 0.0,
    }


def _counts(dataset: PreparedDataset, table: SessionTable) -> dict[str, Any]:
    counts = {"sessions": len(table), "events": table.num_events, "examples": dataset.num_examples(table)}
    if table.earlier is not None:
        counts["returning_sessions"] = int(np.count_nonzero(np.diff(table.earlier.offsets)))
    return counts


def _new_share(items: NDArray[np.integer], seen: NDArray[np.bool_]) -> float:
    return float((~seen[items]).mean()) if len(items) else 0.0

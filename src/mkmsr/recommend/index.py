"""Whether an index pays: it is built, tried on sessions, and kept if it is faster and finds the same lists."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.layers.fast.shortlist import has_index
from mkmsr.models.capabilities import makes_shortlists
from mkmsr.recommend.ranker import Ranker
from mkmsr.recommend.recommender import Recommender
from mkmsr.recommend.sessions import EncodedSessions, Session, SessionEncoder
from mkmsr.runtime.compute import torch_threads

_K = 20
_SESSIONS, _TIMED = 64, 7
"""Sessions whose lists are compared, and those that are timed, one by one."""
_LONGEST_DRAWN = 6
_WORTH_SECONDS = 0.01
"""Scoring all items for one session takes longer, or no index is tried: the network alone takes a third of it."""
_LEAST_RECALL = 0.99
_PROPOSALS = (2000, 4000, 8000)
"""Tried in turn until recall is high enough. Of a million vectors drawn at random, the hardest, the first hold 99.8 %
of the best 20; many items with the same attributes need more."""


@dataclass(frozen=True)
class IndexReport:
    """Where lists come from.

    Args:
        used: Whether from an index.
        reason: Why, in a sentence.
        recall_at_20: Part of the exact lists that it found; None where none was built.
        exact_ms: Processor time of the list of one session from all items, in milliseconds.
        index_ms: The same from the index; None where none was built.
        build_seconds: Processor time of building and trying it; None likewise.
    """

    used: bool
    reason: str
    exact_ms: float
    recall_at_20: float | None = None
    index_ms: float | None = None
    build_seconds: float | None = None


def try_index(recommender: Recommender, sessions: Sequence[Session] = ()) -> IndexReport:
    """Let a recommender use an index, if lists of one session then take less time and hold 99 % of the exact ones.

    Args:
        recommender: It computes on the processor.
        sessions: Real ones to try it with; others are drawn from the items' counts.
    """
    bundle = recommender.bundle
    recommender.use_index(0)
    encoder, tried = SessionEncoder(bundle), [*sessions, *_drawn(bundle)][:_SESSIONS]
    alone = [encoder.encode({"the session": each}) for each in tried]
    exact = recommender.ranker(_K)
    exact_ms = _milliseconds(exact, alone[-_TIMED:])
    if exact_ms < 1000 * _WORTH_SECONDS:
        return IndexReport(False, "all items are scored: that takes little time", exact_ms)
    if not makes_shortlists(bundle.model) or recommender.device.type != "cpu":
        return IndexReport(False, "all items are scored: this model has no index", exact_ms)
    if not has_index():
        return IndexReport(False, "all items are scored: for an index, pip install 'mkmsr[serve]'", exact_ms)
    began = time.thread_time()
    wanted = _lists(exact, alone)
    recall = 0.0
    for proposals in _PROPOSALS:
        recommender.use_index(proposals)
        recall = _recall(wanted, _lists(recommender.ranker(_K), alone))
        if recall >= _LEAST_RECALL:
            break
    index_ms = _milliseconds(recommender.ranker(_K), alone[-_TIMED:])
    is_good = recall >= _LEAST_RECALL and index_ms < exact_ms
    if not is_good:
        recommender.use_index(0)
    told = f"an index finds {100 * recall:.1f} % of the exact lists in {index_ms:.0f} instead of {exact_ms:.0f} ms"
    reason = told if is_good else f"all items are scored: {told}"
    return IndexReport(is_good, reason, exact_ms, recall, index_ms, time.thread_time() - began)


def _drawn(bundle: ModelBundle) -> list[Session]:
    """Sessions of items and operations as likely as in training."""
    rng, counts = np.random.default_rng(0), bundle.item_counts[1:] + 1.0
    drawn = rng.choice(len(counts), size=(_SESSIONS, _LONGEST_DRAWN), p=counts / counts.sum())
    operations = bundle.operations.ids
    return [
        [(bundle.items.ids[item], operations[item % len(operations)]) for item in row[: 1 + number % _LONGEST_DRAWN]]
        for number, row in enumerate(drawn.tolist())
    ]


def _milliseconds(ranker: Ranker, sessions: Sequence[EncodedSessions]) -> float:
    times = []
    with torch_threads(1):
        for each in sessions:
            began = time.thread_time()
            ranker.rank(each)
            times.append(1000 * (time.thread_time() - began))
    return median(times)


def _lists(ranker: Ranker, sessions: Sequence[EncodedSessions]) -> list[set[int]]:
    """One session at a time: those that share a shortlist find more."""
    with torch_threads(1):
        return [set(ranker.rank(each)[0][0].tolist()) for each in sessions]


def _recall(wanted: Sequence[set[int]], found: Sequence[set[int]]) -> float:
    return float(np.mean([len(mine & each) / len(each) for each, mine in zip(wanted, found, strict=True)]))

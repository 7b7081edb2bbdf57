"""Leakage audit of prepared data: does anything that training sees come from the future, or from the test itself?

Every check is a count with a verdict: "clean"; "note" where a reader should know the number, but chance or the protocol
explains it; "leak" where results on this data cannot be trusted. Sessions and prefixes are compared by 64-bit hashes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.sessions import ExampleTable, SessionTable

AuditVerdict = Literal["clean", "note", "leak"]

VERDICTS: tuple[AuditVerdict, ...] = ("clean", "note", "leak")
"""From harmless to fatal; an audit is as bad as its worst check."""

LONG_SESSION_ITEMS = 4
"""Distinct items from which on two visits hardly have the same events in the same order by chance."""
CHANCE_SHARE = 0.01
"""Share of such sessions of a split that may have an identical earlier one before it counts as a leak."""
BOUNDARY_SHARE = 0.05
"""Share of sessions to learn from that may end after a test session whose last events were dropped."""

_Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class AuditCheck:
    """One thing that was counted: its name, what the count means, how many were found of how many, and a sentence."""

    name: str
    verdict: AuditVerdict
    count: int
    of: int
    detail: str


@dataclass(frozen=True)
class Audit:
    """All checks of a dataset."""

    checks: tuple[AuditCheck, ...]

    @property
    def verdict(self) -> AuditVerdict:
        """The worst of all checks."""
        return max((check.verdict for check in self.checks), key=VERDICTS.index, default="clean")

    def to_json(self) -> dict[str, Any]:
        """The audit as plain data."""
        return {"verdict": self.verdict, "checks": [asdict(check) for check in self.checks]}


def audit(dataset: PreparedDataset) -> Audit:
    """Look for leaks from validation into train, and from the test into either."""
    fitting = dataset.fitting_sessions(refit=True)
    return Audit(
        (
            *_pair_checks(dataset, dataset.train, dataset.validation, "validation"),
            *_pair_checks(dataset, fitting, dataset.test, "test"),
            _items_from_test(dataset),
            _unseen_candidates(dataset),
            _operations_from_test(dataset),
        )
    )


def _pair_checks(
    dataset: PreparedDataset, earlier: SessionTable, later: SessionTable, split: str
) -> Iterator[AuditCheck]:
    """Compare one held-out split with all sessions before it."""
    yield _late_sessions(earlier, later, split, shortened=split == "test" and dataset.new_items == "drop")
    late = (earlier.times > later.times.min()).sum() if later.num_events else 0
    detail = f"events to learn from are newer than the first {split} event, from visits that overlap the boundary"
    yield _check(f"{split}_events_begin_first", late, earlier.num_events, detail, means="note")
    shared = np.isin(_session_hashes(later, times=True), _session_hashes(earlier, times=True)).sum()
    detail = f"{split} sessions are among those to learn from too, with the same items, operations and times"
    yield _check(f"{split}_sessions_shared", shared, len(later), detail)
    before, after = dataset.examples(earlier), dataset.examples(later)
    shared = np.isin(_example_hashes(after), _example_hashes(before)).sum()  # finds copied parts of sessions too
    detail = f"{split} examples (prefix, next item and their times) are among those to learn from too"
    yield _check(f"{split}_examples_shared", shared, len(after), detail)
    yield _identical_sessions(earlier, later, split)


def _late_sessions(earlier: SessionTable, later: SessionTable, split: str, *, shortened: bool) -> AuditCheck:
    """Count sessions to learn from that end after a held-out one does: the split is not one by time.

    Where events of new items were dropped, a test session may have lost its last ones and seem to end too early, so
    that a few such sessions at the boundary mean nothing.
    """
    last, first = _ends(earlier), _ends(later)
    late = (last > first.min()).sum() if len(first) else 0
    detail = f"sessions to learn from end later than the {split} session that ends first"
    is_boundary = shortened and late <= BOUNDARY_SHARE * len(earlier)
    if late and is_boundary:
        detail += "; test sessions that lost their last events, those of new items, seem to end early"
    means: AuditVerdict = "note" if is_boundary else "leak"
    return _check(f"{split}_sessions_end_first", late, len(earlier), detail, means=means)


def _identical_sessions(earlier: SessionTable, later: SessionTable, split: str) -> AuditCheck:
    """Count held-out sessions with the same items and operations as an earlier one, at whatever time.

    Two visits to one item, or two, are alike by chance; many long ones are a log that was copied with other times.
    """
    identical = np.isin(_session_hashes(later, times=False), _session_hashes(earlier, times=False))
    long = _distinct_items(later) >= LONG_SESSION_ITEMS
    of_long, all_long = int((identical & long).sum()), int(long.sum())
    detail = (
        f"{split} sessions have the items and operations of an earlier one at another time; {of_long} of {all_long} "
        f"with at least {LONG_SESSION_ITEMS} distinct items"
    )
    means: AuditVerdict = "leak" if of_long > max(1.0, CHANCE_SHARE * all_long) else "note"
    return _check(f"{split}_sessions_identical", identical.sum(), len(later), detail, means=means)


def _items_from_test(dataset: PreparedDataset) -> AuditCheck:
    """Count items that only the test has; the protocol (N) keeps them on purpose, the other must not know them."""
    only_test = _asked_for(dataset) & ~dataset.seen_before("test")
    detail = "items of the catalogue occur in no session before the test"
    if only_test.any() and dataset.new_items == "keep":
        detail += ', as "new items: keep" asks for'
    means: AuditVerdict = "leak" if dataset.new_items == "drop" else "note"
    return _check("catalogue_items_from_test", only_test.sum(), len(dataset.items), detail, means=means)


def _unseen_candidates(dataset: PreparedDataset) -> AuditCheck:
    """Tell whether the candidates that training never saw are just those that the test asks for.

    Then a model that ranks unseen items above seen ones, or matches attributes among them, is flattered: of the unseen
    items of a real shop, most would not be asked for that day either.
    """
    unseen = ~dataset.seen_before("test")
    unseen[0] = False
    total, asked = int(unseen.sum()), int((unseen & _asked_for(dataset)).sum())
    flattered = total > 0 and asked == total
    detail = (
        "unseen candidates are all test items: scores of new items are flattered, report them apart"
        if flattered
        else "unseen candidates occur in the test; the others are distractors"
    )
    return _check("unseen_candidates_in_test", asked, total, detail, means="note" if flattered else "clean")


def _operations_from_test(dataset: PreparedDataset) -> AuditCheck:
    """Count operations that only the test has: their vectors were never learnt."""
    only_test = np.setdiff1d(dataset.test.operations, dataset.fitting_sessions(refit=True).operations)
    detail = "operations occur in no session before the test"
    return _check("operations_from_test", len(only_test), len(dataset.operations), detail, means="note")


def _check(name: str, count: int, of: int, detail: str, *, means: AuditVerdict = "leak") -> AuditCheck:
    return AuditCheck(name, means if count else "clean", int(count), of, detail)


def _asked_for(dataset: PreparedDataset) -> NDArray[np.bool_]:
    """Return whether each item occurs in the test. Shape [V]."""
    found = np.zeros(len(dataset.items) + 1, np.bool_)
    found[dataset.test.items] = True
    return found


def _ends(sessions: SessionTable) -> NDArray[np.int64]:
    filled = sessions.lengths > 0
    return sessions.times[sessions.offsets[1:][filled] - 1]


def _distinct_items(sessions: SessionTable) -> NDArray[np.int64]:
    """Return how many different items each session has. Shape [sessions]."""
    pairs = np.stack([sessions.session_of_event, sessions.items.astype(np.int64)], axis=1)
    return np.bincount(np.unique(pairs, axis=0)[:, 0], minlength=len(sessions))


def _session_hashes(sessions: SessionTable, *, times: bool) -> _Hashes:
    place = np.arange(sessions.num_events) - sessions.offsets[:-1][sessions.session_of_event]
    total = _running_hash(sessions, place, times=times)
    return total[sessions.offsets[1:]] - total[sessions.offsets[:-1]]


def _example_hashes(examples: ExampleTable) -> _Hashes:
    """Return a hash of each example's events from the first of the prefix to the target, with their times."""
    sessions = examples.sessions
    # All prefixes of a session begin at the same event, so that each event has one place in all of them.
    first_of_session = np.zeros(len(sessions), np.int64)
    first_of_session[examples.session] = examples.begin
    place = np.arange(sessions.num_events) - first_of_session[sessions.session_of_event]
    total = _running_hash(sessions, place, times=True)
    return total[examples.end + 1] - total[examples.begin]


def _running_hash(sessions: SessionTable, place: NDArray[np.int64], *, times: bool) -> _Hashes:
    """Return the running sum of the events' hashes, each of an event's values and place. Shape [events + 1]."""
    columns = {"place": place, "item": sessions.items, "operation": sessions.operations}
    hashes = pl.DataFrame(columns | ({"time": sessions.times} if times else {})).hash_rows().to_numpy()
    return np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])

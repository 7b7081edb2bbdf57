"""The leakage audit: clean data passes, every planted leak is found and counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mkmsr.data.audit import Audit, AuditCheck, audit
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.data.sessions import SessionTable
from tests.small_shop import small_shop


@pytest.fixture(scope="module")
def shop() -> PreparedDataset:
    """Visits that never overlap, with new items kept."""
    return small_shop()


def check(found: Audit, name: str) -> AuditCheck:
    (one,) = [each for each in found.checks if each.name == name]
    return one


def pick(table: SessionTable, *rows: int) -> SessionTable:
    parts = [np.arange(table.offsets[row], table.offsets[row + 1]) for row in rows]
    events = np.concatenate(parts)
    offsets = np.cumsum([0, *(len(part) for part in parts)]).astype(np.int64)
    return SessionTable(table.items[events], table.operations[events], offsets, table.times[events])


def shifted(table: SessionTable, seconds: int) -> SessionTable:
    return replace(table, times=table.times + seconds)


def longest(table: SessionTable, count: int) -> list[int]:
    return [int(row) for row in np.argsort(-table.lengths, kind="stable")[:count]]


def test_data_cut_by_time_is_clean(shop: PreparedDataset) -> None:
    found = audit(shop)
    assert found.verdict != "leak"
    for split in ("validation", "test"):
        for name in ("sessions_end_first", "events_begin_first", "sessions_shared", "examples_shared"):
            assert check(found, f"{split}_{name}").count == 0
            assert check(found, f"{split}_{name}").verdict == "clean"


def test_a_random_split_is_a_leak_and_the_late_sessions_are_counted(shop: PreparedDataset) -> None:
    found = audit(replace(shop, train=shop.test, test=shop.train))
    late = check(found, "test_sessions_end_first")
    assert (late.verdict, late.count, late.of) == ("leak", *[len(shop.test) + len(shop.validation)] * 2)
    assert check(found, "test_events_begin_first").count == shop.test.num_events + shop.validation.num_events


def test_a_visit_under_way_at_the_boundary_is_noted_and_is_no_leak(shop: PreparedDataset) -> None:
    # The last validation session starts before the first test session ends, but the test's first event is older still.
    times = shop.test.times.copy()
    times[0] = shop.validation.times[-2]
    found = audit(replace(shop, test=replace(shop.test, times=times)))
    assert check(found, "test_events_begin_first").count == 1
    assert check(found, "test_events_begin_first").verdict == "note"
    assert check(found, "test_sessions_end_first").verdict == "clean"


def test_copied_sessions_are_counted_with_all_their_examples(shop: PreparedDataset) -> None:
    stolen = pick(shop.test, 2, 5, 7)
    found = audit(replace(shop, train=shop.train.concatenate(stolen)))
    assert check(found, "test_sessions_shared").count == 3
    assert check(found, "test_examples_shared").count == int((stolen.lengths - 1).sum())
    assert {check(found, f"test_{name}").verdict for name in ("sessions_shared", "examples_shared")} == {"leak"}
    assert check(found, "validation_sessions_shared").count == 0


def test_the_beginning_of_a_test_session_in_training_is_found_by_its_examples(shop: PreparedDataset) -> None:
    (row,) = longest(shop.test, 1)
    part = pick(shop.test, row)
    kept = part.select(np.arange(part.num_events) < 3)
    found = audit(replace(shop, train=shop.train.concatenate(kept)))
    assert check(found, "test_sessions_shared").count == 0
    assert check(found, "test_examples_shared").count == 2


def test_long_sessions_copied_with_other_times_are_a_leak_and_a_few_short_ones_a_note(shop: PreparedDataset) -> None:
    copies = shifted(pick(shop.test, *longest(shop.test, 4)), -10_000_000)
    before = check(audit(shop), "test_sessions_identical")
    found = audit(replace(shop, train=copies.concatenate(shop.train)))
    identical = check(found, "test_sessions_identical")
    assert (identical.verdict, identical.count) == ("leak", before.count + 4)
    assert check(found, "test_sessions_shared").count == 0
    short = next(row for row in range(len(shop.test)) if shop.test.lengths[row] == 2)
    found = audit(replace(shop, train=shifted(pick(shop.test, short), -10_000_000).concatenate(shop.train)))
    assert check(found, "test_sessions_identical").verdict == "note"


def test_items_that_only_the_test_has_are_a_leak_where_new_items_are_dropped(shop: PreparedDataset) -> None:
    target = int(shop.test.items[0])
    without = [
        table.select(table.items != target) for table in (shop.train, shop.validation)
    ]  # now the item is one of the test alone
    planted = replace(shop, train=without[0], validation=without[1])
    kept = check(audit(planted), "catalogue_items_from_test")
    assert (kept.verdict, kept.count, kept.of) == ("note", 1, len(shop.items))
    dropped = check(audit(replace(planted, new_items="drop")), "catalogue_items_from_test")
    assert (dropped.verdict, dropped.count) == ("leak", 1)


def test_unseen_candidates_that_are_just_the_test_items_are_noted(shop: PreparedDataset) -> None:
    asked, other = sorted(set(shop.test.items.tolist()))[:2]
    train, validation = (table.select(~np.isin(table.items, [asked, other])) for table in (shop.train, shop.validation))
    planted = replace(shop, train=train, validation=validation)
    flattered = check(audit(planted), "unseen_candidates_in_test")
    assert (flattered.verdict, flattered.count, flattered.of) == ("note", 2, 2)
    fair = check(audit(replace(planted, test=shop.test.select(shop.test.items != other))), "unseen_candidates_in_test")
    assert (fair.verdict, fair.count, fair.of) == ("clean", 1, 2)


def test_an_operation_that_only_the_test_has_is_noted(shop: PreparedDataset) -> None:
    train, validation = (table.select(table.operations != 3) for table in (shop.train, shop.validation))
    found = check(audit(replace(shop, train=train, validation=validation)), "operations_from_test")
    assert (found.verdict, found.count, found.of) == ("note", 1, 3)


def test_an_empty_split_is_no_leak(shop: PreparedDataset) -> None:
    assert audit(replace(shop, test=SessionTable.empty())).verdict != "leak"


def test_hashes_agree_with_comparison_event_by_event(shop: PreparedDataset) -> None:
    def rows(table: SessionTable) -> set[tuple[tuple[int, ...], ...]]:
        parts = [pick(table, row) for row in range(len(table))]
        return {(tuple(part.items.tolist()), tuple(part.operations.tolist())) for part in parts}

    known = rows(shop.fitting_sessions(refit=True))
    expected = sum(rows(pick(shop.test, row)) <= known for row in range(len(shop.test)))
    assert check(audit(shop), "test_sessions_identical").count == expected


@pytest.mark.parametrize("new_items", ["drop", "keep"])
def test_the_demo_data_has_no_leak(shared_data: Path, new_items: str) -> None:
    log = read_log("jdata-demo", shared_data / "jdata_demo", ReadOptions())
    found = audit(prepare(log, PrepareOptions.model_validate({"new_items": new_items})))
    assert found.verdict == "note"
    assert check(found, "test_sessions_shared").count == check(found, "test_examples_shared").count == 0
    # 41 of the sessions to learn from end after a test session whose last events were of new items and are gone.
    assert check(found, "test_sessions_end_first").count == (41 if new_items == "drop" else 0)
    assert check(found, "unseen_candidates_in_test").count == (0 if new_items == "drop" else 776)

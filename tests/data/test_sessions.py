"""SessionTable: flat arrays against lists of lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkmsr.data.sessions import SessionTable

events = st.tuples(st.integers(1, 9), st.integers(1, 3), st.booleans())
tables = st.lists(st.lists(events, min_size=1, max_size=5), max_size=6)


def table_of(sessions: list[list[tuple[int, int, bool]]]) -> tuple[SessionTable, np.ndarray]:
    """The table of some sessions, and their third entries as a mask over its events."""
    flat = [event for session in sessions for event in session]
    table = SessionTable(
        np.array([item for item, _, _ in flat], np.int32),
        np.array([operation for _, operation, _ in flat], np.int16),
        np.cumsum([0, *(len(session) for session in sessions)]).astype(np.int64),
        np.arange(len(flat), dtype=np.int64),
    )
    return table, np.array([keep for _, _, keep in flat], np.bool_)


def as_lists(table: SessionTable) -> list[list[tuple[int, int]]]:
    both = (table.session(index) for index in range(len(table)))
    return [list(zip(items.tolist(), operations.tolist(), strict=True)) for items, operations in both]


@given(tables)
def test_select_keeps_the_chosen_events_and_drops_sessions_left_empty(
    sessions: list[list[tuple[int, int, bool]]],
) -> None:
    table, keep = table_of(sessions)
    selected = table.select(keep)
    expected = [[(item, operation) for item, operation, kept in session if kept] for session in sessions]
    assert as_lists(selected) == [session for session in expected if session]
    assert selected.times.tolist() == np.flatnonzero(keep).tolist()


@given(tables, tables)
def test_concatenated_sessions_stand_one_after_the_other(
    first: list[list[tuple[int, int, bool]]], second: list[list[tuple[int, int, bool]]]
) -> None:
    one, two = table_of(first)[0], table_of(second)[0]
    assert as_lists(one.concatenate(two)) == as_lists(one) + as_lists(two)


@given(tables)
def test_every_event_knows_its_session(sessions: list[list[tuple[int, int, bool]]]) -> None:
    table, _ = table_of(sessions)
    assert table.session_of_event.tolist() == [row for row, session in enumerate(sessions) for _ in session]
    assert table.lengths.tolist() == [len(session) for session in sessions]
    assert table.num_events == sum(map(len, sessions))


def test_the_empty_table_has_no_session() -> None:
    assert len(SessionTable.empty()) == 0
    assert len(SessionTable.empty().concatenate(SessionTable.empty())) == 0


def test_offsets_that_do_not_cover_the_events_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        SessionTable(np.ones(2, np.int32), np.ones(2, np.int16), np.array([0, 1]), np.zeros(2, np.int64))

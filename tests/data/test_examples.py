"""ExampleTable: every prefix and its next item, against a literal double loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mkmsr.data.sessions import MAX_SESSION_EVENTS, ExampleTable, SessionTable

sessions_of_items = st.lists(st.lists(st.integers(1, 5), max_size=8), max_size=6)


def table_of(sessions: list[list[int]]) -> SessionTable:
    items = np.array([item for session in sessions for item in session], np.int32)
    offsets = np.cumsum([0, *(len(session) for session in sessions)]).astype(np.int64)
    return SessionTable(items, np.ones(len(items), np.int16), offsets, np.zeros(len(items), np.int64))


def literal_examples(sessions: list[list[int]], max_events: int) -> list[tuple[int, list[int], int]]:
    """(session, prefix, target) of every prefix of the newest events of each session."""
    return [
        (row, session[-max_events:][:stop], session[-max_events:][stop])
        for row, session in enumerate(sessions)
        for stop in range(1, len(session[-max_events:]))
    ]


def as_tuples(examples: ExampleTable) -> list[tuple[int, list[int], int]]:
    items = examples.sessions.items
    rows = zip(examples.session, examples.begin, examples.end, examples.targets, strict=True)
    return [(int(session), items[begin:end].tolist(), int(target)) for session, begin, end, target in rows]


@given(sessions_of_items, st.integers(1, 9))
def test_every_prefix_of_the_newest_events_is_an_example(sessions: list[list[int]], max_events: int) -> None:
    examples = ExampleTable.from_sessions(table_of(sessions), max_events=max_events)
    assert as_tuples(examples) == literal_examples(sessions, max_events)
    assert examples.lengths.tolist() == [len(prefix) for _, prefix, _ in as_tuples(examples)]


@given(sessions_of_items)
def test_a_repeat_is_a_target_that_its_own_prefix_holds(sessions: list[list[int]]) -> None:
    examples = ExampleTable.from_sessions(table_of(sessions))
    expected = [target in prefix for _, prefix, target in as_tuples(examples)]
    assert examples.target_in_prefix().tolist() == expected


def test_the_longest_prefix_has_one_event_less_than_the_longest_session() -> None:
    examples = ExampleTable.from_sessions(table_of([list(range(1, 301))]))
    assert len(examples) == MAX_SESSION_EVENTS - 1
    assert examples.lengths.max() == MAX_SESSION_EVENTS - 1
    assert examples.targets[-1] == 300
    assert examples.sessions.items[examples.begin[0]] == 300 - MAX_SESSION_EVENTS + 1


def test_sessions_of_one_event_give_no_example() -> None:
    assert len(ExampleTable.from_sessions(table_of([[1], [2]]))) == 0
    assert len(ExampleTable.from_sessions(SessionTable.empty())) == 0


def test_chosen_rows_keep_their_prefix_and_target() -> None:
    examples = ExampleTable.from_sessions(table_of([[1, 2, 3], [4, 5]]))
    chosen = examples.rows(np.array([2, 0]))
    assert as_tuples(chosen) == [(1, [4], 5), (0, [1], 2)]
    assert as_tuples(examples.rows(examples.targets == 3)) == [(0, [1, 2], 3)]

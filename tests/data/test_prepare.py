"""Preparation against a literal description of it, and on small logs with known answers."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import log_of

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.sessions import SessionTable
from mkmsr.errors import ConfigError, DataError

Row = tuple[str, str, str, int]
Session = list[tuple[str, str, int]]
"""A session as (item, operation, time), oldest first."""


def sessions_of(dataset: PreparedDataset, table: SessionTable) -> list[Session]:
    """A table's sessions with external ids."""
    found = []
    for begin, end in pairwise(table.offsets):
        rows = zip(table.items[begin:end], table.operations[begin:end], table.times[begin:end], strict=True)
        found.append([(dataset.items.id(int(i)), dataset.operations.id(int(o)), int(t)) for i, o, t in rows])
    return found


def literal(rows: list[Row], options: PrepareOptions) -> tuple[list[list[Session]], list[str]]:
    """Sessions of the three splits and the item vocabulary, written out as the documentation says it."""
    events = sorted(enumerate(rows), key=lambda each: (each[1][0], each[1][3], each[0]))
    sessions: list[list[tuple[int, Row]]] = []
    for number, row in events:
        last = sessions[-1][-1][1] if sessions else None
        if last is None or last[0] != row[0] or row[3] - last[3] > (options.gap_seconds or 3600):
            sessions.append([])
        sessions[-1].append((number, row))
    first_row = {number: min(n for n, _ in session) for session in sessions for number, _ in session}
    least = options.min_session_events or 2
    before = None
    while before != sessions:
        before = sessions
        counts = Counter(row[1] for session in sessions for _, row in session)
        kept = [[e for e in session if counts[e[1][1]] >= options.min_item_events] for session in sessions]
        sessions = [session for session in kept if len(session) >= least]
    sessions.sort(key=lambda session: (session[-1][1][3], first_row[session[0][0]]))
    train, test = cut(sessions, options.test_share)
    train, validation = cut(train, options.validation_share)
    known = {row[1] for session in train + validation for _, row in session}
    if options.new_items == "drop":
        test = [[e for e in session if e[1][1] in known] for session in test]
        test = [session for session in test if len(session) >= least]
    splits = [train, validation, test]
    first: dict[str, tuple[int, int, int]] = {}
    for rank, split in enumerate(splits):
        for session in split:
            for _, row in session:
                at = next(n for n, each in enumerate(rows) if each[1] == row[1])
                old = first.get(row[1], (rank, row[3], at))
                first[row[1]] = (min(old[0], rank), min(old[1], row[3]), at)
    plain = [[[(row[1], row[2], row[3]) for _, row in session] for session in split] for split in splits]
    return plain, sorted(first, key=first.__getitem__)


def cut(sessions: list, share: float) -> tuple[list, list]:
    """Sessions in order, divided where the newer ones first hold a share of the events."""
    total = sum(map(len, sessions))
    wanted = max(1, round(total * share)) if share and total else 0
    held, place = 0, len(sessions)
    while held < wanted:
        place -= 1
        held += len(sessions[place])
    return sessions[:place], sessions[place:]


def ranked(splits: list[list[Session]], options: PrepareOptions) -> tuple[list[Session], list[Session]]:
    """Sessions of test and validation as ranked: without what train does not know, if new items are dropped."""
    train, validation, test = splits
    known = {item for session in train for item, _, _ in session}
    if options.new_items == "drop":
        validation = [[event for event in session if event[0] in known] for session in validation]
    return test, validation


rows_strategy = st.lists(
    st.tuples(st.sampled_from("uvw"), st.sampled_from("abcdefgh"), st.sampled_from("xyz"), st.integers(0, 90)),
    min_size=12,
    max_size=60,
)
options_strategy = st.builds(
    PrepareOptions,
    gap_seconds=st.integers(2, 12),
    min_session_events=st.sampled_from([None, 1, 3]),
    min_item_events=st.sampled_from([1, 1, 2, 3]),
    test_share=st.sampled_from([0, 0.1, 0.3]),
    validation_share=st.sampled_from([0, 0.1, 0.3]),
    new_items=st.sampled_from(["drop", "keep"]),
)


@settings(max_examples=120, deadline=None)
@given(rows_strategy, options_strategy)
def test_preparation_equals_its_literal_description(rows, options):
    splits, items = literal(rows, options)
    log = log_of(rows, owner="user_id")
    if not splits[0]:
        with pytest.raises(DataError, match=r"no session is left|no training session"):
            prepare(log, options)
        return
    if nothing_to_rank := [
        split
        for split, share, sessions in zip(
            ("test", "validation"), (options.test_share, options.validation_share), ranked(splits, options), strict=True
        )
        if share and max(map(len, sessions), default=0) < 2
    ]:
        with pytest.raises(DataError, match=f"the {nothing_to_rank[0]} is empty"):
            prepare(log, options)
        return
    dataset = prepare(log, options)
    assert [sessions_of(dataset, table) for table in (dataset.train, dataset.validation, dataset.test)] == splits
    assert list(dataset.items.ids) == items


def test_a_pause_of_exactly_the_gap_does_not_cut_and_one_second_more_does():
    rows = [("u", "a", "x", 0), ("u", "b", "x", 3600), ("u", "c", "x", 7201), ("u", "d", "x", 7202)]
    dataset = prepare(log_of(rows, owner="user_id"), PrepareOptions(test_share=0, validation_share=0))
    assert dataset.train.lengths.tolist() == [2, 2]


def test_events_of_one_second_keep_the_order_of_the_file():
    rows = [("s", item, "x", 5) for item in "dacb"]
    dataset = prepare(log_of(rows), PrepareOptions(test_share=0, validation_share=0))
    assert [item for item, _, _ in sessions_of(dataset, dataset.train)[0]] == list("dacb")


def test_a_file_out_of_order_is_put_in_order_of_time():
    rows = [("s", "late", "x", 9), ("s", "early", "x", 1)]
    dataset = prepare(log_of(rows), PrepareOptions(test_share=0, validation_share=0))
    assert [item for item, _, _ in sessions_of(dataset, dataset.train)[0]] == ["early", "late"]


def test_filters_repeat_until_nothing_changes():
    rows = [("s1", "a", "x", 0), ("s1", "b", "x", 1), ("s2", "b", "x", 2), ("s2", "c", "x", 3), ("s2", "d", "x", 4)]
    rows += [("s3", "c", "x", 5), ("s3", "d", "x", 6)]
    # `a` goes, so s1 goes, so b stands once and goes: c and d are left.
    options = PrepareOptions(min_item_events=2, test_share=0, validation_share=0)
    dataset = prepare(log_of(rows), options)
    assert sorted(dataset.items.ids) == ["c", "d"]
    assert dataset.metadata["preparation"]["events"]["filter_rounds"] >= 3


def test_doubles_are_dropped_only_on_request():
    rows = [("s", "a", "x", 0), ("s", "a", "x", 0), ("s", "a", "y", 0), ("s", "b", "x", 1)]
    kept = prepare(log_of(rows), PrepareOptions(test_share=0, validation_share=0))
    dropped = prepare(log_of(rows), PrepareOptions(test_share=0, validation_share=0, drop_duplicates=True))
    assert (kept.train.num_events, dropped.train.num_events) == (4, 3)
    assert dropped.metadata["preparation"]["events"]["duplicates_dropped"] == 1


ROWS = [
    (f"s{n}", item, "x", n * 10_000 + at)
    for n in range(20)
    for at, item in enumerate(["a", "b"] if n < 18 else ["a", "new", "b"])
]


def test_new_items_are_kept_at_the_end_of_the_vocabulary_or_dropped():
    keep = prepare(log_of(ROWS), PrepareOptions(new_items="keep"))
    drop = prepare(log_of(ROWS), PrepareOptions(new_items="drop"))
    assert list(keep.items.ids) == ["a", "b", "new"]
    assert list(drop.items.ids) == ["a", "b"]
    assert (keep.test.num_events, drop.test.num_events) == (6, 4)
    assert drop.metadata["preparation"]["events"]["events_of_new_items_dropped"] == 2


def test_a_test_session_left_with_one_event_vanishes():
    rows = [*ROWS[:36], ("z", "new", "x", 10**6), ("z", "a", "x", 10**6 + 1)]
    assert len(prepare(log_of(rows), PrepareOptions(test_share=0.1, new_items="drop")).test) == 1
    assert len(prepare(log_of(rows), PrepareOptions(test_share=0.1, new_items="keep")).test) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"the test is empty: .* events of items that earlier sessions have; .*--new-items keep.*--test-share"),
        ({"test_share": 0, "validation_share": 0.05}, r"the validation is empty: .*--validation-share"),
    ],
)
def test_a_split_without_examples_that_was_asked_for_is_refused(options, message):
    rows = [*ROWS[:36], ("z", "new", "x", 10**6), ("z", "newer", "x", 10**6 + 1)]
    with pytest.raises(DataError, match=message):
        prepare(log_of(rows), PrepareOptions(**{"test_share": 0.05, **options}))
    empty = prepare(log_of(rows), PrepareOptions(test_share=0, validation_share=0))
    assert (len(empty.validation), len(empty.test)) == (0, 0)


def with_robot(events: int) -> list[Row]:
    return [*ROWS, *[("robot", "ab"[at % 2], "x", 10**6 + at) for at in range(events)]]


@pytest.mark.parametrize(("events", "warned"), [(200, True), (30, True), (29, False)])
def test_a_session_that_is_much_of_a_split_is_warned_of(events, warned, caplog):
    prepare(log_of(with_robot(events)), PrepareOptions(test_share=0.3))
    said = [each for each in caplog.messages if each.startswith(f"one session holds {events} of the")]
    assert bool(said) == warned
    assert all("of test; if it is a robot's, drop such sessions" in each for each in said)


def test_sessions_longer_than_asked_for_are_dropped_and_counted():
    clean, dropped = prepare(log_of(ROWS)), prepare(log_of(with_robot(200)), PrepareOptions(longest_session=199))
    assert sessions_of(dropped, dropped.test) == sessions_of(clean, clean.test)
    counts = dropped.metadata["preparation"]["events"]
    assert (counts["long_sessions_dropped"], counts["events_of_long_sessions_dropped"]) == (1, 200)
    assert prepare(log_of(with_robot(200)), PrepareOptions(longest_session=200)).test.lengths.max() == 200


def test_items_are_ordered_by_split_then_by_first_occurrence():
    rows = [(f"s{n}", item, "x", n * 100 + at) for n in range(10) for at, item in enumerate([f"i{n % 8}", f"j{n}"])]
    dataset = prepare(log_of(rows), PrepareOptions(new_items="keep", test_share=0.1, validation_share=0.2))
    seen = dataset.train.items.max()
    assert list(dataset.items.ids[:4]) == ["i0", "j0", "i1", "j1"]
    assert set(dataset.train.items) == set(range(1, seen + 1))
    assert dataset.validation.items.max() < dataset.test.items.max() == len(dataset.items)


def test_sessions_of_each_split_end_in_order_and_before_those_of_the_next():
    dataset = prepare(log_of(ROWS), PrepareOptions(validation_share=0.3))
    ends = [table.times[table.offsets[1:] - 1].tolist() for table in (dataset.train, dataset.validation, dataset.test)]
    assert list(chain(*ends)) == sorted(chain(*ends))


def test_a_log_already_split_keeps_sessions_of_one_event():
    rows = [("a", "x", "o", 1), ("a", "y", "o", 2), ("b", "x", "o", 0), ("c", "x", "o", 3), ("c", "y", "o", 4)]
    splits = ["train", "train", "test", "test", "test"]
    dataset = prepare(log_of(rows, splits=splits), PrepareOptions(validation_share=0))
    assert (dataset.train.lengths.tolist(), dataset.test.lengths.tolist()) == ([2], [1, 2])


def test_the_logs_own_validation_is_kept():
    rows = [
        (s, item, "o", t)
        for t, (s, item) in enumerate([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x"), ("c", "y")])
    ]
    splits = ["validation", "validation", "train", "train", "test", "test"]
    dataset = prepare(log_of(rows, splits=splits))
    assert dataset.validation.times.tolist() == [0, 1]
    assert dataset.train.times.tolist() == [2, 3]


def test_a_session_in_two_splits_is_refused():
    rows = [("a", "x", "o", 1), ("a", "y", "o", 2), ("b", "x", "o", 3)]
    with pytest.raises(DataError, match=r"row 2: this session has events in more than one split"):
        prepare(log_of(rows, splits=["train", "test", "train"]))


def test_a_log_with_no_session_of_two_events_is_refused():
    with pytest.raises(DataError, match=r"no session is left: none has 2 events of items that occur once or more"):
        prepare(log_of([("a", "x", "o", 1), ("b", "y", "o", 2)]))


def test_a_log_too_small_to_split_is_refused():
    with pytest.raises(DataError, match=r"the split leaves no training session; give more data or smaller"):
        prepare(log_of([("a", "x", "o", 1), ("a", "y", "o", 2)]))


def test_the_catalogue_can_hold_items_that_only_the_attributes_know():
    attributes = [("b", "brand", "x"), ("unsold", "brand", "x"), ("a", "brand", "y"), ("other", "brand", "z")]
    log = log_of(ROWS, attributes=attributes)
    narrow, wide = prepare(log), prepare(log, PrepareOptions(catalogue="attributes"))
    assert list(narrow.items.ids) == ["a", "b"]
    assert list(wide.items.ids) == ["a", "b", "unsold", "other"]
    assert wide.knowledge.describe_item(3) == {"brand": ["x"]}
    assert not wide.seen_before("test")[3]


def test_a_catalogue_from_attributes_needs_attributes():
    with pytest.raises(ConfigError, match=r"catalogue: the log has no attribute table"):
        prepare(log_of(ROWS), PrepareOptions(catalogue="attributes"))


def test_an_attribute_table_of_other_ids_is_remarked_upon(caplog):
    with caplog.at_level("WARNING"):
        prepare(log_of(ROWS, attributes=[("a", "brand", "x"), ("A", "brand", "y")]))
        assert not caplog.text
        prepare(log_of(ROWS, attributes=[("A", "brand", "x"), ("B", "brand", "y")]))
    assert "ids must be written alike: 'a' in the log, 'A' in the table" in caplog.text


def test_triples_are_distinct_sorted_and_point_behind_the_items():
    attributes = [("b", "shop", "1"), ("a", "brand", "x"), ("a", "shop", "1"), ("a", "shop", "1"), ("b", "brand", "1")]
    knowledge = prepare(log_of(ROWS, attributes=attributes)).knowledge
    assert list(knowledge.relations.ids) == ["shop", "brand"]
    assert list(knowledge.attributes.ids) == ["shop=1", "brand=x", "brand=1"]
    assert knowledge.triples.tolist() == [[1, 1, 3], [1, 2, 4], [2, 1, 3], [2, 2, 5]]


def test_doubles_cannot_be_told_without_times():
    log = log_of(ROWS)
    without = type(log)(log.events.drop("time"))
    with pytest.raises(ConfigError, match=r"drop_duplicates: needs a time column"):
        prepare(without, PrepareOptions(drop_duplicates=True))


def test_the_same_log_gives_the_same_dataset():
    assert prepare(log_of(ROWS)).fingerprint == prepare(log_of(ROWS)).fingerprint

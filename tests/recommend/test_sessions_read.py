"""The vectorised encoder against a literal loop over sessions and events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shop import ITEMS, OPERATIONS, fitted, small_shop

from mkmsr.bundle.model_bundle import ModelBundle, load_bundle, new_bundle, save_bundle
from mkmsr.data.sessions import MOST_EARLIER_ITEMS
from mkmsr.recommend.sessions import SessionEncoder, default_operation


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    config, model = fitted("recency", small_shop())
    folder = tmp_path_factory.mktemp("bundles") / "b"
    return load_bundle(save_bundle(folder, new_bundle(model, name="recency", config=config, dataset=small_shop())))


EVENTS = st.lists(
    st.tuples(st.sampled_from([*ITEMS, "ghost"]), st.sampled_from([*OPERATIONS, "never seen", "", None])), max_size=70
)
SESSIONS = st.lists(
    st.fixed_dictionaries(
        {"events": EVENTS, "earlier": EVENTS, "exclude": st.lists(st.sampled_from([*ITEMS, "ghost"]))}
    ),
    min_size=1,
    max_size=6,
)


def indexes(bundle: ModelBundle, events: list[Any]) -> list[tuple[int, int]]:
    known = [(item, operation) for item, operation in events if item in bundle.items]
    usual = default_operation(bundle)
    return [
        (bundle.items.index(item), bundle.operations.index(how) if how in bundle.operations else usual)
        for item, how in known
    ]


@settings(max_examples=60, deadline=None)
@given(sessions=SESSIONS)
def test_encoding_equals_a_loop_over_events(sessions: list[dict[str, Any]], bundle: ModelBundle) -> None:
    found = SessionEncoder(bundle).encode({str(row): session for row, session in enumerate(sessions)})
    assert len(found) == len(sessions)
    for row, session in enumerate(sessions):
        known = indexes(bundle, session["events"])
        events = slice(found.offsets[row], found.offsets[row + 1])
        pairs = list(zip(found.items[events].tolist(), found.operations[events].tolist(), strict=True))
        assert pairs == known[-(bundle.max_session_events - 1) :]
        assert found.is_empty[row] == (not known)
        assert found.skipped[row] == sum(item == "ghost" for item, _ in session["events"])
        assert found.replaced[row] == sum(
            item != "ghost" and how in ("never seen", "") for item, how in session["events"]
        )
        newest: dict[int, int] = {}
        for item, operation in reversed(indexes(bundle, session["earlier"])):
            newest.setdefault(item, operation)
        if found.earlier is not None:
            own = found.earlier.rows(row, row + 1)
            before = list(zip(own.items.tolist(), own.operations.tolist(), strict=True))
            assert before == list(newest.items())[:MOST_EARLIER_ITEMS]
        else:
            assert not newest


@settings(max_examples=30, deadline=None)
@given(sessions=SESSIONS, own_items=st.booleans(), operation=st.sampled_from([None, *OPERATIONS]))
def test_exclusions_equal_a_loop_over_events(
    sessions: list[dict[str, Any]], own_items: bool, operation: str | None, bundle: ModelBundle
) -> None:
    found = SessionEncoder(bundle).encode({str(row): session for row, session in enumerate(sessions)})
    asked = [] if operation is None else [bundle.operations.index(operation)]
    expected = set()
    for row, session in enumerate(sessions):
        now, before = indexes(bundle, session["events"]), indexes(bundle, session["earlier"])
        expected |= {(row, bundle.items.index(item)) for item in session["exclude"] if item in bundle.items}
        expected |= {(row, item) for item, _ in now if own_items}
        expected |= {(row, item) for item, how in now + before if how in asked}
    assert set(zip(*found.exclusions(own_items, asked).tolist(), strict=True)) == expected


def test_a_batch_holds_the_sessions_that_are_not_empty(bundle: ModelBundle) -> None:
    sessions = {"1": ["plain"], "2": [], "3": ["ghost"], "4": ["item-03", "item-04"]}
    found = SessionEncoder(bundle).encode(sessions)
    batch = found.batch(np.array([0, 3]), wanted=2)
    assert batch.items.tolist() == [bundle.items.index(each) for each in ("plain", "item-03", "item-04")]
    assert batch.lengths.tolist() == [1, 2]
    assert batch.wanted is not None
    assert batch.wanted.tolist() == [2, 2]
    assert batch.earlier is None

"""Reminders: shares of returns against a slow count, and what an item seen before gets beyond its votes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mkmsr.data.batching import SessionBatch
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import EarlierItems, ExampleTable, SessionTable
from mkmsr.models.base import ModelSizes, SessionModel, TrainingData
from mkmsr.models.neighbours.reminders import newest_examples, return_shares
from mkmsr.models.registry import model_entry
from tests.conftest import earlier_batch, session_table

NUM_ITEMS = 9


def table_of(sessions: list[list[int]]) -> SessionTable:
    return session_table(*([(item, 1) for item in session] for session in sessions))


def training_on(table: SessionTable) -> TrainingData:
    return TrainingData(table, ExampleTable.from_sessions(table), KnowledgeGraph.empty(NUM_ITEMS))


def fitted(table: SessionTable, **values: object) -> SessionModel:
    entry = model_entry("sr")
    model = entry.build(entry.configure({"tie_break": "none", **values}), ModelSizes(NUM_ITEMS, 1))
    model.observe(training_on(table))
    return model


def batch_of(*prefixes: list[int]) -> SessionBatch:
    return SessionBatch.from_sequences([(prefix, [1] * len(prefix)) for prefix in prefixes])


def slow_shares(table: SessionTable, places: int) -> np.ndarray:
    """For every event and every item before it in its session: whether the event returned to it."""
    found: dict[tuple[int, int], list[bool]] = {}
    for row in range(len(table)):
        items = table.session(row)[0].tolist()
        for event in range(1, len(items)):
            prefix = items[:event][::-1]
            for item in set(prefix):
                at = [place for place, each in enumerate(prefix, start=1) if each == item]
                column = places + 1 if set(prefix) == {item} else min(at[1] - at[0], places) if len(at) > 1 else 0
                found.setdefault((min(at[0], places), column), []).append(items[event] == item)
    shares = np.zeros((places + 1, places + 2))
    for place in range(1, places + 1):
        of_row = [each for key, cases in found.items() if key[0] == place for each in cases]
        for column in range(places + 2):
            cases = found.get((place, column), [])
            shares[place, column] = (sum(cases) + 20 * (np.mean(of_row) if of_row else 0)) / (len(cases) + 20)
    return shares


@pytest.mark.parametrize("places", [2, 4, 30])
def test_shares_of_returns_match_a_slow_count(places: int) -> None:
    rng = np.random.default_rng(9)
    table = table_of([rng.integers(1, 5, size=rng.integers(1, 12)).tolist() for _ in range(30)])
    np.testing.assert_allclose(return_shares(table, places).numpy(), slow_shares(table, places), rtol=1e-6)


def test_a_log_without_sessions_has_no_returns() -> None:
    assert not return_shares(SessionTable.empty(), 3).any()


def test_the_newest_tenth_of_the_sessions_is_held_out() -> None:
    training = training_on(table_of([[1, 2, 3]] * 25))
    older, newest = newest_examples(training)
    assert len(older) == 23
    assert newest.session.tolist() == [23, 23, 24, 24]
    assert len(newest_examples(training_on(table_of([[1, 2]] * 9)))[0]) == 9


def test_a_reminder_is_the_chance_of_a_return_over_that_of_the_best_vote() -> None:
    table = table_of([[1, 2], [1, 1], [2, 2], *[[1, 2]] * 17])  # After 1 comes 2, in both new sessions too.
    of_one, of_several = (2 + 0.05 * 20) / (2 + 20), 0.05
    scores = fitted(table, own_votes=0.0).score(batch_of([1], [2], [3, 4]))
    returned = 2 / 20
    alone, last = returned / of_one, returned / of_several  # Cells without a case have the share of their row.
    np.testing.assert_allclose(scores[:, 1:5].numpy(), [[alone, 1, 0, 0], [0, alone, 0, 0], [0, 0, 0, last]], rtol=1e-6)


def test_where_nobody_returns_nothing_is_reminded_of() -> None:
    scores = fitted(table_of([[1, 2, 3], [2, 3]])).score(batch_of([4, 5]))
    assert not scores[0, 1:].any()


def test_an_item_counts_once_by_the_places_of_its_two_newest_events() -> None:
    model = fitted(table_of([[1, 2, 1, 1], [3, 4, 3], [5, 6, 7]] * 4), own_votes=0.0)
    scores = model.score(batch_of([8, 9], [8, 9, 8], [8, 8]))
    own = model.reminders.own
    torch.testing.assert_close(scores[0, 8:10], own[[2, 1], [0, 0]])
    torch.testing.assert_close(scores[1, 8:10], own[[1, 2], [2, 0]])
    torch.testing.assert_close(scores[2, 8], own[1, -1])


def test_items_of_earlier_sessions_weigh_how_often_visitors_came_back_to_them() -> None:
    table = table_of([[1, 2]] * 18 + [[1, 3], [1, 2]])
    known = EarlierItems(np.array([3, 4, 3], np.int32), np.ones(3, np.int16), np.array([*[0] * 19, 2, 3]))
    model = fitted(replace(table, earlier=known))
    best_share = 0.05  # No prefix of several items was held out.
    batch = replace(batch_of([5], [6]), earlier=earlier_batch([[(7, 1), (8, 1)], []]))
    scores = model.score(batch)
    np.testing.assert_allclose(scores[0, 7:9].numpy(), [1 / 2 / best_share, 0], rtol=1e-6)
    assert not scores[1, 1:].any()


@pytest.mark.parametrize("name", ["sr", "item-knn", "s-knn", "v-sknn", "stan", "vstan"])
def test_where_sessions_stay_with_their_last_item_no_neighbour_is_below_recency(name: str) -> None:
    rng = np.random.default_rng(1)
    sessions = [np.repeat(rng.integers(1, NUM_ITEMS + 1, 3), rng.geometric(0.2, 3)).tolist() for _ in range(60)]
    entry = model_entry(name)
    model = entry.build(entry.configure(), ModelSizes(NUM_ITEMS, 1))
    model.observe(training_on(table_of(sessions)))
    prefixes = [session[:end] for session in sessions for end in range(1, len(session))]
    assert model.score(batch_of(*prefixes)).argmax(1).tolist() == [prefix[-1] for prefix in prefixes]

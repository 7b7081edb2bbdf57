"""Neighbour models against their formulae written out as loops over sessions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mkmsr.data.batching import SessionBatch
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import read_log
from mkmsr.data.sessions import ExampleTable, SessionTable
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.models.base import ModelSizes, TrainingData
from mkmsr.models.neighbours.indexed_sessions import places_of
from mkmsr.models.neighbours.session_index import SessionIndex
from mkmsr.models.neighbours.session_neighbours import SessionNeighbours
from mkmsr.models.neighbours.voting import NO_DECAY, Decay, VoteSettings, heaviest_first
from mkmsr.models.registry import model_entry

NUM_COLUMNS = 9
DAY = 86_400
SETTINGS = {
    "cosine": VoteSettings(),
    "few": VoteSettings(neighbours=3, sample_size=4),
    "one": VoteSettings(neighbours=1, sample_size=100, prefix_decay=Decay("linear")),
    "linear": VoteSettings(
        cosine=False, prefix_decay=Decay("linear"), match_decay=Decay("linear", 3.0), neighbours=5, idf_weight=2.0
    ),
    "exponential": VoteSettings(
        prefix_decay=Decay("exponential", 1.5),
        age_decay=Decay("exponential", 7.0),
        gap_decay=Decay("exponential", 2.0),
        neighbours=4,
        sample_size=6,
    ),
    "reciprocal": VoteSettings(
        cosine=False, prefix_decay=Decay("reciprocal"), match_decay=Decay("reciprocal"), gap_decay=Decay("reciprocal")
    ),
}


def table_of(sessions: Sequence[Sequence[int]], days: Sequence[float]) -> SessionTable:
    """Sessions of items; each event of session s at `days[s]`."""
    lengths = [len(each) for each in sessions]
    items = np.array([item for each in sessions for item in each], np.int32)
    return SessionTable(
        items,
        np.ones(len(items), np.int16),
        np.cumsum([0, *lengths]).astype(np.int64),
        np.repeat(np.array(days) * DAY, lengths).astype(np.int64),
    )


def random_table(seed: int = 0, sessions: int = 40) -> SessionTable:
    rng = np.random.default_rng(seed)
    made = [rng.integers(1, NUM_COLUMNS, size=size).tolist() for size in rng.integers(0, 7, size=sessions)]
    return table_of(made, rng.integers(0, 20, size=sessions).tolist())


def batch_of(prefixes: Sequence[Sequence[int]]) -> SessionBatch:
    return SessionBatch.from_sequences([(each, [1] * len(each)) for each in prefixes])


def built(table: SessionTable) -> SessionIndex:
    index = SessionIndex(NUM_COLUMNS, by_age=True)
    index.build(table)
    return index


def decayed(decay: Decay, distance: int, length: int) -> float:
    if decay.kind == "none":
        return 1.0
    if decay.kind == "reciprocal":
        return 1 / (distance + 1)
    if decay.kind == "exponential":
        assert decay.scale is not None
        return math.exp(-distance / decay.scale)
    return max(0.0, 1 - distance / (length if decay.scale is None else decay.scale))


def slow_votes(table: SessionTable, prefix: list[int], chosen: VoteSettings) -> dict[int, float]:
    """The formula of VoteSettings for one prefix, session by session."""
    sessions = [table.session(row)[0].tolist() for row in range(len(table))]
    end = {row: int(table.times[table.offsets[row + 1] - 1]) for row in range(len(table)) if sessions[row]}
    newest_first = sorted(end, key=lambda row: (end[row], row), reverse=True)
    steps = {item: prefix[::-1].index(item) for item in prefix}
    sample = [row for row in newest_first if set(prefix) & set(sessions[row])][: chosen.sample_size]
    found = []
    for row in sample:
        shared = set(prefix) & set(sessions[row])
        similarity = sum(decayed(chosen.prefix_decay, steps[item], len(prefix)) for item in shared)
        if chosen.cosine:
            similarity /= math.sqrt(len(set(prefix)) * len(set(sessions[row])))
        age = (end[sample[0]] - end[row]) / DAY
        if chosen.age_decay.kind != "none":
            assert chosen.age_decay.scale is not None
            similarity *= math.exp(-age / chosen.age_decay.scale)
        newest = min(shared, key=lambda item: steps[item])
        anchor, match = sessions[row][::-1].index(newest), steps[newest]
        found.append((similarity, row, match, len(sessions[row]) - 1 - anchor))
    best = sorted(found, key=lambda each: round(each[0], 5), reverse=True)[: chosen.neighbours]
    votes: dict[int, float] = {}
    for similarity, row, match, anchor in best:
        place = {item: position for position, item in enumerate(sessions[row])}
        for item, position in place.items():
            weight = similarity * decayed(chosen.match_decay, match, len(prefix))
            weight *= decayed(chosen.gap_decay, abs(position - anchor), len(prefix))
            holders = sum(item in each for each in sessions)
            weight *= 1 + chosen.idf_weight * math.log(len(end) / holders)
            votes[item] = votes.get(item, 0.0) + weight
    return votes


@pytest.fixture(scope="module")
def demo(shared_data: Path) -> PreparedDataset:
    return prepare(read_log("jdata-demo", shared_data / "jdata_demo"), PrepareOptions(new_items="drop"))


PREFIXES = [[1, 2, 3, 2], [8], [5, 5, 6], [3, 1, 4, 1, 5, 2, 6]]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("seed", range(3))
def test_votes_follow_the_formula(name: str, seed: int) -> None:
    table = random_table(seed)
    votes, _ = built(table).vote(batch_of(PREFIXES), SETTINGS[name])
    keys = list(zip(votes.rows.tolist(), votes.items.tolist(), strict=True))
    assert keys == sorted(set(keys))
    fast = dict(zip(keys, votes.weights.tolist(), strict=True))
    slow = {
        (row, item): weight
        for row, prefix in enumerate(PREFIXES)
        for item, weight in slow_votes(table, prefix, SETTINGS[name]).items()
    }
    assert fast.keys() == slow.keys()
    assert fast == pytest.approx(slow, rel=1e-5, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, NUM_COLUMNS - 1), max_size=6), max_size=12),
    st.lists(st.integers(1, NUM_COLUMNS - 1), min_size=1, max_size=6),
    st.integers(1, 5),
)
def test_any_log_and_prefix_follow_the_formula(sessions: list[list[int]], prefix: list[int], sample: int) -> None:
    table = table_of(sessions, range(len(sessions)))
    chosen = VoteSettings(neighbours=3, sample_size=sample, gap_decay=Decay("exponential", 3.0))
    votes, _ = built(table).vote(batch_of([prefix]), chosen)
    expected = slow_votes(table, prefix, chosen)
    assert dict(zip(votes.items.tolist(), votes.weights.tolist(), strict=True)) == pytest.approx(expected, rel=1e-5)


def test_the_newest_of_equally_similar_sessions_are_chosen() -> None:
    table = table_of([[1, 2], [1, 3], [1, 4], [1, 5]], [3, 9, 1, 5])
    index = built(table)
    found = index.neighbours(batch_of([[1]]), VoteSettings(neighbours=2))
    places = places_of(table).tolist()
    assert found.places.tolist() == sorted([places[1], places[3]])


def test_neighbours_stay_within_the_sample_of_recent_sessions() -> None:
    table = table_of([[1, 2], [1, 3], [1, 4, 5, 6]], [0, 1, 2])
    found, _ = built(table).vote(batch_of([[1]]), VoteSettings(sample_size=1))
    assert found.items.tolist() == [1, 4, 5, 6]


def test_old_neighbours_of_a_long_log_still_vote() -> None:
    table = table_of([[1, 2], [3, 4]], [0, 4000])
    found, _ = built(table).vote(batch_of([[1]]), VoteSettings(age_decay=Decay("exponential", 1.0)))
    assert found.items.tolist() == [1, 2]
    assert (found.weights > 0.1).all()


def test_an_index_of_nothing_votes_for_nothing() -> None:
    batch = batch_of([[1, 2], [3]])
    for index in (SessionIndex(NUM_COLUMNS), built(SessionTable.empty())):
        assert len(index.vote(batch, VoteSettings())[0]) == 0


def training(table: SessionTable) -> TrainingData:
    return TrainingData(table, ExampleTable.from_sessions(table), KnowledgeGraph.empty(NUM_COLUMNS - 1))


def fitted(name: str, table: SessionTable, **values: object) -> SessionNeighbours:
    entry = model_entry(name)
    model = entry.build(entry.configure(values), ModelSizes(NUM_COLUMNS - 1, 1))
    model.observe(training(table))
    assert isinstance(model, SessionNeighbours)
    return model


PUBLISHED = {"reminders": False, "own_votes": 1.0, "tie_break": "none", "second_hop": 0.0}
PLAIN = {**PUBLISHED, "neighbours": 5, "sample_size": 50}


@pytest.mark.parametrize(
    ("name", "values", "meaning"),
    [
        ("s-knn", {}, VoteSettings(5, 50)),
        (
            "v-sknn",
            {"prefix_decay": "linear", "prefix_scale": 0.0, "cosine": False},
            VoteSettings(5, 50, cosine=False, prefix_decay=Decay("linear"), match_decay=Decay("linear", 10.0)),
        ),
        (
            "stan",
            {"prefix_scale": 2.0, "age_scale": 3.0, "gap_scale": 4.0},
            VoteSettings(
                5,
                50,
                prefix_decay=Decay("exponential", 2.0),
                age_decay=Decay("exponential", 3.0),
                gap_decay=Decay("exponential", 4.0),
            ),
        ),
        (
            "vstan",
            {"prefix_scale": 0.0, "age_scale": 3.0, "gap_scale": 4.0, "match_scale": 1.0, "idf_weight": 1.0},
            VoteSettings(
                5,
                50,
                prefix_decay=NO_DECAY,
                age_decay=Decay("exponential", 3.0),
                gap_decay=Decay("exponential", 4.0),
                match_decay=Decay("exponential", 1.0),
                idf_weight=1.0,
            ),
        ),
    ],
)
def test_each_model_is_its_choice_of_weights(name: str, values: dict[str, object], meaning: VoteSettings) -> None:
    table = random_table(5)
    scores = fitted(name, table, **PLAIN, **values).score(batch_of(PREFIXES))
    for row, prefix in enumerate(PREFIXES):
        votes = slow_votes(table, prefix, meaning)
        highest = max(votes.values(), default=1.0)
        expected = [votes.get(item, 0.0) / highest for item in range(1, NUM_COLUMNS)]
        np.testing.assert_allclose(scores[row, 1:].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_the_second_hop_asks_the_neighbours_of_the_best_items() -> None:
    table, weight = random_table(8, sessions=12), 0.25
    scores = fitted("s-knn", table, **{**PLAIN, "second_hop": weight}).score(batch_of(PREFIXES))
    meaning = VoteSettings(5, 50)
    for row, prefix in enumerate(PREFIXES):
        first = slow_votes(table, prefix, meaning)
        second: dict[int, float] = {}
        if first:
            best = sorted(first, key=lambda item: (-round(first[item], 5), item))[:10]
            second = slow_votes(table, best[::-1], VoteSettings(5, 5))
        scale = weight * max(first.values(), default=0.0) / max(second.values(), default=1.0)
        total = np.array([first.get(item, 0.0) + scale * second.get(item, 0.0) for item in range(1, NUM_COLUMNS)])
        np.testing.assert_allclose(scores[row, 1:].numpy(), total / max(total.max(), 1e-9), rtol=1e-4, atol=1e-6)


def test_second_hop_neighbours_reach_what_no_neighbour_has() -> None:
    table = table_of([[1, 2], [2, 3], [5, 6]], [0, 1, 2])
    once, twice = (fitted("stan", table, **{**PLAIN, "second_hop": w}).score(batch_of([[1], [4]])) for w in (0.0, 0.1))
    assert once[0, 3] == 0 < twice[0, 3] <= 0.1
    assert twice[0, 5] == twice[0, 6] == 0
    assert not twice[1, 1:].any()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_votes_for_the_prefixs_own_items_count_less(share: float) -> None:
    weights = {**PLAIN, "own_votes": share}
    scores = fitted("s-knn", table_of([[1, 2]], [0]), **weights).score(batch_of([[1], [1, 1]]))
    np.testing.assert_allclose(scores[:, 1:3].numpy(), [[share, 1.0], [share, 1.0]], rtol=1e-6)


@pytest.mark.parametrize(("tie_break", "order"), [("popularity", [2, 3, 4]), ("recency", [4, 2, 3])])
def test_equal_votes_stand_in_the_chosen_order(tie_break: str, order: list[int]) -> None:
    table = table_of([[2, 2, 2], [3, 3], [1, 2, 3, 4], [2], [4]], [0, 0, 1, 2, 3])
    scores = fitted("s-knn", table, tie_break=tie_break, tie_weight=0.01, second_hop=0.0).score(batch_of([[1]]))
    assert sorted(order, key=lambda item: -float(scores[0, item])) == order
    assert float(scores[0, 1:5].min()) > float(scores[0, 5:].max())


@pytest.mark.parametrize("name", ["v-sknn", "stan", "vstan"])
def test_neighbours_are_strong_rivals_on_the_demo_log(demo: PreparedDataset, name: str) -> None:
    sessions = demo.fitting_sessions(refit=True)
    entry = model_entry(name)
    model = entry.build(entry.configure(), ModelSizes(len(demo.items), len(demo.operations)))
    model.observe(TrainingData(sessions, demo.examples(sessions), demo.knowledge))
    found = evaluate(model, demo.evaluation_split("test")).metrics((20,))
    assert found["hit@20"] >= 0.45
    assert found["mrr@20"] >= 0.185


def test_one_sort_orders_by_row_and_falling_weight_as_two_stable_ones_do() -> None:
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(0, 5, (300,), generator=generator)
    weights = torch.rand(300, generator=generator).mul(8).round().div(8)  # Many equal ones, zeros among them.
    twice = weights.argsort(descending=True, stable=True)
    twice = twice[rows[twice].argsort(stable=True)]
    assert heaviest_first(rows, weights).tolist() == twice.tolist()

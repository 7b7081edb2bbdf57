"""Kinds of examples, other averages, calibration and the shuffle test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.data.dataset import EvaluationSplit, PreparedDataset
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import EarlierItems, ExampleTable, SessionTable
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.evaluation.details import Judged, calibration, details, order_effect, prices, shuffled
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.lists import share_of_sessions
from mkmsr.evaluation.ranks import RankTable

RANKS = np.array([1, 2, 4, 8, 1, 2, 3])
"""Of the examples of the log by eye: four of its first test session, targets 2, 1, 7, 7; three of its last, 8, 6, 5."""


@pytest.fixture
def judged(dataset: PreparedDataset) -> Judged:
    split = dataset.evaluation_split("test")
    share = share_of_sessions(dataset.fitting_sessions(refit=True), 9)
    return Judged(RankTable.of_split(RANKS, split), split, dataset.operations, share)


def rows(judged: Judged, by: str) -> dict[str, tuple[int, float]]:
    found = [row for row in details(judged, (2,)) if row["by"] == by]
    return {row["part"]: (row["examples"], row["hit@2"]) for row in found}


def test_examples_are_divided_by_how_popular_the_next_item_is(judged: Judged) -> None:
    found = rows(judged, "popularity of the next item")
    # Item 2 is the most popular of eight; items 7 and 8 are in no earlier session.
    assert found == {"most popular 1 %": (1, 1.0), "other 90 %": (3, 2 / 3), "in no earlier session": (3, 1 / 3)}


def test_examples_are_divided_by_the_events_before(judged: Judged) -> None:
    assert rows(judged, "prefix length") == {"1 event": (2, 1.0), "2": (2, 1.0), "3 to 5": (3, 0.0)}


def test_examples_are_divided_by_the_operation_of_the_next_event(judged: Judged) -> None:
    assert rows(judged, "operation of the next event") == {"click": (4, 0.5), "cart": (3, 2 / 3)}


def test_examples_are_divided_into_quarters_of_the_sessions_by_time(judged: Judged) -> None:
    assert rows(judged, "time") == {"oldest quarter of sessions": (4, 0.5), "third": (3, 2 / 3)}


def test_a_mean_over_sessions_counts_each_once_and_one_over_last_events_takes_the_others_out(judged: Judged) -> None:
    found = rows(judged, "average")
    assert found["each session counts once"] == (7, pytest.approx((0.5 + 2 / 3) / 2))
    assert found["last event of each session"] == (2, 0.0)
    assert len(found) == 2


def test_a_mean_by_price_is_the_share_of_the_money_that_lists_find(judged: Judged) -> None:
    price = np.array([np.nan, 5, 10, 0, 0, 1, 4, 100, np.nan])
    found = rows(replace(judged, price_V=price), "average")["each next item counts its price"]
    assert found == (6, pytest.approx((10 + 5 + 4) / (10 + 5 + 100 + 100 + 4 + 1)))


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("12.5", 12.5),
        ("€ 12.90", 12.9),
        ("1.299,90 EUR", 1299.9),
        ("1,299.90", 1299.9),
        ("1'299 CHF", 1299),
        ("10..20", np.nan),
        ("sold out", np.nan),
    ],
)
def test_prices_are_read_as_people_write_them(text: str, price: float) -> None:
    items = Vocabulary(["a", "b"], kind="item")
    found = prices(items, {"a": {"price": text}, "b": {"price": "1"}}, KnowledgeGraph.empty(2))
    assert found is not None
    assert found[1:] == pytest.approx(np.array([price, 1]), nan_ok=True)


def test_prices_come_from_a_relation_where_nothing_is_shown(dataset: PreparedDataset) -> None:
    relations, attributes = Vocabulary(["price"], kind="relation"), Vocabulary(["price=3", "price=x"], kind="attribute")
    knowledge = KnowledgeGraph(np.array([[1, 1, 9], [2, 1, 10]]), relations, attributes, num_items=8)
    found = prices(dataset.items, {}, knowledge)
    assert found is not None
    assert found[1] == 3
    assert np.isnan(found[2:]).all()
    assert prices(dataset.items, {"plain": {"name": "7"}}, dataset.knowledge) is None


def test_calibration_sets_what_was_expected_beside_what_was_found(judged: Judged) -> None:
    listed = np.log(np.array([[0.5, 0.3], [0.1, 0.1], [0.1, 0.1], [0.1, 0.1], [0.6, 0.2], [0.1, 0.1], [0.1, 0.1]]))
    found = calibration(np.full(7, -2.0), listed, judged.ranks, groups=2)
    assert found["log_likelihood"] == -2
    assert [each["examples"] for each in found["groups"]] == [4, 3]
    assert [each["expected"] for each in found["groups"]] == pytest.approx([0.2, 0.6])
    assert [each["found"] for each in found["groups"]] == pytest.approx([1 / 2, 2 / 3])
    assert found["calibration_error"] == pytest.approx((4 * 0.3 + 3 * 0.2 / 3) / 7)


def prefixes(split: EvaluationSplit) -> list[list[tuple[int, int]]]:
    examples, sessions = split.examples, split.examples.sessions
    return [
        list(zip(sessions.items[a:b].tolist(), sessions.operations[a:b].tolist(), strict=True))
        for a, b in zip(examples.begin, examples.end, strict=True)
    ]


def test_shuffling_moves_the_events_of_a_prefix_and_nothing_else(dataset: PreparedDataset) -> None:
    split = dataset.evaluation_split("test")
    mixed = [prefixes(shuffled(split, seed)) for seed in range(6)]
    assert all([sorted(each) for each in found] == [sorted(each) for each in prefixes(split)] for found in mixed)
    assert len({str(found) for found in mixed}) > 1
    again = shuffled(split, 0).examples
    assert again.targets.tolist() == split.examples.targets.tolist()
    assert again.sessions.operations[again.end].tolist() == [2, 1, 1, 2, 1, 2, 1]
    assert prefixes(shuffled(split, 0)) == mixed[0]


def test_shuffled_prefixes_keep_what_their_visitors_touched_before(dataset: PreparedDataset) -> None:
    split = dataset.evaluation_split("test")
    earlier = EarlierItems(np.array([3, 4], np.int32), np.array([1, 2], np.int16), np.array([0, 1, 1, 2]))
    examples = replace(split.examples, sessions=replace(split.examples.sessions, earlier=earlier))
    found = shuffled(replace(split, examples=examples)).examples.sessions.earlier
    assert found is not None
    assert found.items.tolist() == [3, 3, 3, 3, 4, 4, 4]
    assert found.offsets.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_order_matters_to_a_model_of_the_newest_event_and_not_to_one_of_the_set() -> None:
    sessions = SessionTable(
        np.tile(np.arange(1, 6, dtype=np.int32), 8), np.ones(40, np.int16), np.arange(9) * 5, np.arange(40)
    )
    split = EvaluationSplit("test", ExampleTable.from_sessions(sessions), np.ones(7, np.bool_))

    def after_newest(batch: SessionBatch) -> Tensor:
        return torch.nn.functional.one_hot(batch.items[batch.last] + 1, 7).float()

    def most_items(batch: SessionBatch) -> Tensor:
        return torch.zeros(len(batch), 7).index_put_((batch.rows, batch.items), torch.ones(1), accumulate=True)

    effects = [
        order_effect(model, split, evaluate(model, split), (1,), samples=100)["hit@1"]
        for model in (after_newest, most_items)
    ]
    assert effects[0].low > 0.2
    assert effects[1].difference == effects[1].low == effects[1].high == 0

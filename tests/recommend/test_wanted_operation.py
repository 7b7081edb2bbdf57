from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from planted_recommender import trained

from mkmsr.data.batching import session_batches
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.errors import ConfigError, UnknownIdError
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.recommend import Recommender

ITEMS = 24
STEP = {"click": 1, "order": 0, "favourite": 7}
"""How far the item of the next event is from the last one, by its own operation: a click goes on, an order repeats."""


@pytest.fixture(scope="module")
def shop() -> PreparedDataset:
    """The operation of each event is drawn uniformly and decides which item it is of: Hit@1 is 1/3 without it."""
    rng = np.random.default_rng(1)
    rows = []
    for session in range(500):
        item = int(rng.integers(ITEMS))
        for event in range(6):
            operation = list(STEP)[int(rng.integers(3))]
            item = (item + STEP[operation]) % ITEMS
            rows.append((f"s{session}", f"item-{item}", operation, session * 1_000 + event))
    events = pl.DataFrame(rows, schema=["session_id", "item_id", "operation", "time"], orient="row")
    return prepare(
        InteractionLog(events.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).lazy(), None, name="wanted"),
        PrepareOptions(),
    )


@pytest.fixture(scope="module")
def recommender(shop: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    folder = tmp_path_factory.mktemp("bundles")
    settings = {"dim": 48, "dropout": 0.1, "neighbours": False}
    return trained(shop, folder, training={"epochs": 12}, target_operation=True, **settings)


def test_the_operation_that_is_asked_for_decides_the_item(recommender: Recommender, shop: PreparedDataset) -> None:
    model = recommender.bundle.model
    batch = next(session_batches(shop.evaluation_split("test").examples, 10_000))
    with torch.no_grad():
        told = model.score(replace(batch, wanted=batch.target_operations)).argmax(1) == batch.targets
        open_ = model.score(batch)
    assert told.float().mean() > 0.95
    assert (open_.argmax(1) == batch.targets).float().mean() < 0.5
    best = open_.topk(3).indices
    assert (best == batch.targets[:, None]).any(1).float().mean() > 0.9


def test_an_evaluation_does_not_see_the_operation_of_the_target(
    recommender: Recommender, shop: PreparedDataset
) -> None:
    model = recommender.bundle.model
    batch = next(session_batches(shop.evaluation_split("test").examples, 50))
    hidden = replace(batch, target_operations=torch.zeros_like(batch.target_operations))
    with torch.no_grad():
        assert torch.equal(model.score(batch), model.score(hidden))
    assert evaluate(model, shop.evaluation_split("test")).metrics((1,))["hit@1"] < 0.5


@pytest.mark.parametrize("operation", list(STEP))
def test_a_recommender_is_asked_by_name(operation: str, recommender: Recommender) -> None:
    session = [("item-3", "click"), ("item-4", "click")]
    found = recommender.recommend(session, k=3, operation=operation)
    expected = f"item-{4 + STEP[operation]}"
    assert found.items[0].item == expected
    assert recommender.recommend_many([session, session], k=3, operation=operation)[1].items[0].item == expected
    (why,) = recommender.explain(session, [expected], operation=operation)
    assert why.score == pytest.approx(found.items[0].score, abs=1e-4)


def test_no_wish_is_any_operation(recommender: Recommender) -> None:
    found = recommender.recommend(["item-4"], k=3)
    assert {each.item for each in found.items} == {"item-4", "item-5", "item-11"}


def test_a_wish_that_cannot_be_met_is_a_clear_error(
    recommender: Recommender, shop: PreparedDataset, tmp_path: Path
) -> None:
    with pytest.raises(UnknownIdError, match="unknown operation 'ordr', did you mean 'order'"):
        recommender.recommend(["item-1"], operation="ordr")
    with pytest.raises(UnknownIdError, match=r"unknown operation 'returned'; known: .*order"):
        recommender.recommend(["item-1"], operation="returned")
    other = trained(shop, tmp_path, training={"epochs": 1})
    with pytest.raises(ConfigError, match=r"operation: 'compass' as trained .* model\.target_operation=true"):
        other.recommend(["item-1"], operation="order")

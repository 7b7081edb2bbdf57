"""What COMPASS begins an item's explore score with: popularity, or the chances of an item without events."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mkmsr.data.examples import ExampleTable
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import SessionTable
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.models.base import ModelSizes, TrainingData
from mkmsr.models.compass.model import Compass
from mkmsr.models.registry import model_entry

NOVELTY = 2.0


def model_of(catalogue: int, described: list[int], expects_new_items: bool = True) -> Compass:
    """Twenty sessions over items 1 to 4, of which 3 and 4 come in with the two newest; the `described` have triples."""
    sessions = [[1, 2]] * 18 + [[1, 3], [2, 4, 3]]
    items = np.array([item for each in sessions for item in each], np.int32)
    lengths = [len(each) for each in sessions]
    times = np.repeat(np.arange(len(sessions)), lengths).astype(np.int64)
    table = SessionTable(items, np.ones(len(items), np.int16), np.cumsum([0, *lengths]).astype(np.int64), times)
    triples = np.array([[item, 1, catalogue + 1] for item in described], np.int64)
    knowledge = KnowledgeGraph(
        triples, Vocabulary(["brand"], kind="relation"), Vocabulary(["brand=a"], kind="attribute"), catalogue
    )
    entry = model_entry("compass")
    config = entry.configure({"dim": 4, "explore": {"novelty": NOVELTY, "popularity": 0.5}})
    model = entry.build(config, ModelSizes(catalogue, 1, 1, 1))
    assert isinstance(model, Compass)
    model.observe(TrainingData(table, ExampleTable.from_sessions(table), knowledge, expects_new_items))
    return model.eval()


def test_items_with_events_have_their_popularity() -> None:
    prior = model_of(6, [1, 5]).item_priors()
    assert prior[1:5].tolist() == pytest.approx([0.5 * math.log1p(count) for count in (19, 19, 2, 1)])


def test_a_described_item_without_events_has_the_prior_of_new_items_and_an_unknown_one_nothing() -> None:
    prior = model_of(6, [1, 5]).item_priors()
    assert prior[5].item() == pytest.approx(NOVELTY)
    assert prior[6].item() == 0


def test_more_new_items_than_came_in_lately_share_what_these_would_have_got() -> None:
    assert model_of(6, [5, 6]).item_priors()[5].item() == pytest.approx(NOVELTY)  # two came in with the newest tenth
    assert model_of(14, list(range(5, 15))).item_priors()[5].item() == pytest.approx(NOVELTY - math.log(5))


def test_in_training_items_that_cannot_be_the_target_take_no_part() -> None:
    model = model_of(6, [1, 5]).train()
    shares = torch.softmax(model.item_priors()[1:], 0)
    assert shares[4:].tolist() == [0, 0]
    assert model.eval().item_priors()[5].item() == pytest.approx(NOVELTY)


def test_data_without_new_items_give_them_no_prior_until_some_are_added() -> None:
    model = model_of(6, [1, 5], expects_new_items=False)
    assert model.item_priors()[5].item() == 0
    model.append_items(1, torch.tensor([[7, 1, 1]]))
    assert model.item_priors()[[5, 7]].tolist() == pytest.approx([NOVELTY] * 2)

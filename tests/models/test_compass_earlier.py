"""COMPASS's component for visitors who come back: its formula, the mixture, and a planted log that needs it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mkmsr.data.batching import EarlierBatch, SessionBatch, collate
from mkmsr.data.earlier_visits import earlier_items
from mkmsr.data.examples import ExampleTable
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import SessionTable
from mkmsr.errors import ConfigError
from mkmsr.models import ModelSizes, TrainingData, model_entry
from mkmsr.models.compass import Compass
from mkmsr.models.compass_earlier import EarlierVisits
from mkmsr.training.config import TrainingConfig
from mkmsr.training.trainer import fit

ITEMS = 60


def test_probabilities_follow_the_formula() -> None:
    torch.manual_seed(0)
    layer = EarlierVisits(3)
    with torch.no_grad():
        layer.operation.weight.normal_()
    earlier = EarlierBatch.from_pairs([[(5, 1), (6, 3)], [], [(7, 2)]])
    scores = torch.randn(3)
    votes = layer(earlier, scores, 3)
    logits = [
        layer.age.weight[rank, 0] + layer.operation.weight[operation, 0] + layer.likeness * scores[h]
        for h, (rank, operation) in enumerate([(0, 1), (1, 3)])
    ]
    expected = torch.stack(logits).softmax(0)
    assert votes.rows.tolist() == [0, 0, 2]
    assert votes.items.tolist() == [5, 6, 7]
    assert torch.allclose(votes.weights, torch.cat([expected, torch.ones(1)]), atol=1e-6)


def come_back(sessions: int, seed: int) -> tuple[SessionTable, ExampleTable]:
    """Visitors look at two items, and another day at a door that all go through, then at the newer of the two again."""
    rng = np.random.default_rng(seed)
    items, lengths, times, visitors = [], [], [], []
    for visitor in range(sessions):
        first, second = rng.choice(np.arange(2, ITEMS), 2, replace=False).tolist()
        for begin, events in ((0, [first, second]), (10_000, [1, second])):
            items += events
            lengths.append(len(events))
            times += [begin + visitor * 10 + step for step in range(len(events))]
            visitors.append(visitor)
    table = SessionTable(
        np.array(items, np.int32),
        np.ones(len(items), np.int16),
        np.cumsum([0, *lengths]).astype(np.int64),
        np.array(times, np.int64),
    )
    (earlier,) = earlier_items([table], [np.array(visitors)])
    table = replace(table, earlier=earlier)
    return table, ExampleTable.from_sessions(table)


def hit_at_1(model: Compass, examples: ExampleTable) -> float:
    """Of the second visits, whose only event is the door."""
    batch = collate(examples, np.flatnonzero(examples.sessions.items[examples.begin] == 1))
    with torch.no_grad():
        return float((model.score(batch).argmax(1) == batch.targets).float().mean())


@pytest.mark.parametrize("loss", ["cross-entropy", "sampled-cross-entropy"])
def test_who_comes_back_is_understood_only_with_earlier_visits(loss: str) -> None:
    table, examples = come_back(300, seed=0)
    _, others = come_back(100, seed=1)
    found = {}
    for known in (True, False):
        entry = model_entry("compass")
        settings = entry.configure({"dim": 16, "dropout": 0.0, "earlier_visits": known})
        torch.manual_seed(0)
        model = entry.build(settings, ModelSizes(ITEMS, 1))
        assert isinstance(model, Compass)
        training = {"epochs": 4, "batch_size": 32, "loss": {"session": loss, "negatives": {"number": 20}}}
        optimiser = {"learning_rate": 1e-2, "schedule": "one-cycle"}
        config = TrainingConfig.model_validate({**training, "optimiser": optimiser})
        fit(model, TrainingData(table, examples, KnowledgeGraph.empty(ITEMS)), config, seed=0)
        found[known] = hit_at_1(model.eval(), others)
    assert found[True] > 0.9
    assert found[False] < 0.1


def test_scores_are_a_distribution_and_new_visitors_need_nothing() -> None:
    table, examples = come_back(20, seed=2)
    entry = model_entry("compass")
    torch.manual_seed(0)
    model = entry.build(entry.configure({"dim": 8, "earlier_visits": True}), ModelSizes(ITEMS, 1))
    model.observe(TrainingData(table, examples, KnowledgeGraph.empty(ITEMS)))
    model.eval()
    batch = collate(examples, np.arange(len(examples)))
    nobody: SessionBatch = replace(batch, earlier=None)
    with torch.no_grad():
        scores, without = model.score(batch), model.score(nobody)
        likelihood = model.log_likelihood(batch)
        model.similar.config = model.similar.config.model_copy(update={"share_power": 0.0, "near_power": 0.0})
        unlifted = model.score(batch)
    assert torch.allclose(scores.exp().sum(1), torch.ones(len(batch)), atol=1e-4)
    assert torch.allclose(without.exp().sum(1), torch.ones(len(batch)), atol=1e-4)
    assert likelihood is not None
    assert torch.allclose(unlifted.gather(1, batch.targets[:, None]).squeeze(1), likelihood, atol=1e-4)
    assert batch.earlier is not None
    new = batch.earlier.offsets.diff() == 0
    assert torch.allclose(scores[new], without[new], atol=1e-5)
    assert not torch.allclose(scores[~new], without[~new], atol=1e-2)


def test_data_that_know_no_visitors_are_a_clear_error() -> None:
    table, examples = come_back(5, seed=0)
    entry = model_entry("compass")
    model = entry.build(entry.configure({"dim": 8, "earlier_visits": True}), ModelSizes(ITEMS, 1))
    with pytest.raises(ConfigError, match="--visitors"):
        model.observe(TrainingData(replace(table, earlier=None), examples, KnowledgeGraph.empty(ITEMS)))


def test_earlier_visits_need_a_mixture() -> None:
    with pytest.raises(ConfigError, match="earlier_visits"):
        model_entry("compass").configure({"earlier_visits": True, "copy_past": False, "neighbours": False})

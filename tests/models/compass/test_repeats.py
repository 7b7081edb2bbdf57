"""COMPASS's component for visitors who come back: its formula, the mixture, and a planted log that needs it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mkmsr.data.batching import SessionBatch, collate
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable, SessionTable, earlier_items
from mkmsr.errors import ConfigError
from mkmsr.models.base import ModelSizes, TrainingData
from mkmsr.models.compass.explore import Encoded
from mkmsr.models.compass.mixture import probabilities
from mkmsr.models.compass.model import Compass
from mkmsr.models.compass.repeats import EarlierVisits
from mkmsr.models.registry import model_entry
from mkmsr.training.config import TrainingConfig
from mkmsr.training.trainer import fit
from tests.conftest import earlier_batch

ITEMS = 60
DOOR = 1


def visits(prefixes: list[list[int]], earlier: list[list[tuple[int, int]]]) -> SessionBatch:
    """Prefixes of these items, and the earlier items of their visitors with their operations, newest first."""
    batch = SessionBatch.from_sequences([(items, [1] * len(items)) for items in prefixes])
    return replace(batch, earlier=earlier_batch(earlier))


def encoded(batch: SessionBatch, vectors: torch.Tensor) -> Encoded:
    """Sessions that look for the vectors of their newest items."""
    return Encoded(batch, vectors.__getitem__, torch.zeros(len(vectors)), vectors[batch.items[batch.last]])


def test_probabilities_follow_the_formula() -> None:
    torch.manual_seed(0)
    layer = EarlierVisits(3)
    with torch.no_grad():
        layer.operation.weight.normal_()
        layer.beside.weight.normal_()
    finds = [(5, 1), (6, 3), (8, 1), (4, 2), (2, 1), (1, 1)]
    # The newest event of the first session that is an old find is on item 6; the second's only event is none.
    batch = visits([[8, 6, 9], [3], [7]], [finds, [], [(5, 1), (6, 3)]])
    vectors = torch.randn(10, 4)
    said = layer(encoded(batch, vectors)).items
    scores = [
        vectors[last] @ vectors[item] / vectors[item].norm()
        for last, items in ((9, [5, 6, 8, 4, 2, 1]), (7, [5, 6]))
        for item in items
    ]
    votes = probabilities(said, len(batch))

    def logit(h: int, rank: int, operation: int, beside: int) -> torch.Tensor:
        return (
            layer.age.weight[rank, 0]
            + layer.operation.weight[operation, 0]
            + layer.beside.weight[beside, 0]
            + layer.likeness * scores[h]
        )

    # Item 5 was touched right after item 6, which is 3 + 1; items 4 and older ones 2 and more before, down to 3 - 3.
    steps = [4, 3, 2, 1, 0, 0]
    first = torch.stack([logit(h, h, finds[h][1], step) for h, step in enumerate(steps)]).softmax(0)
    third = torch.stack([logit(6, 0, 1, 7), logit(7, 1, 3, 7)]).softmax(0)
    assert votes.rows.tolist() == [0] * 6 + [2] * 2
    assert votes.items.tolist() == [5, 6, 8, 4, 2, 1, 5, 6]
    assert torch.allclose(votes.weights, torch.cat([first, third]), atol=1e-6)


def test_gates_see_what_old_finds_have_to_do_with_the_session() -> None:
    torch.manual_seed(0)
    finds = [[(8, 1), (6, 3), (1, 1)], [], [(6, 1), (2, 1), (1, 1)], [(5, 1)]]
    batch, vectors = visits([[8, 6, 9, 6], [3], [6, 7], [5]], finds), torch.randn(10, 4)
    cosines = torch.cosine_similarity(vectors[:, None], vectors[None], dim=2)

    def ends(last: int, others: list[int]) -> list[float]:
        return [float(cosines[last, others].max()), float(cosines[last, others].mean())]

    expected = [
        [1, np.log(4), 1, 0.75, *ends(6, [8, 1])],
        [0, 0, 0, 0, 0, 0],
        [1, np.log(4), 0, 0.5, *ends(7, [6, 2, 1])],
        [1, np.log(2), 1, 1, 0, 0],
    ]
    found = EarlierVisits(3)(encoded(batch, vectors)).features
    assert torch.allclose(found, torch.tensor(expected).float(), atol=1e-6)


def test_nothing_is_known_about_new_visitors() -> None:
    layer, batch = EarlierVisits(3), visits([[8, 6], [3]], [[], []])
    for each in (batch, replace(batch, earlier=None)):
        said = layer(encoded(each, torch.randn(10, 4)))
        assert len(said.items) == 0
        assert said.features.abs().sum() == 0


def log_of(visits_of_visitors: list[list[list[int]]]) -> tuple[SessionTable, ExampleTable]:
    """The visits of each visitor, a day apart, as sessions that know the earlier ones."""
    sessions = [
        (visitor, day, items) for visitor, days in enumerate(visits_of_visitors) for day, items in enumerate(days)
    ]
    times = [visitor * 10 + day * 86_400 + step for visitor, day, items in sessions for step in range(len(items))]
    items = np.array([item for _, _, each in sessions for item in each], np.int32)
    offsets = np.cumsum([0, *(len(each) for _, _, each in sessions)]).astype(np.int64)
    table = SessionTable(items, np.ones(len(items), np.int16), offsets, np.array(times, np.int64))
    (earlier,) = earlier_items([table], [np.array([visitor for visitor, _, _ in sessions])])
    table = replace(table, earlier=earlier)
    return table, ExampleTable.from_sessions(table)


def come_back(visitors: int, seed: int) -> tuple[SessionTable, ExampleTable]:
    """Visitors look at two items, and another day at a door that all go through, then at the newer of the two again."""
    rng = np.random.default_rng(seed)
    pairs = [rng.choice(np.arange(2, ITEMS), 2, replace=False).tolist() for _ in range(visitors)]
    return log_of([[pair, [DOOR, pair[1]]] for pair in pairs])


def go_on(visitors: int, seed: int) -> tuple[SessionTable, ExampleTable]:
    """Visitors look at six items, and another day through the door at one of them and at what they saw after it."""
    rng = np.random.default_rng(seed)
    visits = []
    for _ in range(visitors):
        items = rng.choice(np.arange(2, ITEMS), 6, replace=False).tolist()
        place = int(rng.integers(5))
        visits.append([items, [DOOR, items[place], items[place + 1]]])
    return log_of(visits)


def hit_at_1(model: Compass, examples: ExampleTable, length: int) -> float:
    """Of the second visits, after so many events, the first of which is the door."""
    through = (examples.sessions.items[examples.begin] == DOOR) & (examples.end - examples.begin == length)
    batch = collate(examples, np.flatnonzero(through))
    with torch.no_grad():
        return float((model.score(batch).argmax(1) == batch.targets).float().mean())


def trained(
    log: tuple[SessionTable, ExampleTable], newer: ExampleTable, *, known: bool, loss: str = "cross-entropy"
) -> Compass:
    """COMPASS after four epochs of such a log, that knows visitors or not."""
    table, examples = log
    entry = model_entry("compass")
    torch.manual_seed(0)
    settings = entry.configure({"dim": 16, "dropout": 0.0, "earlier_visits": known})
    model = entry.build(settings, ModelSizes(ITEMS, 1))
    assert isinstance(model, Compass)
    training = {"epochs": 4, "batch_size": 32, "loss": {"session": loss, "negatives": {"number": 20}}}
    optimiser = {"learning_rate": 1e-2, "schedule": "one-cycle"}
    config = TrainingConfig.model_validate({**training, "optimiser": optimiser})
    fit(model, TrainingData(table, examples, KnowledgeGraph.empty(ITEMS)), config, seed=0)
    model.calibrate(newer)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cross-entropy", "sampled-cross-entropy"])
def test_who_comes_back_is_understood_only_with_earlier_visits(loss: str) -> None:
    log, (_, newer), (_, others) = come_back(300, seed=0), come_back(50, seed=2), come_back(100, seed=1)
    assert hit_at_1(trained(log, newer, known=True, loss=loss), others, 1) > 0.9
    assert hit_at_1(trained(log, newer, known=False, loss=loss), others, 1) < 0.1


@pytest.mark.slow
def test_who_goes_on_where_they_were_is_followed() -> None:
    log, (_, newer), (_, others) = go_on(300, seed=0), go_on(50, seed=2), go_on(100, seed=1)
    assert hit_at_1(trained(log, newer, known=True), others, 2) > 0.9


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
    assert torch.allclose(scores.exp().sum(1), torch.ones(len(batch)), atol=1e-4)
    assert torch.allclose(without.exp().sum(1), torch.ones(len(batch)), atol=1e-4)
    assert likelihood is not None
    assert torch.allclose(scores.gather(1, batch.targets[:, None]).squeeze(1), likelihood, atol=1e-4)
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

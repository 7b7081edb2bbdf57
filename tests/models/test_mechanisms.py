"""Every mechanism of MKM-SR earns its keep on a planted log with a known answer."""

from __future__ import annotations

from typing import Any

import planted
import pytest
import torch

from mkmsr.data.batching import session_batches
from mkmsr.data.dataset import PreparedDataset
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.models.base import ModelSizes, SessionModel, TrainingData
from mkmsr.models.registry import model_entry
from mkmsr.training.config import TrainingConfig
from mkmsr.training.trainer import fit


def learn(name: str, data: PreparedDataset, settings: dict[str, Any], training: dict[str, Any]) -> SessionModel:
    """A model trained on the training sessions; the epoch is chosen on validation."""
    known = data.knowledge
    sizes = ModelSizes(len(data.items), len(data.operations), len(known.attributes), len(known.relations))
    torch.manual_seed(0)
    entry = model_entry(name)
    model = entry.build(entry.configure({"dim": 32, "dropout": 0.0, **settings}), sizes)
    split = data.evaluation_split("validation")
    fit(
        model,
        TrainingData(data.train, data.examples(data.train), known),
        TrainingConfig.model_validate(training),
        validate=lambda current: evaluate(current, split).metrics(),
        seed=0,
    )
    return model


def hit_at_1(model: SessionModel, data: PreparedDataset) -> float:
    return evaluate(model, data.evaluation_split("test")).metrics((1,))["hit@1"]


@pytest.fixture(scope="module")
def operation_decides() -> PreparedDataset:
    return planted.operation_decides(sessions=500)


@pytest.fixture(scope="module")
def repeats() -> PreparedDataset:
    return planted.repeats()


@pytest.fixture(scope="module")
def attributes_link() -> PreparedDataset:
    """Eight series of 30 items and four new ones; training holds each of the 30 about three times.

    The settings of its test were chosen on the validation splits of other seeds.
    """
    return planted.attributes_link(sessions=300, series=8, warm=30, cold=4, length=3, seed=9)


@pytest.fixture(scope="module")
def without_knowledge(attributes_link: PreparedDataset) -> tuple[float, float]:
    return found_in_series("m-sr", attributes_link, "squared")


def found_in_series(name: str, data: PreparedDataset, knowledge: str) -> tuple[float, float]:
    """Share of targets among the best 34, a whole series: of known items in validation, of new ones in the test."""
    training = {"epochs": 10, "patience": 10, "batch_size": 32, "triple_batch_size": 8}
    training |= {"optimiser": {"learning_rate": 5e-3}, "loss": {"knowledge": knowledge, "knowledge_weight": 1000}}
    model = learn(name, data, {}, training)
    warm = evaluate(model, data.evaluation_split("validation"))
    new = evaluate(model, data.evaluation_split("test")).slices()["new_item"]
    return warm.metrics((34,))["hit@34"], new.metrics((34,))["hit@34"]


@pytest.mark.parametrize("name", ["mkm-sr", "m-sr", "m-gru-sr", "m-ggnn-sr", "m-ggnnx2-sr"])
def test_what_the_operation_decides_is_learnt_with_operations(name: str, operation_decides: PreparedDataset) -> None:
    training = {"epochs": 4, "optimiser": {"learning_rate": 1e-2}}
    assert hit_at_1(learn(name, operation_decides, {}, training), operation_decides) > 0.9


def test_what_the_operation_decides_is_not_learnt_without_operations(operation_decides: PreparedDataset) -> None:
    training = {"epochs": 4, "optimiser": {"learning_rate": 1e-2}}
    model = learn("km-sr", operation_decides, {}, training)
    table = evaluate(model, operation_decides.evaluation_split("test"))
    assert table.metrics((1,))["hit@1"] < 0.4  # A quarter by chance: the group is known, its four members are not.
    assert table.metrics((4,))["hit@4"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["cosine", "dot", "mlp"])
def test_an_item_is_repeated_after_one_operation_and_not_after_the_other(scorer: str, repeats: PreparedDataset) -> None:
    training = {"epochs": 8, "optimiser": {"learning_rate": 1e-2, "schedule": "one-cycle"}}
    model = learn("m-sr", repeats, {"scorer": scorer}, training)
    batch = next(session_batches(repeats.evaluation_split("test").examples, 10_000))
    after_cart = batch.operations[batch.last] == repeats.operations.index("cart")
    with torch.no_grad():
        probabilities = model.score(batch).softmax(1)
    hits = probabilities.argmax(1) == batch.targets
    assert hits[after_cart].float().mean() > 0.99
    # The best that can be had: all repeats, and one in 29 of the others.
    optimum = float(after_cart.float().mean() + (~after_cart).float().mean() / 29)
    assert hit_at_1(model, repeats) > optimum - 0.03
    of_last = probabilities.gather(1, batch.items[batch.last][:, None])[:, 0]
    assert of_last[after_cart].mean() > 0.9
    assert of_last[~after_cart].mean() < 0.1


def test_without_operations_every_repeat_is_as_likely_as_the_other(repeats: PreparedDataset) -> None:
    model = learn("km-sr", repeats, {}, {"epochs": 4, "optimiser": {"learning_rate": 1e-2}})
    batch = next(session_batches(repeats.evaluation_split("test").examples, 10_000))
    after_cart = batch.operations[batch.last] == repeats.operations.index("cart")
    with torch.no_grad():
        of_last = model.score(batch).softmax(1).gather(1, batch.items[batch.last][:, None])[:, 0]
    assert of_last[after_cart].mean() == pytest.approx(0.5, abs=0.05)
    assert of_last[~after_cart].mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_the_knowledge_task_helps_where_only_attributes_link_items(
    attributes_link: PreparedDataset, without_knowledge: tuple[float, float]
) -> None:
    warm, new = found_in_series("mkm-sr", attributes_link, "squared")
    assert warm > without_knowledge[0] + 0.3
    assert new > without_knowledge[1] + 0.3


def test_false_triples_beside_the_true_ones_help_too(
    attributes_link: PreparedDataset, without_knowledge: tuple[float, float]
) -> None:
    warm, _ = found_in_series("mkm-sr", attributes_link, "margin")
    assert warm > without_knowledge[0] + 0.15

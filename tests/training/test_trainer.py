"""What `fit` promises, on a small log whose next item follows from the last one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch, TripleBatch, collate_triples, session_batches
from mkmsr.data.sessions import ExampleTable, SessionTable
from mkmsr.errors import ConfigError, TrainingError
from mkmsr.models.base import SessionModel, TrainingData
from mkmsr.runtime.events import BatchDone, Event, TrainingEstimate
from mkmsr.training.checkpoint import read_history
from mkmsr.training.config import TrainingConfig
from mkmsr.training.optimisation import learning_rate_factor
from mkmsr.training.trainer import fit
from tests.training.tiny import TinyModel, tiny_knowledge, tiny_sessions, tiny_training

FAST = {
    "epochs": 3,
    "batch_size": 16,
    "triple_batch_size": 16,
    "pretrain_epochs": 2,
    "optimiser": {"learning_rate": 0.05},
}


def settings(**values: object) -> TrainingConfig:
    return TrainingConfig.model_validate({**FAST, **values})


def hit_rate(model: SessionModel) -> Mapping[str, float]:
    """Hit@1 on other sessions with the same pattern."""
    assert not model.training
    (batch,) = session_batches(ExampleTable.from_sessions(tiny_sessions(seed=1)), 10_000)
    return {"mrr@20": (model.score(batch).argmax(1) == batch.targets).float().mean().item()}


def scripted(values: list[float]) -> Iterator[float]:
    yield from values


def weights(model: SessionModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("strategy", ["alternating", "triples-first", "joint", "pretrain", "sessions"])
@pytest.mark.parametrize("knowledge", ["squared", "norm", "margin"])
def test_every_strategy_learns_the_pattern(strategy: str, knowledge: str) -> None:
    model = TinyModel()
    config = settings(strategy=strategy, epochs=20, patience=20, loss={"knowledge": knowledge})
    result = fit(model, tiny_training(), config, validate=hit_rate, seed=1)
    assert result.best_metrics["mrr@20"] > 0.9
    assert hit_rate(model) == result.best_metrics
    assert result.epochs_run == len(result.history)


def test_bce_learns_the_pattern_too() -> None:
    config = settings(epochs=20, patience=20, loss={"session": "bce"})
    assert fit(TinyModel(), tiny_training(), config, validate=hit_rate, seed=1).best_metrics["mrr@20"] > 0.9


def test_the_knowledge_task_brings_items_to_their_attributes() -> None:
    knowledge = collate_triples(tiny_knowledge(), np.arange(len(tiny_knowledge())))
    distances, recorded = [], []
    for strategy in ("alternating", "sessions"):
        model = TinyModel()
        config = settings(strategy=strategy, epochs=10, loss={"knowledge_weight": 1.0})
        recorded.append([record.knowledge_loss for record in fit(model, tiny_training(), config, seed=1).history])
        distances.append(model.triple_distances(knowledge).mean().item())
    assert distances[0] < distances[1] / 2
    assert recorded[0][-1] == pytest.approx(distances[0], rel=0.5)
    assert recorded[1] == [None] * 10


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    models = [TinyModel() for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        torch.manual_seed(len(str(model)) + seed)  # The caller's random state has no say.
        fit(model, tiny_training(), settings(), seed=seed)
    assert same(weights(models[0]), weights(models[1]))
    assert not same(weights(models[0]), weights(models[2]))


def test_the_callers_random_state_is_left_alone() -> None:
    model = TinyModel()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    fit(model, tiny_training(), settings(), seed=5, listener=[].append)
    assert torch.equal(torch.rand(3), expected)


def test_the_model_holds_the_best_epochs_weights_and_stops_after_patience() -> None:
    values = scripted([0.1, 0.4, 0.3, 0.4, 0.2, 0.9])
    seen: list[dict[str, Tensor]] = []

    def validate(model: SessionModel) -> Mapping[str, float]:
        seen.append(weights(model))
        return {"mrr@20": next(values), "hit@20": 0.5}

    model = TinyModel()
    result = fit(model, tiny_training(), settings(epochs=10, patience=3), validate=validate, seed=1)
    # A tie is no improvement: the earlier epoch stays the best one.
    assert (result.best_epoch, result.epochs_run) == (2, 5)
    assert result.best_metrics == {"mrr@20": 0.4, "hit@20": 0.5}
    assert same(weights(model), seen[1])
    assert not model.training


def test_the_last_epoch_can_be_kept_whatever_validation_says() -> None:
    values = scripted([0.4, 0.3, 0.2])
    model, free = TinyModel(), TinyModel()
    config = settings(epochs=3, patience=1, keep="last")
    result = fit(model, tiny_training(), config, validate=lambda _: {"mrr@20": next(values)}, seed=1)
    assert (result.best_epoch, result.epochs_run, result.best_metrics) == (3, 3, {"mrr@20": 0.2})
    fit(free, tiny_training(), config, seed=1)
    assert same(weights(model), weights(free))


def test_without_validation_it_runs_every_epoch_and_keeps_the_last() -> None:
    result = fit(TinyModel(), tiny_training(), settings(epochs=7, patience=1), seed=1)
    assert (result.best_epoch, result.epochs_run, result.best_metrics) == (7, 7, {})


def test_stop_after_repeats_the_beginning_of_the_longer_plan() -> None:
    config = settings(epochs=6, optimiser={"schedule": "one-cycle", "learning_rate": 0.05})
    stopped = fit(TinyModel(), tiny_training(), config, seed=1, stop_after=2)
    whole = fit(TinyModel(), tiny_training(), config, seed=1)
    rates = [[record.learning_rate for record in each.history] for each in (stopped, whole)]
    losses = [[record.train_loss for record in each.history] for each in (stopped, whole)]
    assert rates[0] == rates[1][:2]
    assert losses[0] == losses[1][:2]


def test_pretrain_validates_session_epochs_only() -> None:
    result = fit(TinyModel(), tiny_training(), settings(strategy="pretrain"), validate=hit_rate, seed=1)
    assert [record.phase for record in result.history] == ["knowledge"] * 2 + ["sessions"] * 3
    assert [bool(record.validation) for record in result.history] == [False] * 2 + [True] * 3
    assert [record.train_loss is None for record in result.history] == [True] * 2 + [False] * 3
    assert result.best_epoch > 2


def test_the_first_step_is_adams_and_clipping_bounds_the_gradient() -> None:
    data = tiny_training()
    model, reference = TinyModel(dropout=0), TinyModel(dropout=0)
    config = settings(
        strategy="sessions", epochs=1, batch_size=10_000, optimiser={"learning_rate": 0.01, "clip_norm": 0.5}
    )
    fit(model, data, config, seed=1)
    (batch,) = session_batches(data.examples, 10_000)
    torch.nn.functional.cross_entropy(reference.score(batch), batch.targets).backward()
    gradients = {name: each.grad for name, each in reference.named_parameters() if each.grad is not None}
    norm = torch.stack([each.norm() for each in gradients.values()]).norm()
    for name, weight in reference.named_parameters():
        clipped = gradients[name] * min(1.0, 0.5 / norm.item()) if name in gradients else torch.zeros(weight.shape)
        expected = weight - 0.01 * clipped / (clipped.abs() + 1e-8)
        torch.testing.assert_close(dict(model.named_parameters())[name], expected, rtol=1e-4, atol=1e-6)


def test_weight_decay_shrinks_weights() -> None:
    plain, decayed = TinyModel(), TinyModel()
    fit(plain, tiny_training(), settings(), seed=1)
    fit(decayed, tiny_training(), settings(optimiser={"learning_rate": 0.05, "weight_decay": 0.1}), seed=1)
    assert decayed.next_items.weight.norm() < plain.next_items.weight.norm()
    assert decayed.items.weight[0].eq(0).all()


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [
        ("constant", 0.7, 1.0),
        ("cosine", 0.0, 1.0),
        ("cosine", 0.5, 0.5),
        ("cosine", 1.0, 0.0),
        ("one-cycle", 0.0, 0.04),
        ("one-cycle", 0.125, 0.52),
        ("one-cycle", 0.25, 1.0),
        ("one-cycle", 1.0, 4e-6),
    ],
)
def test_schedules_pass_through_their_corner_points(schedule: str, progress: float, factor: float) -> None:
    assert learning_rate_factor(schedule, progress) == pytest.approx(factor)  # type: ignore[arg-type]


class Diverging(TinyModel):
    def queries(self, batch: SessionBatch) -> Tensor:
        return super().queries(batch) * (float("nan") if 7 in batch.targets.tolist() else 1.0)


class DivergingKnowledge(TinyModel):
    def triple_distances(self, triples: TripleBatch) -> Tensor:
        return super().triple_distances(triples) * torch.where(triples.items == 7, float("inf"), 1.0)


def test_a_loss_that_is_not_finite_stops_with_epoch_and_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"epoch 1, step \d+: the session loss is nan.*learning rate") as caught:
        fit(Diverging(), tiny_training(), settings(checkpoint_seconds=0), seed=1, folder=tmp_path)
    assert caught.value.epoch == 1
    assert caught.value.step is not None
    with pytest.raises(TrainingError, match="the knowledge loss is inf"):
        fit(DivergingKnowledge(), tiny_training(), settings(), seed=1)


def test_an_unknown_selection_metric_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"training.select.*no metric 'mrr@2', did you mean 'mrr@20'"):
        fit(TinyModel(), tiny_training(), settings(select="mrr@2"), validate=hit_rate, seed=1)


def test_nothing_to_learn_from_is_an_error() -> None:
    empty = SessionTable.empty()
    nothing = TrainingData(empty, ExampleTable.from_sessions(empty), tiny_knowledge())
    with pytest.raises(TrainingError, match="no example to learn from"):
        fit(TinyModel(), nothing, settings(), seed=1)


class Counting(SessionModel):
    """A model without weights."""

    def __init__(self) -> None:
        super().__init__(TinyModel().sizes)
        self.register_buffer("events", torch.zeros(()))

    def observe(self, training: TrainingData) -> None:
        self.events = torch.tensor(float(training.sessions.num_events))


def test_a_model_without_weights_observes_and_is_done() -> None:
    model = Counting()
    result = fit(model, tiny_training(), settings(), validate=lambda _: {"mrr@20": 0.25}, seed=1)
    assert model.events == tiny_training().sessions.num_events
    assert (result.best_epoch, result.epochs_run, dict(result.best_metrics)) == (0, 0, {"mrr@20": 0.25})


def test_the_listener_hears_estimate_batches_and_epochs_in_order() -> None:
    heard, data = list[Event](), tiny_training()
    result = fit(TinyModel(), data, settings(epochs=2), seed=1, listener=heard.append)
    estimate, *later = heard
    assert isinstance(estimate, TrainingEstimate)
    assert [each for each in later if not isinstance(each, BatchDone)] == list(result.history)
    last = later[-2]
    assert isinstance(last, BatchDone)
    assert (last.done, last.epoch, last.epochs, last.examples) == (last.total, 2, 2, len(data.examples))
    assert estimate.steps == last.total


def test_the_estimate_counts_memory_and_disturbs_nothing() -> None:
    quiet, watched = TinyModel(), TinyModel()
    fit(quiet, tiny_training(), settings(), seed=1)
    heard: list[Event] = []
    fit(watched, tiny_training(), settings(strategy="alternating"), seed=1, listener=heard.append)
    assert same(weights(quiet), weights(watched))
    estimate = heard[0]
    assert isinstance(estimate, TrainingEstimate)
    weights_of_model, counts, scores = 8 * (21 + 21 + 10), 21, 16 * 21
    assert estimate.mib == pytest.approx(4 * (5 * weights_of_model + 2 * counts + scores) / 2**20)
    assert estimate.seconds_per_epoch > 0
    assert estimate.total_seconds == pytest.approx(3 * estimate.seconds_per_epoch)


def test_history_is_one_json_line_an_epoch(tmp_path: Path) -> None:
    result = fit(TinyModel(), tiny_training(), settings(), validate=hit_rate, seed=1, folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert {"train_loss", "knowledge_loss", "validation", "seconds", "examples_per_second", "learning_rate"} <= set(
        lines[0]
    )
    assert read_history(tmp_path / "history.jsonl") == result.history


@pytest.mark.parametrize(("given", "used"), [({}, 1), ({"threads": 2}, 2)])
def test_training_takes_one_thread_unless_the_settings_say_more(given: Mapping[str, int], used: int) -> None:
    torch.set_num_threads(3)
    seen = []

    def validate(model: SessionModel) -> Mapping[str, float]:
        seen.append(torch.get_num_threads())
        return hit_rate(model)

    fit(TinyModel(), tiny_training(), settings(epochs=1, **given), validate=validate, seed=0)
    after = torch.get_num_threads()
    torch.set_num_threads(1)
    assert (seen, after) == ([used], 3)

"""Whole fits with sampled losses and Adagrad: they learn, they are repeatable, and they resume."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import torch

from mkmsr.config import validate
from mkmsr.data.batching import collate
from mkmsr.models.base import SessionModel
from mkmsr.training.config import TrainingConfig
from mkmsr.training.strategies import Plan
from mkmsr.training.trainer import fit
from tests.training.tiny import TinyModel, tiny_training


class Killed(Exception):
    """Stands for the end of the process."""


def settings(kind: str, **others: object) -> TrainingConfig:
    """Settings for the tiny log."""
    loss = {"session": kind, "negatives": {"number": 30}, "score_penalty": 0.01}
    optimiser = {"name": "adagrad", "learning_rate": 0.2}
    values = {"batch_size": 16, "epochs": 12, "loss": loss, "optimiser": optimiser, **others}
    return validate(TrainingConfig, values)


def share_right(model: SessionModel) -> float:
    examples = tiny_training().examples
    batch = collate(examples, torch.arange(len(examples)).numpy())
    with torch.no_grad():
        return float((model.score(batch).argmax(1) == batch.targets).double().mean())


@pytest.mark.parametrize("kind", ["sampled-cross-entropy", "bpr", "bpr-max"])
def test_a_sampled_loss_learns_what_follows(kind: str) -> None:
    model = TinyModel(dropout=0.0)
    before = share_right(model)
    fit(model, tiny_training(), settings(kind), seed=0)
    assert before < 0.3
    assert share_right(model) > 0.9


def test_only_steps_with_sessions_have_negatives_and_only_where_the_loss_wants_them() -> None:
    plan = Plan("alternating", tiny_training(), settings("bpr"), seed=0)
    assert {(step.sessions is None, step.negatives is None) for step in plan.steps(1)} == {
        (False, False),
        (True, True),
    }
    plain = Plan("alternating", tiny_training(), settings("cross-entropy"), seed=0)
    assert all(step.negatives is None for step in plain.steps(1))


@pytest.mark.parametrize("optimiser", ["adagrad", "touched rows"])
def test_a_resumed_fit_draws_the_same_negatives_and_finds_its_moments(tmp_path: Path, optimiser: str) -> None:
    others = {"adagrad": {}, "touched rows": {"optimiser": {"name": "adamw", "touched_rows": True}}}[optimiser]
    whole, halves = TinyModel(), TinyModel()
    fit(whole, tiny_training(), settings("bpr-max", epochs=4, **others), seed=3)

    better = count(1)

    def improve_until_the_end(_: SessionModel) -> dict[str, float]:
        value = next(better)
        if value == 3:
            raise Killed
        return {"mrr@20": value / 100}

    config = settings("bpr-max", epochs=4, checkpoint_seconds=0, **others)
    with pytest.raises(Killed):
        fit(halves, tiny_training(), config, validate=improve_until_the_end, seed=3, folder=tmp_path)
    again = TinyModel()
    fit(again, tiny_training(), config, validate=improve_until_the_end, seed=3, folder=tmp_path, resume=True)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())

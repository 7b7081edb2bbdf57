"""Scores by compiled loops against the array operations that they stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_shop import batch_of, fitted, small_shop

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.ggnn import GGNN
from mkmsr.models.base import SessionModel
from mkmsr.models.compass import model as compass_model
from mkmsr.models.neighbours.voting import VoteSettings

pytest.importorskip("numba")
SHOP = small_shop()
BATCHES = {
    "prefixes": batch_of(SHOP),
    "one event": SessionBatch.from_sequences([([3], [1])]),
    "a long session, and an item that nobody touched": SessionBatch.from_sequences(
        [([1 + step * step % 9 for step in range(400)], [1 + step % 3 for step in range(400)]), ([36, 36], [2, 1])]
    ),
}


def model_of(name: str, settings: dict[str, object]) -> SessionModel:
    torch.manual_seed(3)
    _, model = fitted(name, SHOP, **settings)
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if weight_name.startswith(("gates.", "copying.", "wanted.")) or "by_attribute" in weight_name:
                weight.normal_()
    return model


def check(model: SessionModel, batch: SessionBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        expected = model.scorer()(batch)
        score = model.compiled_scorer()
        monkeypatch.setattr(GGNN, "forward", None)  # The loops need no other encoder.
        torch.testing.assert_close(score(batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", BATCHES)
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("compass", {}),
        ("compass", {"nearest": 2, "sample_size": 6}),
        ("compass", {"attributes": False}),
        ("compass", {"operations": False}),
        ("compass", {"copy_past": False}),
        ("compass", {"neighbours": False}),
        ("compass", {"copy_past": False, "neighbours": False}),
        ("mkm-sr", {}),
        ("mkm-sr", {"steps": 2, "scorer": "dot", "dim": 10}),
        ("km-sr", {"steps": 0}),
    ],
)
def test_scores_are_those_of_arrays(
    name: str, settings: dict[str, object], which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(model_of(name, settings), BATCHES[which], monkeypatch)


def test_the_operation_asked_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = BATCHES["prefixes"]
    wanted = torch.arange(len(batch)) % (len(SHOP.operations) + 1)
    check(model_of("compass", {"target_operation": True}), replace(batch, wanted=wanted), monkeypatch)


def test_the_newest_of_equally_similar_sessions_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("compass", {})
    assert isinstance(model, compass_model.Compass)
    model.similar.settings = VoteSettings(3, 40, prefix_decay=model.similar.settings.prefix_decay)
    batch = SessionBatch.from_sequences([([item], [1]) for item in range(1, len(SHOP.items))])
    similarity = model.similar.index.neighbours(batch, replace(model.similar.settings, neighbours=40)).similarity
    assert len(np.unique(similarity.numpy())) < len(similarity) / 4
    check(model, batch, monkeypatch)


@pytest.mark.parametrize(("name", "settings"), [("mkm-sr", {"gate": "slides"}), ("m-ggnnx2-sr", {}), ("gru4rec", {})])
def test_other_models_score_by_arrays(name: str, settings: dict[str, object]) -> None:
    model, batch = model_of(name, settings), BATCHES["prefixes"]
    with torch.inference_mode():
        torch.testing.assert_close(model.compiled_scorer()(batch), model.scorer()(batch))


def test_without_numba_models_score_by_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compass_model, "has_numba", lambda: False)
    model, calls, forward = model_of("compass", {}), [], GGNN.forward
    monkeypatch.setattr(GGNN, "forward", lambda *arguments: calls.append(1) or forward(*arguments))
    with torch.inference_mode():
        model.compiled_scorer()(BATCHES["one event"])
    assert calls

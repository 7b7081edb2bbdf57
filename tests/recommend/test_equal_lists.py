"""Lists of one session alone against the plain path: whole arrays, in batches, and a sort of all scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_shop import small_shop
from torch import Tensor

from mkmsr.bundle.model_bundle import new_bundle
from mkmsr.data.batching import SessionBatch, collate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.prepare import prepare
from mkmsr.data.readers import read_log
from mkmsr.models.compass.model import Compass
from mkmsr.models.registry import model_entry
from mkmsr.recommend import Recommender
from mkmsr.runs.config import ExperimentConfig, new_model
from mkmsr.training.trainer import fit, fitting_data

CLOSE = 1e-6
"""Items whose scores differ by less than this share of themselves may change places."""


def trained(dataset: PreparedDataset, examples_at_once: int) -> list[Recommender]:
    """Recommenders of one model, with array operations and with compiled loops."""
    training = {"epochs": 1, "batch_size": examples_at_once}
    config = ExperimentConfig.model_validate({"model": {"name": "compass"}, "training": training})
    model = new_model(dataset, config, 0)
    fit(model, fitting_data(dataset, refit=True), config.training, seed=0)
    settings = model_entry("compass").configure({})
    bundle = new_bundle(model, name="compass", config=settings, dataset=dataset, refit=True)
    return [Recommender(bundle), Recommender(bundle, compiled=True)]


@torch.no_grad()
def plain_scores(model: Compass, batch: SessionBatch) -> Tensor:
    """p(j | s) from whole arrays, as the formulas are written; two sessions at least, see `one_session`."""
    vectors_VD = model.vectors()
    session, said = model.said(batch, vectors_VD.__getitem__)
    (query_BD, extra), match_AB = (
        model.explore.weighed(session),
        model.explore.match_weights(session, model.vectors),
    )
    scores_BV = query_BD @ model.explore.candidates(model.vectors, vectors_VD).T
    if match_AB is not None:
        scores_BV += model.vectors.spread(match_AB).T
    scores_BV.index_put_((extra.rows, extra.columns), extra.values, accumulate=True)
    scores_BV[:, 0] = -torch.inf
    gates_BC = model.gates.log_gates(session, said).exp()
    p_BV = gates_BC[:, :1] * scores_BV.softmax(1)
    for column, each in enumerate(model.gates.lists(said, len(batch)), start=1):
        weighed = replace(each, weights=each.weights * gates_BC[each.rows, column])
        p_BV += weighed.dense(len(batch), p_BV.shape[1])
    return p_BV.log()


def check_lists(dataset: PreparedDataset, recommender: Recommender, step: int, k: int = 20) -> None:
    model, examples = recommender.bundle.model, dataset.evaluation_split("test").examples
    assert isinstance(model, Compass)
    rows = np.arange(0, len(examples), step)
    for part in np.array_split(rows, max(len(rows) // 64, 1)):
        batch = collate(examples, part)
        scores_BV = plain_scores(model, batch)
        for row, (begin, end) in enumerate(zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True)):
            events = zip(batch.items[begin:end].tolist(), batch.operations[begin:end].tolist(), strict=True)
            session = [(dataset.items.id(item), dataset.operations.id(operation)) for item, operation in events]
            found = recommender.recommend(session, k).items
            items = torch.tensor([dataset.items.index(each.item) for each in found])
            plain = scores_BV[row]
            best = plain.topk(k).values
            torch.testing.assert_close(torch.tensor([each.score for each in found]), best, rtol=1e-5, atol=1e-5)
            difference = (plain[items] - best).abs() / best.abs()
            assert float(difference.max()) < CLOSE, (part[row], items.tolist())


def test_lists_of_a_small_shop_are_those_of_the_plain_path() -> None:
    dataset = small_shop(sessions=200)
    for recommender in trained(dataset, 32):
        check_lists(dataset, recommender, step=1)


@pytest.mark.slow
def test_lists_of_all_test_prefixes_of_demo_are_those_of_the_plain_path(shared_data: Path) -> None:
    dataset = prepare(read_log("jdata-demo", shared_data / "jdata_demo"))
    for recommender in trained(dataset, 128):
        check_lists(dataset, recommender, step=1)

"""COMPASS's mixture: gates, sharpness and explore's weights, fitted to sessions newer than those of the training."""

from __future__ import annotations

import pytest
import torch
from small_shop import batch_of, fitted, small_shop
from torch import Tensor

from mkmsr.data.batching import session_batches
from mkmsr.models.compass.model import Compass


@pytest.fixture
def compass() -> Compass:
    torch.manual_seed(0)
    _, model = fitted("compass", small_shop(), dim=8)
    assert isinstance(model, Compass)
    return model


def fitted_forward(model: Compass) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters() if not each.requires_grad}


def test_a_fit_forward_makes_newer_sessions_likelier_and_moves_no_other_weight(compass: Compass) -> None:
    newer = small_shop().evaluation_split("validation").examples
    before = {name: each.clone() for name, each in compass.state_dict().items()}
    batch = next(session_batches(newer, len(newer)))
    with torch.no_grad():
        unfitted = compass.log_likelihood(batch).mean()
    compass.calibrate(newer)
    with torch.no_grad():
        assert compass.log_likelihood(batch).mean() > unfitted
    after, moving = compass.state_dict(), fitted_forward(compass)
    assert all(torch.equal(each, after[name]) for name, each in before.items() if name not in moving)
    assert any(not torch.equal(before[name], after[name]) for name in moving)


def test_a_refit_takes_the_weights_of_the_first_fit(compass: Compass) -> None:
    compass.calibrate(small_shop().evaluation_split("validation").examples)
    _, other = fitted("compass", small_shop(), dim=8)
    assert isinstance(other, Compass)
    other.calibrate_like(compass)
    expected, found = fitted_forward(compass), fitted_forward(other)
    assert all(torch.equal(each, found[name]) for name, each in expected.items())


@torch.no_grad()
def test_the_mixture_is_the_sum_of_what_components_say_times_their_gates(compass: Compass) -> None:
    batch, vectors_VD = batch_of(small_shop()), compass.vectors()
    session, said = compass.said(batch, vectors_VD.__getitem__)
    all_items = compass.explore.all_items(compass.vectors, vectors_VD)
    gates_BC = compass.gates.log_gates(session, said).exp()
    explore_BV = compass.explore.log_scores(session, compass.vectors, all_items, torch.zeros(len(batch)))
    expected_BV = gates_BC[:, :1] * explore_BV.exp()
    for column, each in enumerate(compass.gates.lists(said, len(batch)), start=1):
        totals = torch.zeros(len(batch)).index_add(0, each.rows, each.weights)
        assert torch.allclose(totals[each.rows], torch.ones(len(each)), atol=1e-5)
        expected_BV += gates_BC[:, column : column + 1] * each.dense(len(batch), expected_BV.shape[1])
    torch.testing.assert_close(compass.score(batch).exp(), expected_BV, rtol=1e-4, atol=1e-7)


@torch.no_grad()
def test_a_component_that_names_nothing_has_no_weight(compass: Compass) -> None:
    batch = batch_of(small_shop())
    compass.similar.index.build(small_shop().train.rows(0, 0))
    gates_BC = compass.gates.log_gates(*compass.said(batch, compass.vectors().__getitem__)).exp()
    assert float(gates_BC[:, 2].max()) < 1e-9
    assert torch.allclose(gates_BC.sum(1), torch.ones(len(batch)), atol=1e-5)

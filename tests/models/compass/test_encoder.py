"""COMPASS's direct path from the session's items: as a layer against its formula, and as one of the model's parts."""

from __future__ import annotations

import math

import pytest
import torch
from small_shop import batch_of, fitted, small_shop
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.data.dataset import PreparedDataset
from mkmsr.layers.fast.shared_table import unit_rows
from mkmsr.models.compass.encoder import RecentItems
from mkmsr.models.compass.model import Compass


def compass(shop: PreparedDataset, *, operations: bool = True, **explore: object) -> Compass:
    _, model = fitted("compass", shop, dim=8, operations=operations, explore={"masks": 1, **explore})
    assert isinstance(model, Compass)
    return model.eval()


def query(model: Compass, batch: SessionBatch) -> Tensor:
    """The session's unit vector. Shape [B, D]."""
    (query_BD,) = model.mixture(batch, model.vectors()).explore.queries
    return unit_rows(query_BD[:, :-1])


@torch.no_grad()
def test_the_items_themselves_are_added_to_what_the_encoder_makes_of_them() -> None:
    shop = small_shop()
    model, without = compass(shop), compass(shop, recent_items=False)
    without.load_state_dict(
        {name: each for name, each in model.state_dict().items() if not name.startswith("encoder.recent.")}
    )
    batch, vectors_VD = batch_of(shop), unit_rows(model.vectors())
    recent = model.encoder.recent
    assert recent is not None
    expected = []
    for row, encoded_D in enumerate(query(without, batch)):
        events = range(int(batch.offsets[row]), int(batch.offsets[row + 1]))
        weights = [recent.age[events[-1] - each] * recent.operation[batch.operations[each]] for each in events]
        pooled_D = sum(weight * vectors_VD[batch.items[each]] for weight, each in zip(weights, events, strict=True))
        assert isinstance(pooled_D, Tensor)
        expected.append(encoded_D + recent.weight * pooled_D / pooled_D.norm())
    torch.testing.assert_close(query(model, batch), unit_rows(torch.stack(expected)))


@torch.no_grad()
def test_without_operations_the_path_does_not_see_them_either() -> None:
    shop = small_shop()
    model, batch = compass(shop, operations=False), batch_of(shop)
    recent = model.encoder.recent
    assert recent is not None
    recent.operation.copy_(torch.linspace(1, 2, len(recent.operation)))
    others = SessionBatch(
        batch.items,
        batch.operations % 2 + 1,
        batch.offsets,
        batch.targets,
        batch.target_operations,
        batch.sessions,
    )
    assert not torch.equal(others.operations, batch.operations)
    torch.testing.assert_close(query(model, batch), query(model, others))


OPERATIONS, DIM = 3, 5
SESSIONS = [[1], [2, 3, 1], [1, 1, 2, 3]]  # the operations of each session's events, oldest first


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


@torch.no_grad()
def test_session_vectors_follow_the_formula() -> None:
    torch.manual_seed(0)
    recent = RecentItems(OPERATIONS, ages=3)
    recent.age.normal_()
    recent.operation.normal_()
    recent.weight.fill_(0.7)
    sessions_BD, items_PD = torch.randn(len(SESSIONS), DIM), torch.randn(sum(map(len, SESSIONS)), DIM)
    lengths = torch.tensor([len(session) for session in SESSIONS])
    expected, begin = [], 0
    for row, session in enumerate(SESSIONS):
        pooled = torch.zeros(DIM)
        for place, operation in enumerate(session):
            age = min(len(session) - 1 - place, 2)  # Older events share the last age.
            pooled += recent.age[age] * recent.operation[operation] * unit(items_PD[begin + place])
        expected.append(unit(sessions_BD[row]) + 0.7 * unit(pooled))
        begin += len(session)
    operations = torch.tensor([operation for session in SESSIONS for operation in session])
    rows = torch.repeat_interleave(torch.arange(len(SESSIONS)), lengths)
    ages = torch.tensor([age for session in SESSIONS for age in reversed(range(len(session)))])
    found = recent(sessions_BD, items_PD, operations, ages, rows)
    torch.testing.assert_close(found, torch.stack(expected))


def test_it_starts_with_a_decay_over_two_events_and_operations_alike() -> None:
    recent = RecentItems(OPERATIONS)
    assert recent.age[:3].tolist() == pytest.approx([1.0, math.exp(-0.5), math.exp(-1.0)])
    assert recent.operation.tolist() == [1.0] * (OPERATIONS + 1)
    assert recent.weight.item() == 0.5

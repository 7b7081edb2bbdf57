"""COMPASS's lifts against their formulae, session by session and item by item."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_shop import fitted, small_shop

from mkmsr.data.batching import SessionBatch, collate
from mkmsr.data.sessions import SessionTable
from mkmsr.models.compass.config import RetrievalConfig
from mkmsr.models.compass.model import Compass
from mkmsr.models.compass.similar_sessions import SimilarSessions, lifted
from mkmsr.models.neighbours.voting import Votes

TRAINING = [[1, 2, 3], [1, 2, 4, 2], [2, 5], [6, 3], [1, 4, 6, 7]]
ITEMS = 8


def layer(share_power: float, near_power: float, by_attributes: bool = False) -> SimilarSessions:
    items = np.array([item for each in TRAINING for item in each], np.int32)
    lengths = [len(each) for each in TRAINING]
    times = np.repeat(np.arange(len(TRAINING)), lengths).astype(np.int64)
    table = SessionTable(items, np.ones(len(items), np.int16), np.cumsum([0, *lengths]).astype(np.int64), times)
    similar = SimilarSessions(
        RetrievalConfig(share_power=share_power, near_power=near_power, kind_weight=1.0),
        ITEMS,
        by_attributes=by_attributes,
    )
    similar.build(table, torch.tensor([[5, 9], [7, 9]]) if by_attributes else torch.zeros(0, 2, dtype=torch.int64))
    return similar.eval()


def newest(session: list[int], item: int) -> int:
    return max(place for place, each in enumerate(session) if each == item)


def literal_log_lifts(prefix: list[int], share_power: float, near_power: float) -> dict[int, float]:
    total, held, near = 0.0, dict.fromkeys(range(1, ITEMS), 0.0), dict.fromkeys(range(1, ITEMS), 0.0)
    for session in TRAINING:
        shared = set(prefix) & set(session)
        if not shared:
            continue
        anchor = max(shared, key=lambda item: newest(prefix, item))
        decay = math.exp(-(len(prefix) - 1 - newest(prefix, anchor)) / 2)
        total += decay * len(shared)
        for item in set(session):
            held[item] += decay * len(shared)
            near[item] += decay / max(1, abs(newest(session, item) - newest(session, anchor))) ** 2
    lifts = {item: share_power * math.log(1 + 1000) for item in set(prefix)}
    for item in set(held) - set(prefix):
        if held[item]:
            lifts[item] = share_power * math.log(1 + held[item] / total / 1e-3) + near_power * math.log(1 + near[item])
    return lifts


@pytest.mark.parametrize("powers", [(0.2, 0.0), (0.0, 0.5), (0.15, 0.3)])
@pytest.mark.parametrize("prefix", [[1, 2], [2], [3, 6, 3], [5, 1, 4], [7]])
def test_lifts_are_those_of_the_formula(prefix: list[int], powers: tuple[float, float]) -> None:
    found = layer(*powers)(SessionBatch.from_sequences([(prefix, [1] * len(prefix)), ([6], [1])])).log_lift
    assert found is not None
    from_first = {
        int(item): float(value)
        for row, item, value in zip(found.rows, found.items, found.weights, strict=True)
        if row == 0
    }
    assert from_first == pytest.approx(literal_log_lifts(prefix, *powers), rel=1e-5)


def test_sessions_that_share_nothing_but_similar_items_lift_nothing() -> None:
    found = layer(0.5, 0.5, by_attributes=True)(SessionBatch.from_sequences([([7], [1])])).log_lift
    assert found is not None
    lifts = dict(zip(found.items.tolist(), found.weights.tolist(), strict=True))
    # [2, 5] is a neighbour for a similar item, [1, 4, 6, 7] for the item itself.
    assert lifts.pop(2) == lifts.pop(5) == 0
    assert lifts == pytest.approx(
        {
            7: 0.5 * math.log(1001),
            **{item: 0.5 * math.log(1001) + 0.5 * math.log(1 + 1 / gap**2) for item, gap in ((6, 1), (4, 2), (1, 3))},
        }
    )


def test_training_goes_without_lifts_and_so_does_scoring_at_power_zero() -> None:
    batch = SessionBatch.from_sequences([([1], [1])])
    assert layer(0.15, 0.3).train()(batch).log_lift is None
    assert layer(0.0, 0.0)(batch).log_lift is None


def test_items_that_training_did_not_see_keep_their_probability() -> None:
    before = torch.tensor([[0.0, 0.4, 0.3, 0.2, 0.1], [0.0, 0.25, 0.25, 0.25, 0.25]])
    seen = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0])
    # The first session holds item 1 alone, the second one item 4, which training did not see.
    lift = Votes(torch.tensor([0, 1]), torch.tensor([1, 4]), torch.tensor([2.0, 3.0]).log())
    found = lifted(before.log(), lift, seen, torch.ones(2)).exp()
    assert found.tolist()[0] == pytest.approx([0.0, 0.7 * 0.8 / 1.1, 0.7 * 0.3 / 1.1, 0.2, 0.1])
    assert found.tolist()[1] == pytest.approx([0.0, 0.75 * 0.25 / 1.25, 0.75 * 0.25 / 1.25, 0.25, 0.75 * 0.75 / 1.25])


def test_a_part_of_the_mixture_keeps_its_sum() -> None:
    part = torch.tensor([[0.0, 0.3, 0.1, 0.2]])
    lift = Votes(torch.tensor([0]), torch.tensor([1]), torch.tensor([2.0]).log())
    found = lifted(part.log(), lift, torch.tensor([0.0, 1.0, 1.0, 1.0]), torch.tensor([0.6])).exp()
    assert found.tolist()[0] == pytest.approx([0.0, 0.4, 0.1 * 2 / 3, 0.2 * 2 / 3])


@torch.no_grad()
def test_scores_are_the_mixture_times_lifts_and_probabilities() -> None:
    shop = small_shop()
    _, model = fitted("compass", shop, dim=8)
    assert isinstance(model, Compass)
    model.eval()
    batch = collate(shop.examples(shop.train), np.arange(30))
    found = model.score(batch)
    log_lift = model.mixture(batch, model.vectors()).log_lift
    assert log_lift is not None
    model.similar.config = model.similar.config.model_copy(update={"share_power": 0.0, "near_power": 0.0})
    plain = model.score(batch)
    assert torch.allclose(found.exp().sum(1), torch.ones(30), atol=1e-5)
    change_BV = (found - plain)[:, 1:]
    lift_BV = log_lift.dense(len(batch), found.shape[1])[:, 1:]
    seen = model.vectors.seen[1:] > 0
    # But for items that nobody lifts and training did not see, all change by their lift less one number a session.
    rest_BV = (change_BV - lift_BV)[:, seen]
    assert torch.allclose(rest_BV, rest_BV[:, :1].expand_as(rest_BV), atol=1e-4)
    assert torch.allclose(change_BV[:, ~seen][lift_BV[:, ~seen] == 0], torch.zeros(()), atol=1e-5)

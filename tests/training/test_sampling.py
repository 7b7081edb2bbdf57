"""How negatives are drawn, and that they know how often each item was to be expected."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mkmsr.data.sessions import ExampleTable
from mkmsr.training.config import NegativesConfig
from mkmsr.training.strategies import NegativeSampler
from tests.conftest import session_table

TARGETS = torch.tensor([2, 2, 5])


def examples() -> ExampleTable:
    """Item 2 is a target four times, item 5 once, items 1, 3, 4, 6 and 7 never."""
    return ExampleTable.from_sessions(session_table([(1, 1), (2, 1), (2, 1), (2, 1), (2, 1), (5, 1)]))


def sampler(**settings: object) -> NegativeSampler:
    return NegativeSampler(examples(), 7, NegativesConfig.model_validate({"in_batch": False, **settings}))


@pytest.mark.parametrize(("power", "share"), [(1.0, 4 / 5), (0.5, 2 / 3)])
def test_items_are_drawn_by_a_power_of_their_frequency(power: float, share: float) -> None:
    drawn = sampler(power=power, number=20_000).draw(TARGETS, np.random.default_rng(0))
    assert set(drawn.items.tolist()) == {2, 5}
    assert float((drawn.items == 2).double().mean()) == pytest.approx(share, abs=0.02)


def test_power_zero_draws_the_whole_catalogue_alike_and_never_padding() -> None:
    drawn = sampler(power=0.0, number=70_000).draw(TARGETS, np.random.default_rng(1))
    counts = torch.bincount(drawn.items, minlength=8)
    assert counts[0] == 0
    torch.testing.assert_close(counts[1:].double(), torch.full((7,), 10_000.0).double(), rtol=0.05, atol=0)
    torch.testing.assert_close(drawn.log_counts.exp(), torch.full((70_000,), 10_000.0))


def test_expected_counts_are_those_of_many_draws() -> None:
    generator, each = np.random.default_rng(2), sampler(power=0.5, number=30, in_batch=True)
    frequent = examples().targets
    counts, expected, draws = np.zeros(8), {}, 4000
    for _ in range(draws):
        drawn = each.draw(torch.from_numpy(generator.choice(frequent, size=3).astype(np.int64)), generator)
        counts += np.bincount(drawn.items.numpy(), minlength=8)
        expected |= dict(zip(drawn.items.tolist(), drawn.log_counts.exp().tolist(), strict=True))
    for item, count in expected.items():
        assert counts[item] / draws == pytest.approx(count, rel=0.05)


def test_the_targets_of_the_batch_come_first() -> None:
    drawn = sampler(in_batch=True, number=4).draw(TARGETS, np.random.default_rng(3))
    assert drawn.items[:3].tolist() == [2, 2, 5]
    assert len(drawn.items) == len(drawn.log_counts) == 7


def test_the_same_generator_draws_the_same_items() -> None:
    first, second = (sampler().draw(TARGETS, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first.items, second.items)

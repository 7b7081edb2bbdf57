"""The perceptron over s (+) i_j, split and compiled, against the literal concatenation."""

from __future__ import annotations

import pytest
import torch

from mkmsr.layers.fast import pair_scorer
from mkmsr.layers.fast.pair_scorer import PairScorer, compiled_pair_scores, pair_scores

WAYS = [pair_scores, compiled_pair_scores]


@pytest.fixture(autouse=True)
def _numba() -> None:
    pytest.importorskip("numba")


def literal(scorer: PairScorer, sessions: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """w' relu(W [s ; i] + b), pair by pair, with W = [Ws Wi]."""
    weight = torch.cat([scorer.of_session.weight, scorer.of_item.weight], dim=1)
    hidden = [
        [torch.relu(weight @ torch.cat([s, i]) + scorer.of_session.bias) @ scorer.weight for i in items]
        for s in sessions
    ]
    return torch.stack([torch.stack(row) for row in hidden])


@pytest.mark.parametrize("hidden", [5, 6])
@pytest.mark.parametrize("numba", [True, False])
def test_scores_and_gradients_are_those_of_the_concatenation(
    numba: bool, hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not numba:
        monkeypatch.setattr(pair_scorer, "has_numba", lambda: False)
    torch.manual_seed(0)
    scorer = PairScorer(4, hidden).double()
    sessions = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    items = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    inputs, upstream = (sessions, items, *scorer.parameters()), torch.randn(3, 7, dtype=torch.float64)
    fast, slow = scorer(sessions, items), literal(scorer, sessions, items)
    torch.testing.assert_close(fast, slow)
    own = torch.autograd.grad((fast * upstream).sum(), inputs)
    for one, other in zip(own, torch.autograd.grad((slow * upstream).sum(), inputs), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("scores", WAYS)
def test_gradients_are_those_of_finite_differences(scores) -> None:
    torch.manual_seed(2)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 4), (4, 7), (4,))]
    assert torch.autograd.gradcheck(scores, inputs)


def test_more_items_than_a_block_are_scored_alike_both_ways_alone_and_in_a_batch() -> None:
    torch.manual_seed(3)
    sessions, items, weight = torch.randn(5, 8), torch.randn(8, 3 * pair_scorer._BLOCK + 7), torch.randn(8)
    compiled = compiled_pair_scores(sessions, items, weight)
    torch.testing.assert_close(compiled, pair_scores(sessions, items, weight), atol=1e-5, rtol=1e-5)
    assert torch.equal(compiled_pair_scores(sessions[2:3], items, weight), compiled[2:3])

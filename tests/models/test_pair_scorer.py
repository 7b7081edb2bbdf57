"""The perceptron over s (+) i_j, split and blocked, against the literal concatenation."""

from __future__ import annotations

import pytest
import torch

from mkmsr.models.mkm_sr import PairScorer, pair_scores


def literal(scorer: PairScorer, sessions: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """w' relu(W [s ; i] + b), pair by pair, with W = [Ws Wi]."""
    weight = torch.cat([scorer.of_session.weight, scorer.of_item.weight], dim=1)
    hidden = [
        [torch.relu(weight @ torch.cat([s, i]) + scorer.of_session.bias) @ scorer.weight for i in items]
        for s in sessions
    ]
    return torch.stack([torch.stack(row) for row in hidden])


def test_a_score_is_the_perceptron_of_the_concatenation() -> None:
    torch.manual_seed(0)
    scorer = PairScorer(4, 6).double()
    sessions, items = torch.randn(3, 4, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    torch.testing.assert_close(scorer(sessions, items), literal(scorer, sessions, items))


def test_gradients_are_those_of_the_concatenation() -> None:
    torch.manual_seed(0)
    scorer = PairScorer(4, 6).double()
    sessions = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    items = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    inputs, upstream = (sessions, items, *scorer.parameters()), torch.randn(3, 7, dtype=torch.float64)
    fast = torch.autograd.grad((scorer(sessions, items) * upstream).sum(), inputs)
    slow = torch.autograd.grad((literal(scorer, sessions, items) * upstream).sum(), inputs)
    for own, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("block", [1, 3, 7, 256])
def test_gradients_are_those_of_finite_differences(block: int) -> None:
    torch.manual_seed(2)
    shapes = ((3, 4), (7, 4), (4,))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda s, i, w: pair_scores(s, i, w, block=block), inputs)


def test_the_size_of_a_block_changes_nothing() -> None:
    torch.manual_seed(3)
    sessions, items, weight = torch.randn(5, 8), torch.randn(11, 8), torch.randn(8)
    whole = pair_scores(sessions, items, weight, block=11)
    for block in (1, 2, 4, 10, 100):
        torch.testing.assert_close(pair_scores(sessions, items, weight, block=block), whole)

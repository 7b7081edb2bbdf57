"""The perceptron over s (+) i_j, split and blocked, against the literal concatenation."""

from __future__ import annotations

import pytest
import torch

from mkmsr.layers.fast import pair_scorer
from mkmsr.layers.fast.pair_scorer import PairScorer, pair_scores, plain_pair_scores


def literal(scorer: PairScorer, sessions: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """w' relu(W [s ; i] + b), pair by pair, with W = [Ws Wi]."""
    weight = torch.cat([scorer.of_session.weight, scorer.of_item.weight], dim=1)
    hidden = [
        [torch.relu(weight @ torch.cat([s, i]) + scorer.of_session.bias) @ scorer.weight for i in items]
        for s in sessions
    ]
    return torch.stack([torch.stack(row) for row in hidden])


def test_scores_and_gradients_are_those_of_the_concatenation() -> None:
    torch.manual_seed(0)
    scorer = PairScorer(4, 6).double()
    sessions = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    items = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    inputs, upstream = (sessions, items, *scorer.parameters()), torch.randn(3, 7, dtype=torch.float64)
    fast, slow = scorer(sessions, items), literal(scorer, sessions, items)
    torch.testing.assert_close(fast, slow)
    own = torch.autograd.grad((fast * upstream).sum(), inputs)
    for one, other in zip(own, torch.autograd.grad((slow * upstream).sum(), inputs), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_blocks_of_any_size_give_what_the_definition_gives(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_scorer, "_BLOCK", block)
    torch.manual_seed(2)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 4), (7, 4), (4,))]
    torch.testing.assert_close(pair_scores(*inputs), plain_pair_scores(*inputs))
    assert torch.autograd.gradcheck(pair_scores, inputs)


def test_a_session_has_the_same_scores_alone_as_in_a_batch() -> None:
    torch.manual_seed(3)
    sessions, items, weight = torch.randn(5, 8), torch.randn(3000, 8), torch.randn(8)
    assert torch.equal(pair_scores(sessions[2:3], items, weight), pair_scores(sessions, items, weight)[2:3])

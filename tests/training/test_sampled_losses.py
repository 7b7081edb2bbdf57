"""The sampled losses against their formulae, one pair of target and negative at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.errors import ConfigError
from mkmsr.models.base import Negatives, SessionModel
from mkmsr.training.losses import SampledLoss, bpr, bpr_max, sampled_cross_entropy, sampled_session_loss, session_loss
from tests.training.tiny import NUM_ITEMS, TinyModel

ROWS, NEGATIVES = 4, 6
KINDS: tuple[SampledLoss, ...] = ("sampled-cross-entropy", "bpr", "bpr-max")


def scores(scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    of_target = torch.randn(ROWS, generator=generator, dtype=torch.float64) * scale
    others = torch.randn(ROWS, NEGATIVES, generator=generator, dtype=torch.float64) * scale
    hits = torch.zeros(ROWS, NEGATIVES, dtype=torch.bool)
    hits[0, 2] = hits[3, 0] = hits[3, 5] = True
    return of_target.requires_grad_(), others.requires_grad_(), hits


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(kind: SampledLoss, target: float, others: list[float]) -> float:
    """The loss of one row, hits already left out."""
    powers = [math.exp(score) for score in others]
    if kind == "sampled-cross-entropy":
        return -math.log(math.exp(target) / (math.exp(target) + sum(powers)))
    if kind == "bpr":
        return -sum(math.log(sigmoid(target - score)) for score in others) / len(others)
    weights = [power / sum(powers) for power in powers]
    above = sum(w * sigmoid(target - score) for w, score in zip(weights, others, strict=True))
    return -math.log(above) + 0.3 * sum(w * score**2 for w, score in zip(weights, others, strict=True))


def fast(kind: SampledLoss, of_target: Tensor, others: Tensor, hits: Tensor) -> Tensor:
    if kind == "bpr-max":
        return bpr_max(of_target, others, hits, penalty=0.3)
    return (bpr if kind == "bpr" else sampled_cross_entropy)(of_target, others, hits)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_their_formulae_without_hits(kind: SampledLoss) -> None:
    of_target, others, hits = scores()
    expected = [
        by_hand(kind, target, [score for score, hit in zip(row, missed, strict=True) if not hit])
        for target, row, missed in zip(of_target.tolist(), others.tolist(), hits.tolist(), strict=True)
    ]
    assert fast(kind, of_target, others, hits).item() == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_right_and_hits_have_none(kind: SampledLoss) -> None:
    of_target, others, hits = scores()
    assert torch.autograd.gradcheck(lambda a, b: fast(kind, a, b, hits), (of_target, others))
    fast(kind, of_target, others, hits).backward()
    assert others.grad is not None
    assert not others.grad[hits].any()
    assert others.grad[~hits].all()


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_scores_stay_finite(kind: SampledLoss) -> None:
    of_target, others, hits = (each.detach() for each in scores(scale=200.0))
    of_target, others = of_target.float().requires_grad_(), others.float().requires_grad_()
    loss = fast(kind, of_target, others, hits)
    loss.backward()
    assert loss.isfinite()
    assert of_target.grad is not None
    assert of_target.grad.isfinite().all()


def batch() -> SessionBatch:
    sequences = [([1, 2], [1, 1]), ([5], [2]), ([7, 7, 9], [1, 2, 1])]
    plain = SessionBatch.from_sequences(sequences)
    return SessionBatch(
        plain.items,
        plain.operations,
        plain.offsets,
        torch.tensor([3, 6, 10]),
        torch.ones(3, dtype=torch.int64),
        plain.sessions,
    )


def negatives(items: Tensor, count: float = 1.0) -> Negatives:
    return Negatives(items, torch.full((len(items),), math.log(count)))


def test_a_sample_of_everything_gives_the_exact_loss() -> None:
    model = TinyModel().eval()
    everything = torch.arange(1, NUM_ITEMS + 1)
    exact = session_loss(model, batch(), "cross-entropy")
    once = sampled_session_loss(model, batch(), negatives(everything), "sampled-cross-entropy")
    thrice = sampled_session_loss(
        model, batch(), negatives(everything.repeat(3), count=3.0), "sampled-cross-entropy", correction=1.0
    )
    torch.testing.assert_close(once, exact)
    torch.testing.assert_close(thrice, exact)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_whose_negatives_are_all_its_target_has_a_finite_loss(kind: SampledLoss) -> None:
    model = TinyModel().eval()
    loss = sampled_session_loss(model, batch(), negatives(torch.tensor([3, 3])), kind)
    loss.backward()
    assert loss.isfinite()
    assert all(each.grad is None or bool(each.grad.isfinite().all()) for each in model.parameters())


class NoProducts(SessionModel):
    """A model whose scores are no inner products."""


def test_scores_that_are_no_products_are_refused() -> None:
    model = NoProducts(TinyModel().sizes)
    with pytest.raises(ConfigError, match=r"training.loss.session: 'bpr' needs scores that are inner products"):
        sampled_session_loss(model, batch(), negatives(torch.tensor([1])), "bpr")

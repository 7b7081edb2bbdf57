"""Losses that set each target against a sample of items instead of the whole catalogue.

Dimension letters: B sessions, M negatives, D embedding size.
"""

from __future__ import annotations

from typing import Any, Literal, TypeGuard, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch
from mkmsr.errors import ConfigError
from mkmsr.layers.softmax import row_blocks
from mkmsr.models.base import Negatives, SessionModel
from mkmsr.models.capabilities import Likelihood, is_factorised

_NOT_THERE = -1e9
"""The score of a negative that does not count: so low that its weight is exactly 0."""

_FAR_AHEAD = 80.0
"""A target further above all negatives has no loss left in float32; so far, their sigmoids do not vanish either."""

SampledLoss = Literal["sampled-cross-entropy", "bpr", "bpr-max"]


def is_sampled(kind: str) -> TypeGuard[SampledLoss]:
    """Return whether a session loss is one of this file's."""
    return kind in get_args(SampledLoss)


def sampled_session_loss(
    model: SessionModel,
    batch: SessionBatch,
    negatives: Negatives,
    kind: SampledLoss,
    *,
    correction: float = 1.0,
    score_penalty: float = 1.0,
) -> Tensor:
    """Return how surprising the batch's targets were beside the negatives, the mean over the batch. Shape [].

    A negative that is a row's own target does not count in that row, unless all negatives are one item.

    Args:
        model: Its scores must be inner products, so that few of them can be had alone, or it gives its own
            `sampled_log_likelihood`.
        batch: Prefixes with their targets.
        negatives: The sample.
        kind: Which loss.
        correction: For "sampled-cross-entropy", how much of the logarithm of the expected counts is taken off.
        score_penalty: For "bpr-max", the weight of the squared scores.
    """
    if kind == "sampled-cross-entropy" and isinstance(model, Likelihood):
        weighed = Negatives(negatives.items, correction * negatives.log_counts)
        return -model.sampled_log_likelihood(batch, weighed).mean()
    if not is_factorised(model):
        raise ConfigError(
            f"{kind!r} needs scores that are inner products, which those of {type(model).__name__} are not here",
            key="training.loss.session",
        )
    vectors = model.item_vectors(torch.cat([batch.targets, negatives.items]))
    queries_BD = model.queries(batch)
    targets_BD, negatives_MD = vectors[: len(batch)], vectors[len(batch) :]
    of_target_B = (queries_BD * targets_BD).sum(1)
    scores_BM = queries_BD @ negatives_MD.T
    hits_BM = negatives.items == batch.targets[:, None]
    if bool((negatives.items == negatives.items[0]).all()):
        hits_BM.zero_()
    if kind == "bpr":
        return bpr(of_target_B, scores_BM, hits_BM)
    if kind == "bpr-max":
        return bpr_max(of_target_B, scores_BM, hits_BM, penalty=score_penalty)
    return sampled_cross_entropy(of_target_B, scores_BM - correction * negatives.log_counts, hits_BM)


def sampled_cross_entropy(of_target: Tensor, scores: Tensor, hits: Tensor) -> Tensor:
    """Return the mean of -log softmax of the target's score among its own and the negatives'. Shape [].

    With the logarithm of its expected count taken off each negative's score beforehand, the sum over the sample
    estimates the sum over all other items without bias, and the loss approaches the exact one as the sample grows.
    Targets [B], scores of negatives [B, M], and where a negative is the row's own target [B, M].

    Source: Jean et al., On Using Very Large Target Vocabulary for Neural Machine Translation, ACL 2015.

    Differs: the target, which is always there, keeps its score as it is.
    """
    logits = torch.cat([of_target[:, None], scores.masked_fill(hits, float("-inf"))], dim=1)
    return (logits.logsumexp(1) - of_target).mean()


def bpr(of_target: Tensor, scores: Tensor, hits: Tensor) -> Tensor:
    """Return the mean over rows and negatives of -log sigmoid(target's score - negative's). Shapes as above.

    Source: Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009.
    """
    losses = -F.logsigmoid(of_target[:, None] - scores).masked_fill(hits, 0.0)
    return (losses.sum(1) / (~hits).sum(1).clamp(min=1)).mean()


def bpr_max(of_target: Tensor, scores: Tensor, hits: Tensor, *, penalty: float) -> Tensor:
    """Return the mean over rows of -log sum_j w_j sigmoid(r - r_j) + penalty * sum_j w_j r_j^2 with w = softmax_j(r_j).

    High negatives weigh most, so that the gradient does not vanish as most of them fall behind. Shapes as above.

    As e^x sigmoid(-x) = sigmoid(x), the sum over j is e^r sum_j sigmoid(r_j - r) / sum_j e^{r_j}, and with q the shares
    of its numerator the derivative by r_j is w_j - q_j sigmoid(r - r_j) + penalty * w_j (r_j^2 + 2 r_j - sum w r^2). It
    is taken along with the loss, some rows at a time, so that they stay in the processor's cache.

    Source: Hidasi and Karatzoglou, Recurrent Neural Networks with Top-k Gains, CIKM 2018.
    """
    loss: Tensor = _BPRMax.apply(of_target, scores, hits, penalty)  # type: ignore[no-untyped-call]
    return loss


class _BPRMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, of_target: Tensor, scores: Tensor, hits: Tensor, penalty: float) -> Tensor:
        of_scores, by_target = torch.empty_like(scores), torch.empty_like(of_target)
        losses = [
            _bpr_max_rows(of_target[rows, None], scores[rows], hits[rows], penalty, of_scores[rows], by_target[rows])
            for rows in row_blocks(scores)
        ]
        ctx.save_for_backward(by_target, of_scores)
        return torch.cat(losses).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_target, of_scores = ctx.saved_tensors
        scale = gradients[0] / len(by_target)
        return by_target * scale, of_scores * scale, None, None


def _bpr_max_rows(
    target: Tensor, scores: Tensor, hits: Tensor, penalty: float, of_scores: Tensor, of_target: Tensor
) -> Tensor:
    """Losses of some rows [b]; derivatives by the scores go into `of_scores` [b, M], by the target into `of_target`."""
    scores = scores.masked_fill(hits, _NOT_THERE)
    highest = scores.amax(1, keepdim=True)
    target = torch.minimum(target, highest + _FAR_AHEAD)
    weight = (scores - highest).exp_()
    total = weight.sum(1, keepdim=True)
    weight /= total
    behind = (scores - target).sigmoid_()
    above = behind.sum(1, keepdim=True)
    squares = (weight * scores).mul_(scores).sum(1, keepdim=True)
    torch.addcmul(scores * 2, scores, scores, out=of_scores).sub_(squares).mul_(penalty).add_(1.0).mul_(weight)
    gap = behind.square().sub_(behind).div_(above)  # -q_j sigmoid(r - r_j)
    of_scores += gap
    of_target.copy_(-1.0 - gap.sum(1))
    return (highest + total.log() - target - above.log() + penalty * squares)[:, 0]

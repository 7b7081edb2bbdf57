"""What training minimises: how surprising the next items were, and how badly the triples fit.

The exact losses look at the whole catalogue, the sampled ones set each target against a sample of items.

Both are means (over examples, over triples), where the MKM-SR talk writes sums; a mean keeps learning rate and
lambda_1 apart from batch size. Dimension letters: B sessions, D embedding size, V catalogue + 1 (column 0 is padding
and takes no part), T triples, M negatives.
"""

from __future__ import annotations

from typing import Any, Literal, TypeGuard, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch, TripleBatch
from mkmsr.errors import ConfigError
from mkmsr.layers.fast.catalogue_softmax import target_log_softmax
from mkmsr.layers.softmax import blockwise_target_log_softmax, row_blocks
from mkmsr.models.base import Negatives, SessionModel
from mkmsr.models.capabilities import Likelihood, has_knowledge_task, is_factorised
from mkmsr.training.config import KnowledgeLoss, SessionLoss

_SMALLEST_DISTANCE = 1e-12
"""Below it the root's slope grows without bound."""

_NOT_THERE = -1e9
"""The score of a negative that does not count: so low that its weight is exactly 0."""

_FAR_AHEAD = 80.0
"""A target further above all negatives has no loss left in float32; so far, their sigmoids do not vanish either."""

SampledLoss = Literal["sampled-cross-entropy", "bpr", "bpr-max"]


def session_loss(model: SessionModel, batch: SessionBatch, kind: SessionLoss, *, block: int = 0) -> Tensor:
    """Return how surprising the batch's targets were, the mean over the batch. Shape [].

    A model that defines its own `log_likelihood` is trained on the negative mean of that, and on no other kind of loss.
    `block` items are scored at a time, see `LossConfig.catalogue_block`; 0 for all, which "bce" needs.
    """
    if isinstance(model, Likelihood):
        if kind != "cross-entropy":
            raise ConfigError(
                f"{type(model).__name__} defines its own likelihood, which 'cross-entropy' trains; found {kind!r}",
                key="training.loss.session",
            )
        return -model.log_likelihood(batch, block=block).mean()
    if kind == "bce":
        if block:
            raise ConfigError("'bce' needs all scores at once: leave out catalogue_block", key="training.loss.session")
        return binary_cross_entropy(model.score(batch), batch.targets)
    if is_factorised(model):
        queries_BD, items_VD = model.both_sides(batch)
        if 0 < block < len(items_VD):
            return -blockwise_target_log_softmax(queries_BD, items_VD, batch.targets, block).mean()
        return -target_log_softmax(queries_BD, items_VD, batch.targets).mean()
    return F.cross_entropy(model.score(batch), batch.targets)


def knowledge_loss(
    model: SessionModel,
    triples: TripleBatch,
    kind: KnowledgeLoss = "squared",
    *,
    corrupted: TripleBatch | None = None,
    margin: float = 1.0,
) -> Tensor:
    """Return how badly the triples fit, the mean over triples. Shape [].

        "squared":  mean f(h, r, t)
        "norm":     mean sqrt f(h, r, t)
        "margin":   mean max(0, margin + f(h, r, t) - f(h', r, t')), over pairs with a corrupted triple

    f is the model's `triple_distances`. Source: "squared" is the MKM-SR talk's, over true triples alone, "norm" that of
    the older version of its authors' code, "margin" is TransH (Wang et al., AAAI 2014).
    """
    if not has_knowledge_task(model):
        raise ConfigError(f"{type(model).__name__} has no knowledge task", key="training.strategy")
    distances_T = model.triple_distances(triples)
    if kind == "norm":
        return distances_T.clamp(min=_SMALLEST_DISTANCE).sqrt().mean()
    if corrupted is None:
        return distances_T.mean()
    return F.relu(margin + distances_T - model.triple_distances(corrupted)).mean()


def binary_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the batch's mean of the binary cross-entropy of softmaxed scores, summed over the whole catalogue.

        p = softmax(scores),   loss = -log p[target] - sum over other items j of log(1 - p[j])

    At most one item of a row has p > 1/2, so log(1 - p) is safe through log1p for every other item; for the largest,
    1 - p is the others' share, taken as a difference of two logarithms of sums. Nothing overflows, forward or back.
    Scores [B, V] are -inf in column 0, targets [B] are 1..V-1. Source: the MKM-SR talk, "Main task".
    """
    loss: Tensor = _BinaryCrossEntropy.apply(scores, targets)  # type: ignore[no-untyped-call]
    return loss


class _BinaryCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, targets: Tensor) -> Tensor:
        gradient = torch.empty_like(scores)
        losses = []
        for rows in row_blocks(scores):
            losses.append(_binary_cross_entropy_rows(scores[rows], targets[rows, None], gradient[rows]))
        ctx.save_for_backward(gradient)
        return torch.cat(losses).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (gradients[0] / len(gradient)), None


def _binary_cross_entropy_rows(scores: Tensor, target: Tensor, gradient: Tensor) -> Tensor:
    """The loss of some rows, [rows, 1]; its derivative by the scores goes into `gradient`, [rows, V].

    With odds r = p / (1 - p) and R the sum of r over all items but the target, d loss / d score of item k is
    p_k (2 - (R - r_k)), and of the target p_t - 1 - p_t R. Where the largest item m is not the target its r_m may
    overflow, so it is kept out of R, and its product p_k r_m is taken as p_m times k's share of the items other than m.
    One exponential an item: probabilities are the shares times the others' part of the whole.
    """
    top_score, top = scores.max(1, keepdim=True)
    hit = top == target
    others = scores.scatter(1, top, float("-inf"))
    second = others.amax(1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)  # -inf in a catalogue of one item
    shares = others.sub_(second).exp_()
    sum_others = shares.sum(1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    log_others = sum_others.log() + second
    log_total = torch.logaddexp(log_others, top_score)
    part_of_others = (log_others - log_total).exp()
    shares.div_(sum_others)
    p = shares * part_of_others
    not_p = 1 - p

    p_top = (top_score - log_total).exp()
    p_target = p.gather(1, target)
    log_target = scores.gather(1, target) - log_total
    log_rest = not_p.log().scatter_(1, target, 0.0).sum(1, keepdim=True)
    loss = -log_target - log_rest - torch.where(hit, 0.0, log_others - log_total)

    odds = (p / not_p).scatter_(1, target, 0.0)
    sum_odds = odds.sum(1, keepdim=True)
    missed_top = torch.where(hit, 0.0, p_top)
    torch.mul(p, odds.sub_(sum_odds).add_(2.0), out=gradient).addcmul_(shares, missed_top, value=-1)
    at_target = torch.where(
        hit,
        -part_of_others - p_top * sum_odds,
        p_target - 1 - p_target * sum_odds - shares.gather(1, target) * p_top,
    )
    gradient.scatter_(1, top, p_top * (2.0 - sum_odds)).scatter_(1, target, at_target)
    return loss


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

    A negative that is a row's own target does not count in that row, unless all negatives are one item. The model's
    scores must be inner products, so that few of them can be had alone, or it gives its own `sampled_log_likelihood`.
    The correction says how much of the logarithm of the expected counts "sampled-cross-entropy" takes off; the penalty
    is the weight of the squared scores of "bpr-max".
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

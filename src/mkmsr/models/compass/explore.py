"""COMPASS's explore component: any item of the catalogue, by its vector, by shared attributes and by its prior.

It is the mean over the queries of a session, one in training, of a softmax over the whole catalogue, block by block, or
over a sample of it. Dimension letters: B sessions, A attributes, R relations, M (event, attribute) pairs, C columns of
the sample, D embedding size, K queries of a session, N pairs of a session and an item, V catalogue + 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.fast.catalogue_softmax import target_log_softmax
from mkmsr.layers.fast.shared_table import unit_rows
from mkmsr.layers.softmax import SparseScores, blockwise_target_log_softmax, row_blocks
from mkmsr.models.base import Negatives
from mkmsr.models.compass.item_vectors import ComposedVectors, ItemVectors

__all__ = ["AttributeMatch", "ExploreQuery", "Sample", "candidates", "fixed_masks", "log_mean"]

_ABSENT = -30.0
"""Log weight of a column that is there for some rows only; small enough for a weight of 0 in 32 bits, and no more, so
that the rows that have it can take it back without loss."""
_FEWEST_ROWS = 8
"""Sessions scored at a time at least: a product of few rows is little more than reading the catalogue."""


class AttributeMatch(nn.Module):
    """Weights [A + 1, B]: an attribute of an event adds theta[relation, age] (1 + u[attribute]) to it.

    Spread over the items that have the attribute, the weights are scores: "the same shop as a moment ago" counts as
    such, for new items too, without going through any vector. Age is the number of events since, the last one has 0.

    Args:
        num_attributes: A.
        num_relations: R.
        ages: Ages told apart; older events share the last one.
    """

    def __init__(self, num_attributes: int, num_relations: int, *, ages: int = 28):
        super().__init__()
        self.by_age = nn.Parameter(torch.empty(num_relations + 1, ages))
        self.by_attribute = nn.Embedding(num_attributes + 1, 1, padding_idx=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """theta starts at half a point for the newest event and falls to 1/e of it in 1.5 events; u at zero."""
        ages = torch.arange(self.by_age.shape[1])
        with torch.no_grad():
            self.by_age.copy_((0.5 * torch.exp(-ages / 1.5)).expand_as(self.by_age))
            self.by_attribute.weight.zero_()

    def forward(
        self, attributes: Tensor, relations: Tensor, shares: Tensor, ages: Tensor, rows: Tensor, num_rows: int
    ) -> Tensor:
        """attributes, relations, shares (1 / values of that relation), ages, rows: each [M] -> [A + 1, B]."""
        theta_M = self.by_age[relations, ages.clamp(max=self.by_age.shape[1] - 1)]
        weights_M: Tensor = theta_M * (1 + self.by_attribute(attributes).squeeze(1)) * shares
        size = (self.by_attribute.num_embeddings, num_rows)
        flat = weights_M.new_zeros(math.prod(size)).index_add(0, attributes * num_rows + rows, weights_M)
        return flat.view(size)


@dataclass(frozen=True)
class Sample:
    """Columns of the catalogue, weighed so that a softmax over them estimates the softmax over all of it.

    Each stands for log(times drawn / expected times) more than its own score; a row for which an item is exact, such
    as its target, takes that back. The sum over the columns is then an unbiased estimate of the sum over the catalogue.

    Args:
        items: Those of the prefixes, the targets and the negatives, each once, rising; the first is the padding. [C].
        log_weights: Shape [C].
        rows: Prefix of each pair of a prefix and an item whose score is exact; pairs may recur. Shape [N].
        exact_items: Its item. Shape [N].
    """

    items: Tensor
    log_weights: Tensor
    rows: Tensor
    exact_items: Tensor

    @classmethod
    def draw(cls, batch: SessionBatch, negatives: Negatives) -> Sample:
        """Return what a sampled softmax looks at; the target and what the visitor touched is exact.

        The visitor's items are composed anyway, and score high. Voted items score high too, but twenty of them a
        prefix, taken exactly, gained nothing and made the columns twice as many (docs/log).
        """
        rows = [torch.arange(len(batch), device=batch.rows.device), batch.rows]
        exact = [batch.targets, batch.items]
        if batch.earlier is not None:
            rows.append(batch.earlier.rows)
            exact.append(batch.earlier.items)
        return cls.of(torch.cat(rows), torch.cat(exact), negatives)

    @classmethod
    def of(cls, rows: Tensor, exact_items: Tensor, negatives: Negatives) -> Sample:
        """Return the columns for some pairs whose score is exact, [N] each, and for negatives."""
        drawn = negatives.items
        items = torch.unique(torch.cat([exact_items.new_zeros(1), exact_items, drawn]))
        places = torch.searchsorted(items, drawn)
        drawn_C = torch.bincount(places, minlength=len(items)).to(negatives.log_counts)
        expected_C = torch.zeros_like(drawn_C).scatter_(0, places, negatives.log_counts)
        log_weights = torch.where(drawn_C > 0, drawn_C.clamp(min=1).log() - expected_C, _ABSENT)
        return cls(items, log_weights, rows, exact_items)

    def places(self, items: Tensor) -> Tensor:
        """Return the columns of items that are among them."""
        return torch.searchsorted(self.items, items)

    def extra_scores(self, evidence: SparseScores) -> SparseScores:
        """Return what is added to the columns: the evidence that falls on them, and what makes exact pairs exact."""
        places = self.places(evidence.columns).clamp(max=len(self.items) - 1)
        there = self.items[places] == evidence.columns
        pairs = torch.unique(self.rows * len(self.items) + self.places(self.exact_items))
        exact = pairs % len(self.items)
        return SparseScores(
            torch.cat([evidence.rows[there], pairs // len(self.items)]),
            torch.cat([places[there], exact]),
            torch.cat([evidence.values[there], -self.log_weights[exact]]),
        )


@dataclass(frozen=True)
class ExploreQuery:
    """What the sessions of a batch look for in the catalogue.

    Args:
        queries: Scaled unit vectors, and a 1 that meets the items' prior: one of shape [B, D + 1] for each mask.
        evidence: What similar sessions add to scores.
        match_weights: What an attribute adds to the scores of its items; None: nothing. Shape [A + 1, B].
    """

    queries: tuple[Tensor, ...]
    evidence: SparseScores
    match_weights: Tensor | None

    def log_likelihood(self, vectors: ComposedVectors, candidates: Tensor, targets: Tensor, *, block: int) -> Tensor:
        """Return log p of each target over the whole catalogue, [V, D + 1]; `block` items at a time, 0 for all. [B]."""
        weights_AB = self.match_weights
        if 0 < block < len(candidates):

            def matches(begin: int, end: int) -> Tensor:
                assert weights_AB is not None
                return vectors.spread_to(torch.arange(begin, end, device=targets.device), weights_AB)

            by_item = None if weights_AB is None else matches
            return log_mean(
                [
                    blockwise_target_log_softmax(query, candidates, targets, block, self.evidence, by_item)
                    for query in self.queries
                ]
            )
        matches_VB = None if weights_AB is None else vectors.spread(weights_AB)
        return log_mean(
            [target_log_softmax(query, candidates, targets, self.evidence, matches_VB) for query in self.queries]
        )

    def sampled_log_likelihood(
        self, vectors: ComposedVectors, candidates: Tensor, targets: Tensor, sample: Sample
    ) -> Tensor:
        """Return an estimate of the same; the candidates are the sample's columns, [C, D + 1]. Shape [B]."""
        extra, places, weights_AB = sample.extra_scores(self.evidence), sample.places(targets), self.match_weights
        matches_CB = None if weights_AB is None else vectors.spread_to(sample.items, weights_AB)
        return log_mean([target_log_softmax(query, candidates, places, extra, matches_CB) for query in self.queries])

    def log_scores(self, vectors: ComposedVectors, candidates_DV: Tensor) -> Tensor:
        """Return log p of every item; column 0 is left out. [D + 1, V] -> [B, V]."""
        queries_BKD = torch.stack(self.queries, dim=1)
        scores_BV = queries_BKD.new_zeros(len(queries_BKD), candidates_DV.shape[1])
        if self.match_weights is not None:
            scores_BV += vectors.spread(self.match_weights).T
        rows, columns, values = self.evidence
        scores_BV.index_put_((rows, columns), values, accumulate=True)
        scores_BV[:, 0] = -torch.inf
        for block in row_blocks(scores_BV, least=_FEWEST_ROWS):
            queries_bKD = queries_BKD[block]
            logits_bKV = (queries_bKD.flatten(0, 1) @ candidates_DV).view(*queries_bKD.shape[:2], -1)
            logits_bKV += scores_BV[block, None]
            scores_BV[block] = _log_mean_softmax(logits_bKV)
        scores_BV[:, 0] = -torch.inf
        return scores_BV

    def scores_of(
        self, vectors: ComposedVectors, item_vectors: ItemVectors, query: Tensor, rows: Tensor, items: Tensor
    ) -> Tensor:
        """Return the scores of some pairs of a session and an item, before the softmax and without the prior. [N].

        Args:
            vectors: What is known about items.
            item_vectors: Read by item index.
            query: One a session. Shape [B, D + 1].
            rows: Session of each pair. Shape [N].
            items: Its item. Shape [N].
        """
        scores_N = (query[rows, :-1] * unit_rows(item_vectors[items])).sum(1)
        scores_N = scores_N + self.evidence.at(rows, items, len(vectors.seen))
        if self.match_weights is None:
            return scores_N
        owner, attributes, shares = vectors.attributes_of(items)
        return scores_N.index_add(0, owner, self.match_weights[attributes, rows[owner]] * shares)


def candidates(vectors: Tensor, prior: Tensor) -> Tensor:
    """Return unit vectors of items with their prior behind them, which meet queries. [V, D], [V] -> [V, D + 1]."""
    return torch.cat([unit_rows(vectors), prior[:, None]], dim=1)


def log_mean(logs: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean of probabilities, given theirs."""
    return logs[0] if len(logs) == 1 else torch.stack(list(logs)).logsumexp(0) - math.log(len(logs))


def _log_mean_softmax(logits_bKV: Tensor) -> Tensor:
    """The logarithm of the mean over queries of a softmax over items, the smallest number at least. [b, V]."""
    if logits_bKV.shape[1] == 1:
        return logits_bKV[:, 0].log_softmax(1)
    return logits_bKV.softmax(2).mean(1).clamp_min_(torch.finfo(logits_bKV.dtype).tiny).log_()


def fixed_masks(count: int, width: int, share: float) -> Tensor:
    """Return dropout masks that stay, for a mean over what a network says under each (Monte Carlo dropout). [K, D].

    They are drawn once, the same ones everywhere, and balanced: every component is kept by the same number of masks,
    round((1 - share) K). Kept components are 1: nothing is scaled up. One mask keeps everything.

    Source: Gal, Ghahramani, ICML 2016, "Dropout as a Bayesian approximation", with masks drawn anew each time.
    """
    if count == 1 or share == 0:
        return torch.ones(1, width)
    order = torch.rand(count, width, generator=torch.Generator().manual_seed(0)).argsort(dim=0)
    return (order < max(1, round((1 - share) * count))).float()

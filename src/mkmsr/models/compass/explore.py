"""COMPASS's explore component over the whole catalogue, block by block, or over a sample of it.

It is the mean over the queries of a session, one in training, of a softmax. Dimension letters: B sessions, A
attributes, C columns of the sample, D embedding size, N exact pairs, V catalogue + 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.products import product
from mkmsr.layers.rows import unit_rows
from mkmsr.layers.softmax import SparseScores, recomputed_target_log_softmax, row_blocks, target_log_softmax
from mkmsr.models.base import Negatives
from mkmsr.models.compass.composition import ComposedVectors, ItemVectors
from mkmsr.models.compass.sampled_columns import SampledColumns

if TYPE_CHECKING:
    from mkmsr.models.compass.mixture import Mixture

__all__ = ["Sample", "draw_columns", "explore_all", "explore_at", "explore_sample", "explore_scores", "log_mean"]


_FEWEST_ROWS = 8
"""Sessions scored at a time at least: a product of few rows is little more than reading the catalogue."""


@dataclass(frozen=True)
class Sample:
    """The columns of a sampled softmax, and the pairs of prefix and item whose score counts as it is.

    Args:
        columns: All items that are needed: those of the prefixes, targets, negatives.
        rows: Prefix of each exact pair; pairs may recur. Shape [N].
        items: Its item. Shape [N].
    """

    columns: SampledColumns
    rows: Tensor
    items: Tensor


def draw_columns(batch: SessionBatch, negatives: Negatives) -> Sample:
    """What a sampled softmax over these negatives looks at; the target and what the visitor touched is exact.

    The visitor's items are composed anyway, and score high. Voted items score high too, but twenty of them a prefix,
    taken exactly, gained nothing and made the columns twice as many (LOG.md).
    """
    rows = [torch.arange(len(batch), device=batch.rows.device), batch.rows]
    items = [batch.targets, batch.items]
    if batch.earlier is not None:
        rows.append(batch.earlier.rows)
        items.append(batch.earlier.items)
    row, item = torch.cat(rows), torch.cat(items)
    return Sample(SampledColumns.of(item, negatives.items, negatives.log_counts), row, item)


def explore_all(
    vectors: ComposedVectors, mixture: Mixture, candidates: Tensor, targets: Tensor, *, block: int
) -> Tensor:
    """log p_explore of each target over the whole catalogue, [V, D + 1]; `block` items at a time, 0 for all. -> [B]."""
    weights_AB = mixture.match_weights
    if 0 < block < len(candidates):

        def matches(begin: int, end: int) -> Tensor:
            assert weights_AB is not None
            return vectors.spread_to(torch.arange(begin, end, device=targets.device), weights_AB)

        by_item = None if weights_AB is None else matches
        return log_mean(
            [
                recomputed_target_log_softmax(query, candidates, targets, mixture.evidence, by_item, block)
                for query in mixture.queries
            ]
        )
    matches_VB = None if weights_AB is None else vectors.spread(weights_AB)
    return log_mean(
        [target_log_softmax(query, candidates, targets, mixture.evidence, matches_VB) for query in mixture.queries]
    )


def explore_sample(
    vectors: ComposedVectors, mixture: Mixture, candidates: Tensor, targets: Tensor, sample: Sample
) -> Tensor:
    """An estimate of log p_explore of each target; the candidates are the sample's columns, [C, D + 1]. -> [B]."""
    columns, weights_AB = sample.columns, mixture.match_weights
    evidence, exact = columns.restricted(mixture.evidence), columns.exact(sample.rows, sample.items)
    extra = SparseScores(*(torch.cat(parts) for parts in zip(evidence, exact, strict=True)))
    matches_CB = None if weights_AB is None else vectors.spread_to(columns.items, weights_AB)
    places = columns.places(targets)
    return log_mean(
        [target_log_softmax(query, candidates, places, extra, matches_CB, sampled=True) for query in mixture.queries]
    )


def explore_scores(vectors: ComposedVectors, mixture: Mixture, candidates_DV: Tensor) -> Tensor:
    """log p_explore of every item; column 0 is left out. [D + 1, V] -> [B, V]."""
    queries_BKD = torch.stack(mixture.queries, dim=1)
    scores_BV = queries_BKD.new_zeros(len(queries_BKD), candidates_DV.shape[1])
    if mixture.match_weights is not None:
        scores_BV += vectors.spread(mixture.match_weights).T
    rows, columns, values = mixture.evidence
    scores_BV.index_put_((rows, columns), values, accumulate=True)
    scores_BV[:, 0] = -torch.inf
    for block in row_blocks(scores_BV, least=_FEWEST_ROWS):
        queries_bKD = queries_BKD[block]
        logits_bKV = product(queries_bKD.flatten(0, 1), candidates_DV).view(*queries_bKD.shape[:2], -1)
        logits_bKV += scores_BV[block, None]
        scores_BV[block] = _log_mean(logits_bKV)
    scores_BV[:, 0] = -torch.inf
    return scores_BV


def explore_at(
    vectors: ComposedVectors,
    mixture: Mixture,
    query: Tensor,
    item_vectors: ItemVectors,
    rows: Tensor,
    items: Tensor,
) -> Tensor:
    """Scores of some pairs of a session and an item, before the softmax and without the prior.

    One query a session, [B, D + 1]; `item_vectors` are read by item index; the pairs are `rows` and `items`. -> [H].
    """
    scores_H = (query[rows, :-1] * unit_rows(item_vectors[items])).sum(1)
    scores_H = scores_H + mixture.evidence.at(rows, items, len(vectors.seen))
    if mixture.match_weights is None:
        return scores_H
    owner, attributes, shares = vectors.attributes_of(items)
    return scores_H.index_add(0, owner, mixture.match_weights[attributes, rows[owner]] * shares)


def _log_mean(logits: Tensor) -> Tensor:
    """The logarithm of the mean over queries of a softmax over items, the smallest number at least. -> [b, V]."""
    if logits.shape[1] == 1:
        return logits[:, 0].log_softmax(1)
    return logits.softmax(2).mean(1).clamp_min_(torch.finfo(logits.dtype).tiny).log_()


def log_mean(logs: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of probabilities, given theirs."""
    return logs[0] if len(logs) == 1 else torch.stack(list(logs)).logsumexp(0) - math.log(len(logs))

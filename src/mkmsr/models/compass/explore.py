"""COMPASS's explore component: any item of the catalogue, and the only component that knows items without any event.

    p(j) = softmax over j of  a scale cos(q, x_j) + b match(j) + prior(j) + c log(1 + n_j) + d [j is in the session]

prior(j) is e log(1 + training events of j); a new item with attributes has f instead, less where there are more new
items than lately came in. n_j counts the items that similar sessions with j share with the session. In training the
weights are constants and c = d = 0; a to f are fitted forward in time, see `Mixture`.
Dimension letters: B sessions, A attributes, R relations, M (event, attribute) pairs, C columns of a sample, D embedding
size, T common attributes, N pairs of a session and an item, V catalogue + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.errors import DataError
from mkmsr.layers.fast.catalogue_product import CatalogueProduct
from mkmsr.layers.fast.catalogue_softmax import target_log_softmax
from mkmsr.layers.fast.shared_table import unit_rows
from mkmsr.layers.softmax import SparseScores, blockwise_target_log_softmax, row_blocks
from mkmsr.models.base import Negatives
from mkmsr.models.compass.item_vectors import ComposedVectors
from mkmsr.models.neighbours.voting import Votes

_IN_TRAINING = {"vector": 1.0, "match": 1.0, "popularity": 0.3, "new": 0.0, "evidence": 0.0, "own": 0.0}
"""a, b, e, f, c and d in training. Learnt there, popularity would weigh too much: it counts the log's own events."""
_AT_FIRST = (0.55, 0.7, 0.5, 1.5, 0.8, -0.5)
"""The same before they are fitted: about what they come to on three logs."""
_START_SCALE = 16.0
_NEVER = -1e4
"""Prior of an item that cannot come: probability 0."""
_LATE = 0.1
"""Share of the sessions, the newest, whose new items say how many come in at a time."""
_AGES = 28
"""Ages of events that are told apart; older ones share the last one."""
_COMMON = 11
"""Attributes that count as common. Over 134,548 items of a simulated shop, 49,000 have one of a session, 1,200 of them
without such a one."""
_ABSENT = -30.0
"""Log weight of a column that is there for some rows only; small enough for a weight of 0 in 32 bits, and no more, so
that the rows that have it can take it back without loss."""


@dataclass(frozen=True)
class Encoded:
    """What the parts of the mixture look at.

    Args:
        batch: The sessions.
        vectors: Return the vectors of some items, [N] -> [N, D].
        popularity: log(1 + training events) of each item. Shape [V].
        query: What the sessions look for in the catalogue, scaled unit vectors. Shape [B, D].
        match: What each attribute of each event adds to the scores of its items, in place of an item; None: nothing.
        votes: What similar sessions hold, and the logarithms of their votes; None where nobody is asked.
        evidence: log(1 + n_j) of these items; None likewise.
        wanted: The operation asked for, 0 for any; None where it is never asked for. Shape [B].
    """

    batch: SessionBatch
    vectors: Callable[[Tensor], Tensor]
    popularity: Tensor
    query: Tensor
    match: Votes | None = None
    votes: Votes | None = None
    evidence: SparseScores | None = None
    wanted: Tensor | None = None


class AllItems(NamedTuple):
    """What scoring keeps of the catalogue from one batch to the next.

    A session has a dozen attributes. Those that few items have are added to the scores of these items; those that most
    have, the common ones, [T], are columns of the product, behind the candidates: 1 / values of the relation where an
    item has one.
    """

    product: CatalogueProduct
    common: Tensor


class AttributeMatch(nn.Module):
    """What an attribute of an event is worth: theta[relation, age] (1 + u[attribute]) / values of the relation.

    Spread over the items that have the attribute, the weights are scores: "the same shop as a moment ago" counts as
    such, for new items too, without going through any vector. Age is the number of events since, the last one has 0.
    """

    def __init__(self, num_attributes: int, num_relations: int):
        super().__init__()
        self.by_age = nn.Parameter(torch.empty(num_relations + 1, _AGES))
        self.by_attribute = nn.Embedding(num_attributes + 1, 1, padding_idx=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """theta starts at half a point for the newest event and falls to 1/e of it in 1.5 events; u at zero."""
        with torch.no_grad():
            self.by_age.copy_((0.5 * torch.exp(-torch.arange(_AGES) / 1.5)).expand_as(self.by_age))
            self.by_attribute.weight.zero_()

    def forward(self, batch: SessionBatch, vectors: ComposedVectors) -> Votes:
        """Return the weights of a batch's sessions, one entry for each attribute of each event in place of an item."""
        event, attributes, shares = vectors.by_item.of(batch.items)
        theta_M = self.by_age[vectors.relation_of[attributes], batch.ages[event].clamp(max=_AGES - 1)]
        weights_M = theta_M * (1 + self.by_attribute(attributes).squeeze(1)) * shares
        return Votes(batch.rows[event], attributes, weights_M)


class Explore(nn.Module):
    """Scores of the catalogue, from item vectors and what else counts; attributes only where there are any.

    Buffers:
        popularity: log(1 + training events) of each item. Shape [V].
        new_at_a_time: New items that came in with the newest tenth of the sessions, at least one.
        expected: 1 where new items may come, else 0.
    """

    popularity: Tensor
    new_at_a_time: Tensor
    expected: Tensor

    def __init__(self, num_items: int, num_attributes: int, num_relations: int):
        super().__init__()
        self.matching = AttributeMatch(num_attributes, num_relations) if num_attributes else None
        self.log_scale = nn.Parameter(torch.empty(()))
        self.fitted = nn.Parameter(torch.empty(len(_AT_FIRST)), requires_grad=False)
        """The weights, in the order of `_IN_TRAINING`."""
        self.num_columns = num_items + 1
        self.register_buffer("popularity", torch.zeros(self.num_columns))
        self.register_buffer("new_at_a_time", torch.ones(()))
        self.register_buffer("expected", torch.ones(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the scale and the weights; matches start as their class says."""
        with torch.no_grad():
            self.log_scale.fill_(math.log(_START_SCALE))
            self.fitted.copy_(torch.tensor(_AT_FIRST))
        if self.matching is not None:
            self.matching.reset_parameters()

    def observe(self, sessions: SessionTable, counts: Tensor, *, expects_new_items: bool) -> None:
        """Take in the training sessions, the events of each item there [V], and whether new items may come."""
        self.popularity = counts.log1p().to(self.popularity)
        ends = sessions.times[(sessions.offsets[1:] - 1).clip(min=0)]
        late = np.argsort(np.argsort(ends, kind="stable")) >= len(sessions) - int(_LATE * len(sessions))
        late = late[sessions.session_of_event]
        new = max(len(np.setdiff1d(sessions.items[late], sessions.items[~late])), 1)
        self.new_at_a_time = torch.full_like(self.new_at_a_time, new)
        self.expected = torch.full_like(self.expected, expects_new_items)

    def append_items(self, count: int) -> None:
        """Take in items behind the catalogue."""
        self.num_columns += count
        self.popularity = torch.cat([self.popularity, self.popularity.new_zeros(count)])
        self.expected = torch.ones_like(self.expected)

    def check_buffers(self) -> None:
        """Make sure that buffers from a file have the right shapes; a `DataError` says which has not."""
        for name, shape in (("popularity", (self.num_columns,)), ("new_at_a_time", ()), ("expected", ())):
            found = getattr(self, name).shape
            if found != shape:
                raise DataError(f"{name} is of another shape: expected {list(shape)}, found {list(found)}")

    def weights(self) -> dict[str, Tensor]:
        """Return the weight of each term."""
        if not self.training:
            return dict(zip(_IN_TRAINING, self.fitted, strict=True))
        return {name: self.fitted.new_tensor(value) for name, value in _IN_TRAINING.items()}

    def priors(self, vectors: ComposedVectors) -> Tensor:
        """Return prior(j) of each item. Shape [V].

        In training new items take no part, because none can be the target: the softmax would learn that they never
        are. Afterwards those that something is known about share what new items get, where new items may come at all.
        """
        weights = self.weights()
        prior_V = (weights["popularity"] * self.popularity).masked_fill(vectors.seen == 0, _NEVER)
        if self.training or not self.expected:
            return prior_V
        described_V = (vectors.seen == 0) & (vectors.by_item.sizes > 0)
        crowd = (described_V.sum() / self.new_at_a_time).clamp(min=1).log()
        return torch.where(described_V, weights["new"] - crowd, prior_V)

    def candidates(self, vectors: ComposedVectors, vectors_VD: Tensor) -> Tensor:
        """Return unit vectors of items with their prior behind them, which meet queries. Shape [V, D + 1]."""
        return torch.cat([unit_rows(vectors_VD), self.priors(vectors)[:, None]], dim=1)

    def all_items(self, vectors: ComposedVectors, vectors_VD: Tensor) -> AllItems:
        """Return what scoring keeps of the catalogue."""
        return AllItems(CatalogueProduct(self.wide_candidates(vectors, vectors_VD)), common_attributes(vectors))

    def wide_candidates(self, vectors: ComposedVectors, vectors_VD: Tensor) -> Tensor:
        """Return candidates with 1 / values of the relation where they have a common attribute. [V, D + 1 + T]."""
        candidates_VD = self.candidates(vectors, vectors_VD)
        common = common_attributes(vectors)
        owner, items, shares = vectors.by_attribute.of(common)
        shares_VT = candidates_VD.new_zeros(len(candidates_VD), len(common)).index_put((items, owner), shares)
        return torch.cat([candidates_VD, shares_VT], dim=1)

    def query(self, session_BD: Tensor) -> Tensor:
        """Return scaled unit vectors of sessions. Shape [B, D]."""
        return unit_rows(session_BD) * self.log_scale.exp()

    def weighed(self, session: Encoded) -> tuple[Tensor, SparseScores]:
        """Return the query with a 1 that meets the prior [B, D + 1], and what is added to some items' scores."""
        weights, query_BD, batch = self.weights(), session.query, session.batch
        query_BD = torch.cat([weights["vector"] * query_BD, query_BD.new_ones(len(query_BD), 1)], dim=1)
        own = batch.graph.distinct[batch.graph.node_value]
        extra = SparseScores(batch.graph.node_row, own, weights["own"].expand(len(own)))
        if session.evidence is not None:
            rows, items, values = session.evidence
            extra = extra.plus(rows, items, weights["evidence"] * values)
        return query_BD, extra

    def match_weights(self, session: Encoded, vectors: ComposedVectors, present: Tensor | None = None) -> Tensor | None:
        """Return what each attribute adds to the scores of its items; None: nothing. Shape [A + 1, B].

        With `present`, rising, that of these attributes alone, which are all of the sessions' and perhaps more.
        """
        if session.match is None:
            return None
        attributes, rows, num_attributes = session.match.items, len(session.query), len(vectors.relation_of)
        if present is not None:
            attributes, num_attributes = torch.searchsorted(present, attributes), len(present)
        sums = session.match.weights.new_zeros(num_attributes * rows)
        sums = sums.index_add(0, attributes * rows + session.match.rows, session.match.weights)
        return self.weights()["match"] * sums.view(num_attributes, rows)

    def log_likelihood(
        self, session: Encoded, vectors: ComposedVectors, vectors_VD: Tensor, targets: Tensor, *, block: int = 0
    ) -> Tensor:
        """Return log p of each target over the whole catalogue, `block` items at a time, 0 for all. Shape [B]."""
        candidates_VD = self.candidates(vectors, vectors_VD)
        (query_BD, weighed), match_AB = self.weighed(session), self.match_weights(session, vectors)
        extra = None if self.training else weighed  # In training all of it is 0.
        if not 0 < block < len(candidates_VD):
            matches_VB = None if match_AB is None else vectors.spread(match_AB)
            return target_log_softmax(query_BD, candidates_VD, targets, extra, matches_VB)

        def matches(begin: int, end: int) -> Tensor:
            assert match_AB is not None
            return vectors.spread_to(torch.arange(begin, end, device=targets.device), match_AB)

        by_item = None if match_AB is None else matches
        return blockwise_target_log_softmax(query_BD, candidates_VD, targets, block, extra, by_item)

    def sampled_log_likelihood(
        self, session: Encoded, vectors: ComposedVectors, vectors_CD: Tensor, sample: Sample
    ) -> Tensor:
        """Return an estimate of the same, in training, from the vectors of a sample. Shape [B]."""
        priors_C = self.priors(vectors)[sample.items] + sample.log_weights
        candidates_CD = torch.cat([unit_rows(vectors_CD), priors_C[:, None]], dim=1)
        query_BD, _ = self.weighed(session)
        # A large catalogue has 100,000 attributes, a sample 10,000, the sessions' own among them.
        present = torch.unique(vectors.by_item.of(sample.items)[1])
        match_AB = self.match_weights(session, vectors, present)
        matches_CB = None if match_AB is None else vectors.spread_to(sample.items, match_AB, present=present)
        return target_log_softmax(query_BD, candidates_CD, sample.targets, sample.corrections, matches_CB)

    def wide_query(self, session: Encoded, vectors: ComposedVectors, common: Tensor) -> tuple[Tensor, SparseScores]:
        """Return what meets `wide_candidates`, [B, D + 1 + T], and what is added to some items' scores."""
        query_BD, extra = self.weighed(session)
        common_BT = query_BD.new_zeros(len(query_BD), len(common))
        if session.match is not None:
            rows, attributes, weights = session.match.rows, session.match.items, session.match.weights
            weights = self.weights()["match"] * weights
            is_common = attributes[:, None] == common
            pair, column = is_common.nonzero(as_tuple=True)
            common_BT.index_put_((rows[pair], column), weights[pair], accumulate=True)
            rare = (~is_common.any(1)).nonzero().squeeze(1)
            owner, items, shares = vectors.by_attribute.of(attributes[rare])
            extra = extra.plus(rows[rare[owner]], items, weights[rare[owner]] * shares)
        return torch.cat([query_BD, common_BT], dim=1), extra

    def log_scores(self, session: Encoded, vectors: ComposedVectors, all_items: AllItems, log_gate_B: Tensor) -> Tensor:
        """Return log p of every item, plus a number a session; column 0 is left out. Shape [B, V]."""
        query_BD, extra = self.wide_query(session, vectors, all_items.common)
        scores_BV = all_items.product(query_BD)
        scores_BV.view(-1).index_add_(0, extra.rows * scores_BV.shape[1] + extra.columns, extra.values)
        scores_BV[:, 0] = -torch.inf
        for block in row_blocks(scores_BV):
            scores_BV[block] = scores_BV[block].log_softmax(1).add_(log_gate_B[block, None])
        return scores_BV


def common_attributes(vectors: ComposedVectors) -> Tensor:
    """Return the attributes that most items have. Shape [T]."""
    sizes = vectors.by_attribute.sizes
    return sizes.topk(min(_COMMON, len(sizes))).indices


class Sample(NamedTuple):
    """Columns of the catalogue, weighed so that a softmax over them estimates the softmax over all of it.

    Each stands for log(times drawn / expected times) more than its own score; a row for which an item is exact, its
    target or one of its own, takes that back. The sum over the columns is then an unbiased estimate of the sum over the
    catalogue.

    Args:
        items: Those of the prefixes, the targets and the negatives, each once, rising; the first is the padding. [C].
        log_weights: Shape [C].
        targets: Column of each target. Shape [B].
        corrections: What makes exact pairs exact.
    """

    items: Tensor
    log_weights: Tensor
    targets: Tensor
    corrections: SparseScores

    @classmethod
    def draw(cls, batch: SessionBatch, negatives: Negatives) -> Sample:
        """Return what a sampled softmax looks at."""
        rows, exact = [torch.arange(len(batch), device=batch.rows.device), batch.rows], [batch.targets, batch.items]
        if batch.earlier is not None:
            rows.append(batch.earlier.rows)
            exact.append(batch.earlier.items)
        exact_N = torch.cat(exact)
        items = torch.unique(torch.cat([exact_N.new_zeros(1), exact_N, negatives.items]))
        places = torch.searchsorted(items, negatives.items)
        drawn_C = torch.bincount(places, minlength=len(items)).to(negatives.log_counts)
        expected_C = torch.zeros_like(drawn_C).scatter_(0, places, negatives.log_counts)
        log_weights = torch.where(drawn_C > 0, drawn_C.clamp(min=1).log() - expected_C, _ABSENT)
        pairs = torch.unique(torch.cat(rows) * len(items) + torch.searchsorted(items, exact_N))
        columns = pairs % len(items)
        corrections = SparseScores(pairs // len(items), columns, -log_weights[columns])
        return cls(items, log_weights, torch.searchsorted(items, batch.targets), corrections)

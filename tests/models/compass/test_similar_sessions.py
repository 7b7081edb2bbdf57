"""COMPASS's evidence of similar sessions, and its explore component as a mean over masks, against their formulae."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from small_shop import fitted, small_shop

from mkmsr.data.batching import SessionBatch, collate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.examples import ExampleTable
from mkmsr.data.sessions import SessionTable
from mkmsr.models.compass.config import RetrievalConfig
from mkmsr.models.compass.explore import candidates
from mkmsr.models.compass.model import Compass
from mkmsr.models.compass.similar_sessions import SimilarSessions
from mkmsr.models.neighbours.voting import Votes

NO_TRIPLES = torch.zeros(0, 2, dtype=torch.int64)
TRAINING = [[1, 2, 3], [1, 2, 4, 2], [2, 5], [6, 3], [1, 4, 6]]


def table(sessions: list[list[int]]) -> SessionTable:
    items = np.array([item for each in sessions for item in each], np.int32)
    lengths = [len(each) for each in sessions]
    times = np.repeat(np.arange(len(sessions)), lengths).astype(np.int64)
    return SessionTable(items, np.ones(len(items), np.int16), np.cumsum([0, *lengths]).astype(np.int64), times)


def literal_evidence(prefix: list[int], sessions: list[list[int]], weight: float) -> dict[int, float]:
    counts: Counter[int] = Counter()
    for each in sessions:
        shared = len(set(prefix) & set(each))
        counts.update({item: shared for item in set(each) - set(prefix) if shared})
    return {item: weight * math.log(1 + count) for item, count in counts.items()}


def similar(weight: float, sessions: list[list[int]] = TRAINING, second_hop: float = 0.0) -> SimilarSessions:
    layer = SimilarSessions(RetrievalConfig(evidence=weight, second_hop=second_hop), 8, by_attributes=False)
    layer.build(table(sessions), NO_TRIPLES)
    return layer.eval()


@pytest.mark.parametrize("prefix", [[1, 2], [2], [3, 6, 3], [5, 1, 4], [7]])
def test_evidence_counts_what_stood_beside_the_items_of_the_session(prefix: list[int]) -> None:
    batch = SessionBatch.from_sequences([(prefix, [1] * len(prefix)), ([6], [1])])
    rows, items, values = similar(0.7)(batch)[1]
    found = {int(item): float(value) for row, item, value in zip(rows, items, values, strict=True) if row == 0}
    assert found == pytest.approx(literal_evidence(prefix, TRAINING, 0.7))


def test_in_training_a_session_is_no_evidence_for_itself() -> None:
    examples = ExampleTable.from_sessions(table(TRAINING))
    layer = similar(1.0).train()
    for index in range(len(examples)):
        batch = collate(examples, np.array([index]))
        own = int(batch.sessions[0])
        _, items, values = layer(batch)[1]
        others = [each for row, each in enumerate(TRAINING) if row != own]
        assert dict(zip(items.tolist(), values.tolist(), strict=True)) == pytest.approx(
            literal_evidence(batch.items.tolist(), others, 1.0)
        )


def test_second_hop_neighbours_when_scoring_reach_what_no_neighbour_has() -> None:
    layer = similar(1.0, [[1, 2, 3], [3, 7]], second_hop=0.5)
    batch = SessionBatch.from_sequences([([1], [1]), ([6], [1])])
    votes, evidence, _ = layer(batch)
    # The second round asks with 1, 2 and 3, of which the sessions have three and one.
    assert evidence.rows.tolist() == [0, 0, 0]
    assert dict(zip(evidence.columns.tolist(), evidence.values.tolist(), strict=True)) == pytest.approx(
        {2: math.log(1 + 1 + 0.5 * 3), 3: math.log(1 + 1 + 0.5 * 4), 7: math.log(1 + 0.5 * 1)}
    )
    assert votes.items.tolist() == [1, 2, 3, 7]
    assert votes.weights.sum().item() == pytest.approx(1)
    assert layer.train()(batch)[0].items.tolist() == [1, 2, 3]


def test_sessions_that_are_alike_by_kind_alone_vote_and_are_no_evidence() -> None:
    layer = SimilarSessions(RetrievalConfig(kind_weight=1.0, second_hop=0.0), 8, by_attributes=True)
    layer.build(table(TRAINING), torch.tensor([[5, 9], [7, 9]]))  # 5 and 7 are of one kind
    votes, evidence, _ = layer.eval()(SessionBatch.from_sequences([([7], [1])]))
    assert votes.items.tolist() == [2, 5]
    assert evidence.values.tolist() == [0, 0]


def test_votes_outside_some_pairs() -> None:
    votes = Votes(torch.tensor([0, 0, 1, 2]), torch.tensor([3, 4, 3, 3]), torch.tensor([0.1, 0.2, 0.3, 0.4]))
    found = votes.outside(torch.tensor([0, 2, 2]), torch.tensor([3, 4, 5]), 6)
    assert (found.rows.tolist(), found.items.tolist()) == ([0, 1, 2], [4, 3, 3])
    assert found.weights.tolist() == pytest.approx([0.2, 0.3, 0.4])


@pytest.fixture(scope="module")
def shop() -> PreparedDataset:
    return small_shop()


def rough_compass(shop: PreparedDataset, masks: int, **retrieval: float) -> Compass:
    torch.manual_seed(0)
    _, model = fitted("compass", shop, dim=8, explore={"masks": masks}, retrieval=retrieval)
    assert isinstance(model, Compass)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("masks", [1, 4])
@torch.no_grad()
def test_the_explore_component_is_the_mean_of_a_softmax_a_mask(shop: PreparedDataset, masks: int) -> None:
    model, batch = rough_compass(shop, masks), collate(shop.examples(shop.train), np.arange(30))
    vectors_VD = model.vectors()
    explore, candidates_VD = model.mixture(batch, vectors_VD).explore, candidates(vectors_VD, model.item_priors())
    assert explore.match_weights is not None
    assert len(explore.queries) == masks
    shares = []
    for query_BD in explore.queries:
        logits_BV = query_BD @ candidates_VD.T + model.vectors.spread(explore.match_weights).T
        for row, item, value in zip(*explore.evidence, strict=True):
            logits_BV[row, item] += value
        shares.append(logits_BV[:, 1:].softmax(1))
    found = explore.log_scores(model.vectors, candidates_VD.T)
    assert torch.allclose(found[:, 1:].exp(), torch.stack(shares).mean(0), atol=1e-6)
    assert found[:, 0].tolist() == [-math.inf] * 30


@torch.no_grad()
def test_validation_weighs_targets_as_scores_do_before_lifts(shop: PreparedDataset) -> None:
    model, batch = (
        rough_compass(shop, 4, share_power=0.0, near_power=0.0),
        collate(shop.examples(shop.train), np.arange(30)),
    )
    likelihood_B = model.log_likelihood(batch)
    scores_B = model.score(batch).gather(1, batch.targets[:, None])[:, 0]
    assert torch.allclose(likelihood_B, scores_B, atol=1e-4)


def test_in_training_there_is_one_query_under_dropout(shop: PreparedDataset) -> None:
    model, batch = rough_compass(shop, 4).train(), collate(shop.examples(shop.train), np.arange(30))
    assert len(model.mixture(batch, model.vectors()).explore.queries) == 1

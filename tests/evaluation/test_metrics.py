"""Ranks by counting and the metrics over them, against literal loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from mkmsr.errors import ConfigError, EvaluationError
from mkmsr.evaluation.metrics import conservative_ranks, example_values, list_lengths, metric_names

INF = float("inf")
_scores_with_ties = st_numpy.arrays(
    np.float32,
    st_numpy.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9),
    elements=st.integers(-3, 3).map(float),
)
_ranks = st.lists(st.integers(1, 60), min_size=1, max_size=30).map(np.array)


def rank_oracle(scores: list[float], target: int) -> int:
    """Rank by the formula, one comparison at a time."""
    rank = 1
    for item in range(1, len(scores)):
        if item != target and scores[item] >= scores[target]:
            rank += 1
    return rank


def metric_oracle(rank: int, k: int, catalogue: int = 100) -> tuple[float, float, float]:
    """Hit, reciprocal rank and NDCG from the list of relevances, one position at a time."""
    relevance = [1.0 if position == rank else 0.0 for position in range(1, catalogue + 1)]
    hit = 1.0 if any(relevance[:k]) else 0.0
    reciprocal = sum(relevance[position - 1] / position for position in range(1, k + 1))
    gain = sum(relevance[position - 1] / math.log2(position + 1) for position in range(1, k + 1))
    ideal = sum(
        each / math.log2(position + 1) for position, each in enumerate(sorted(relevance, reverse=True)[:k], start=1)
    )
    return hit, reciprocal, gain / ideal


def ranks(scores: list[list[float]], targets: list[int]) -> list[int]:
    return conservative_ranks(torch.tensor(scores), torch.tensor(targets)).tolist()


@given(_scores_with_ties, st.data())
def test_ranks_equal_the_formula_counted_in_loops(scores: np.ndarray, data: st.DataObject) -> None:
    targets = [data.draw(st.integers(1, scores.shape[1] - 1)) for _ in scores]
    expected = [rank_oracle(row.tolist(), target) for row, target in zip(scores, targets, strict=True)]
    assert conservative_ranks(torch.from_numpy(scores), torch.tensor(targets)).tolist() == expected


@given(_scores_with_ties, st.data())
def test_ranks_do_not_depend_on_the_scale_of_the_scores(scores: np.ndarray, data: st.DataObject) -> None:
    targets = torch.tensor([data.draw(st.integers(1, scores.shape[1] - 1)) for _ in scores])
    raw = torch.from_numpy(scores)
    assert torch.equal(conservative_ranks(raw, targets), conservative_ranks(raw.double().exp() * 7 - 2, targets))


@given(_scores_with_ties, st.data())
def test_ranks_stay_when_the_other_items_change_places(scores: np.ndarray, data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(1, scores.shape[1]))))
    target = data.draw(st.integers(1, scores.shape[1] - 1))
    targets = torch.full((len(scores),), target)
    shuffled = torch.from_numpy(scores.copy())
    shuffled[:, 1:] = torch.from_numpy(scores)[:, order]
    moved = torch.full((len(scores),), int(np.flatnonzero(order == target)[0]) + 1)
    assert torch.equal(conservative_ranks(torch.from_numpy(scores), targets), conservative_ranks(shuffled, moved))


def test_equal_scores_put_the_target_last_not_first() -> None:
    assert ranks([[0.0, 1.0, 1.0, 1.0]], [2]) == [3]


def test_the_padding_column_never_counts_whatever_it_holds() -> None:
    for padding in (-INF, 0.0, 9.0, INF, float("nan")):
        assert ranks([[padding, 0.5, 0.25]], [1]) == [1]


def test_items_ruled_out_with_minus_infinity_rank_below_the_target() -> None:
    assert ranks([[-INF, -INF, -5.0, -INF]], [2]) == [1]


def test_ranks_of_no_examples_are_no_ranks() -> None:
    assert conservative_ranks(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).tolist() == []


@pytest.mark.parametrize("wrong", [float("nan"), INF, -INF])
def test_a_target_score_that_is_not_finite_is_an_error_and_not_a_rank(wrong: float) -> None:
    with pytest.raises(EvaluationError, match=r"row 1 of the batch: the target's score is"):
        ranks([[0.0, 1.0, 2.0], [0.0, wrong, 2.0]], [1, 1])


@pytest.mark.parametrize("wrong", [float("nan"), INF])
def test_a_nan_or_infinite_score_of_another_item_is_an_error_too(wrong: float) -> None:
    with pytest.raises(EvaluationError, match="scores must be finite"):
        ranks([[0.0, 1.0, wrong]], [1])


@pytest.mark.parametrize("target", [0, 3, -1])
def test_a_target_outside_the_catalogue_is_an_error(target: int) -> None:
    with pytest.raises(EvaluationError, match="item indexes from 1 to 2"):
        ranks([[0.0, 1.0, 2.0]], [target])


@given(_ranks, st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_metrics_equal_the_formulae_summed_in_loops(given_ranks: np.ndarray, ks: list[int]) -> None:
    values = example_values(given_ranks, ks)
    for row, rank in zip(values, given_ranks.tolist(), strict=True):
        expected = [each for k in ks for each in metric_oracle(rank, k)]
        np.testing.assert_allclose(row, expected, rtol=1e-12)


@given(_ranks)
@settings(max_examples=50)
def test_metrics_grow_with_k_and_hit_is_never_below_ndcg_nor_ndcg_below_mrr(given_ranks: np.ndarray) -> None:
    means = example_values(given_ranks, (1, 5, 10, 20)).mean(axis=0).reshape(4, 3)
    assert (np.diff(means, axis=0) >= 0).all()
    hit, reciprocal, gain = means.T
    assert (hit >= gain - 1e-12).all()
    assert (gain >= reciprocal - 1e-12).all()
    np.testing.assert_allclose(means[0], means[0, 0])  # at k = 1 the three are one


def test_metric_names_keep_the_order_of_the_values() -> None:
    assert metric_names((5, 20)) == ["hit@5", "mrr@5", "ndcg@5", "hit@20", "mrr@20", "ndcg@20"]


@pytest.mark.parametrize("ks", [(), (0,), (5, -1)])
def test_list_lengths_that_make_no_sense_are_an_error(ks: tuple[int, ...]) -> None:
    with pytest.raises(EvaluationError, match="positive whole numbers"):
        metric_names(ks)


def test_ranks_are_int32_also_where_there_are_none() -> None:
    assert conservative_ranks(torch.zeros(2, 4), torch.tensor([1, 2])).dtype == torch.int32
    assert conservative_ranks(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).dtype == torch.int32


@pytest.mark.parametrize(
    ("select", "lengths"), [("mrr@20", (5, 10, 20)), ("hit@7", (5, 7, 10, 20)), ("ndcg@1", (1, 5, 10, 20))]
)
def test_a_selection_metric_brings_its_list_length(select: str, lengths: tuple[int, ...]) -> None:
    assert list_lengths(select) == lengths


@pytest.mark.parametrize(
    ("select", "hint"),
    [
        ("mrr@2O", "no metric 'mrr@2O', did you mean 'mrr@20'?"),
        ("recall", "no metric 'recall'; for example hit@5, mrr@5, ndcg@5, hit@10"),
        ("hit@0", "no metric 'hit@0', did you mean 'hit@"),
        ("hit", "no metric 'hit', did you mean 'hit@"),
        ("loss@5", "no metric 'loss@5'"),
    ],
)
def test_no_metric_of_that_name_is_an_error_with_the_nearest(select: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="no metric") as refused:
        list_lengths(select)
    assert hint in str(refused.value)
    assert refused.value.key == "training.select"

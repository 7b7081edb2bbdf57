"""Lists of a split, and what they are like besides right or wrong."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.lists import LIST_METRICS, list_metrics, save_lists, share_of_sessions, top_lists
from mkmsr.recommend.ranker import top

LISTS = np.array([[1, 2, 7], [1, 5, 8], [2, 1, 3], [1, 2, 3], [4, 1, 8], [1, 2, 6], [6, 1, 2]])


def by_newest_item(batch: SessionBatch) -> Tensor:
    """Scores of items by how near their index is to that of the newest item, which itself is worst."""
    distance = (torch.arange(9) - batch.items[batch.last][:, None]).abs().float()
    return torch.where(distance == 0, -100.0, -distance)


def test_a_list_holds_the_best_items_in_order(dataset: PreparedDataset) -> None:
    split = dataset.evaluation_split("test")
    found = top_lists(by_newest_item, split, 3, top, batch_size=2).items
    newest = split.examples.sessions.items[split.examples.end - 1]
    assert newest.tolist() == [1, 2, 1, 7, 5, 8, 6]
    assert found[:4].tolist() == [[2, 3, 4], [1, 3, 4], [2, 3, 4], [6, 8, 5]]
    assert found.dtype == np.int32


def test_the_share_of_sessions_counts_a_session_once(dataset: PreparedDataset) -> None:
    assert share_of_sessions(dataset.train, 9) == pytest.approx(np.array([0, 2, 2, 1, 1, 1, 0, 0, 0]) / 3)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_metrics_of_lists_follow_their_formulae(dataset: PreparedDataset, k: int) -> None:
    split = dataset.evaluation_split("test")
    before = dataset.fitting_sessions(refit=True)
    sessions = [set(before.items[begin:end].tolist()) for begin, end in pairwise(before.offsets)]
    share = [sum(item in each for each in sessions) / len(sessions) for item in range(9)]
    lists = [row[:k].tolist() for row in LISTS]
    shown = [sum(item in each for each in lists) for item in range(1, 9)]
    differences = sum(abs(one - other) for one in shown for other in shown)
    examples = split.examples
    prefixes = [examples.sessions.items[a:b].tolist() for a, b in zip(examples.begin, examples.end, strict=True)]

    def popularity(lists: list[list[int]]) -> float:
        return sum(sum(share[item] for item in each) / len(each) for each in lists) / len(lists)

    surprise = [-math.log2(max(share[item], 1 / len(sessions))) for each in lists for item in each]
    assert list_metrics(LISTS, split, share_of_sessions(before, 9), (k,)) == pytest.approx(
        {
            f"coverage@{k}": sum(each > 0 for each in shown) / 8,
            f"gini@{k}": differences / (2 * 8 * sum(shown)),
            f"popularity_lift@{k}": popularity(lists) / popularity(prefixes) - 1,
            f"novelty@{k}": sum(surprise) / len(surprise),
        }
    )


def test_every_metric_of_lists_says_what_it_is(dataset: PreparedDataset) -> None:
    share = share_of_sessions(dataset.train, 9)
    found = list_metrics(LISTS, dataset.evaluation_split("test"), share, (2, 3), dataset.knowledge)
    assert list(found) == [f"{name}@{k}" for k in (2, 3) for name in LIST_METRICS]


def test_lists_that_are_too_short_are_an_error(dataset: PreparedDataset) -> None:
    split, share = dataset.evaluation_split("test"), share_of_sessions(dataset.train, 9)
    with pytest.raises(EvaluationError, match=r"needs lists of 5 items, found lists of shape \(7, 3\)"):
        list_metrics(LISTS, split, share, (5,))
    with pytest.raises(EvaluationError, match="lists of 9 items need a catalogue of as many; found 8"):
        top_lists(by_newest_item, split, 9, top)


def test_lists_are_written_with_external_ids(dataset: PreparedDataset, tmp_path: Path) -> None:
    save_lists(tmp_path / "lists.parquet", LISTS[:2], dataset.items)
    rows = pl.read_parquet(tmp_path / "lists.parquet").rows()
    assert rows[:4] == [(0, 1, "plain"), (0, 2, "with space"), (0, 3, "seven"), (1, 1, "plain")]


@pytest.mark.parametrize("k", [2, 3])
def test_diversity_is_one_minus_the_mean_cosine_of_pairs(dataset: PreparedDataset, k: int) -> None:
    split, share, knowledge = dataset.evaluation_split("test"), share_of_sessions(dataset.train, 9), dataset.knowledge
    has: dict[int, set[int]] = {item: set() for item in range(9)}
    for item, _, entity in knowledge.triples.tolist():
        has[item].add(entity)

    def cosine(one: int, other: int) -> float:
        return len(has[one] & has[other]) / (math.sqrt(len(has[one]) * len(has[other])) or 1)

    means = [float(np.mean([cosine(one, other) for one, other in combinations(row[:k], 2)])) for row in LISTS.tolist()]
    found = list_metrics(LISTS, split, share, (1, k), knowledge)
    assert found[f"diversity@{k}"] == pytest.approx(1 - np.mean(means))
    assert 0 < found[f"diversity@{k}"] < 1
    assert "diversity@1" not in found


def test_the_pass_that_makes_lists_ranks_as_evaluate_does(dataset: PreparedDataset) -> None:
    split = dataset.evaluation_split("test")
    found = top_lists(by_newest_item, split, 3, top, batch_size=2)
    assert found.ranks.rank.tolist() == evaluate(by_newest_item, split).rank.tolist()
    assert found.log_p is None


def test_other_libraries_find_the_same_values(dataset: PreparedDataset) -> None:
    """RecTools 0.19 (CatalogCoverage, MeanInvUserFreq, IntraListDiversity with cosine); LensKit 2025.8.1 (ListGini)."""
    share = share_of_sessions(dataset.fitting_sessions(refit=True), 9)
    found = list_metrics(LISTS, dataset.evaluation_split("test"), share, (2, 3), dataset.knowledge)
    theirs = {"coverage": (0.625, 1.0), "novelty": (1.0766004, 1.3209971), "diversity": (0.4285714, 0.7619048)}
    for name, values in {**theirs, "gini": (0.6428571, 0.3869048)}.items():
        assert (found[f"{name}@2"], found[f"{name}@3"]) == pytest.approx(values, abs=1e-6)

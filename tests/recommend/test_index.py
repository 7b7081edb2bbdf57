"""Lists from an index: those of all items, whatever filters leave, whatever is added, and only where they pay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import planted_recommender
import pytest

from mkmsr.recommend import Filters, Recommender, index, parse_condition, ranker
from mkmsr.recommend.index import try_index
from mkmsr.recommend.recommender import RecommendedItem

pytest.importorskip("faiss")

SESSIONS = [["item-0-1", "item-0-2"], ["item-3-4"], ["item-5-0", "item-1-7", "item-5-2"], []]


@pytest.fixture(scope="module", params=["compass", "mkm-sr"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("index")
    planted_recommender.trained(planted_recommender.series_shop(), made, request.param)
    return made / request.param


@pytest.fixture
def short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recommender:
    """A recommender with an index, though its catalogue is so small."""
    monkeypatch.setattr(ranker, "_PROPOSED", 1)
    recommender = Recommender.load(folder)
    recommender.use_index(2000)
    return recommender


def ids(lists: Sequence[RecommendedItem]) -> list[str]:
    return [each.item for each in lists]


def test_lists_and_scores_are_those_of_all_items(short: Recommender, folder: Path) -> None:
    exact = Recommender.load(folder).recommend_many(SESSIONS, k=10, exclude=["item-0-3"])
    found = short.recommend_many(SESSIONS, k=10, exclude=["item-0-3"])
    assert not short.ranker(10).is_exact
    for wanted, mine in zip(exact, found, strict=True):
        assert ids(mine.items) == ids(wanted.items)
        np.testing.assert_allclose(
            [each.score for each in mine.items], [each.score for each in wanted.items], atol=1e-4, rtol=1e-4
        )


def test_where_filters_leave_few_proposals_all_items_are_scored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranker, "_PROPOSED", 4)
    recommender = Recommender.load(folder)
    recommender.use_index(2000)
    for filters, is_exact in ((Filters(), False), (Filters(only=["item-2-1", "item-2-2", "item-4-4"]), True)):
        made = recommender.ranker(5, filters=filters)
        exact = Recommender.load(folder).recommend(SESSIONS[0], k=5, filters=filters)
        assert ids(recommender.recommend(SESSIONS[0], k=5, filters=filters).items) == ids(exact.items)
        assert made.is_exact == is_exact


def test_an_added_item_is_listed_and_a_retired_one_is_not(short: Recommender, folder: Path) -> None:
    exact = Recommender.load(folder)
    for each in (short, exact):
        if "compass" in folder.name:
            each.add_items({"new": short.attributes("item-0-2")})
        each.retire_items(["item-0-3"])
    found, wanted = (each.recommend(SESSIONS[0], k=12).items for each in (short, exact))
    assert not short.ranker(12).is_exact
    assert ids(found) == ids(wanted)
    assert "item-0-3" not in ids(found)


def test_an_index_is_used_only_if_it_is_faster_and_finds_the_exact_lists(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranker, "_PROPOSED", 1)
    recommender = Recommender.load(folder)
    assert not try_index(recommender).used  # the catalogue is small
    monkeypatch.setattr(index, "_WORTH_SECONDS", 0.0)
    for recall, milliseconds, used in ((1.0, [3.0, 2.0], True), (0.98, [3.0, 2.0], False), (1.0, [2.0, 3.0], False)):
        times = iter(milliseconds)
        monkeypatch.setattr(index, "_milliseconds", lambda ranker, sessions, times=times: next(times))
        monkeypatch.setattr(index, "_recall", lambda wanted, found, recall=recall: recall)
        report = try_index(recommender)
        assert (report.used, report.recall_at_20) == (used, recall)
        recommender.recommend(SESSIONS[0])
        assert recommender.ranker(20).is_exact != used


def test_caps_look_at_the_whole_catalogue(short: Recommender) -> None:
    filters = Filters(at_most={"series": 1}, where=[parse_condition("series!=nothing")])
    made = short.ranker(3, filters=filters)
    short.recommend(SESSIONS[0], k=3, filters=filters)
    assert made.is_exact

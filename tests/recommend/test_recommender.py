from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_shop import fitted, small_shop

from mkmsr.bundle.model_bundle import load_bundle, new_bundle, save_bundle
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.sessions import EarlierItems
from mkmsr.errors import ConfigError, DataError, UnknownIdError
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.recommend import Recommendations, Recommender, SessionEncoder
from mkmsr.recommend.ranker import top
from mkmsr.recommend.sessions import default_operation


@pytest.fixture(scope="module")
def shop() -> PreparedDataset:
    return small_shop()


def recommender_of(name: str, shop: PreparedDataset, folder: Path, **settings: object) -> Recommender:
    config, model = fitted(name, shop, **settings)
    save_bundle(folder / name, new_bundle(model, name=name, config=config, dataset=shop, metrics={}))
    return Recommender.load(folder / name)


@pytest.fixture(scope="module")
def recommender(shop: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return recommender_of("mkm-sr", shop, tmp_path_factory.mktemp("bundles"), dim=8)


def items(found: Recommendations) -> list[str]:
    return [each.item for each in found.items]


def external_sessions(shop: PreparedDataset, count: int) -> list[list[Any]]:
    table = shop.test
    sessions: list[list[Any]] = []
    for row in range(min(count, len(table))):
        indexes, operations = table.session(row)
        pairs = zip(indexes.tolist(), operations.tolist(), strict=True)
        sessions.append([(shop.items.id(item), shop.operations.id(operation)) for item, operation in pairs])
    return sessions


def test_it_ranks_twenty_known_items_best_first(recommender: Recommender) -> None:
    found = recommender.recommend([("plain", "click"), ("two words", "cart")])
    assert [each.rank for each in found.items] == list(range(1, 21))
    assert len(set(items(found))) == 20
    scores = [each.score for each in found.items]
    assert scores == sorted(scores, reverse=True)
    assert (found.skipped, found.replaced, found.ranked_by) == (0, 0, "model")


def test_lists_in_haste_are_those_of_neighbours_and_then_popular_items(shop: PreparedDataset, tmp_path: Path) -> None:
    recommender = recommender_of("compass", shop, tmp_path, dim=8)
    recommender.retire_items(["plain"])
    encoded = SessionEncoder(recommender.bundle).encode({"the session": external_sessions(shop, 1)[0]})
    [listed], [scores] = recommender.ranker(20).rank(encoded, in_haste=True)
    batch = encoded.batch(np.zeros(1, np.int64))
    votes, _ = recommender.bundle.model.similar.look_up(batch)
    heaviest = [votes.items[each].item() for each in votes.weights.argsort(descending=True, stable=True)]
    voted = [each for each in heaviest if each != recommender.bundle.items.index("plain")]
    assert 0 < len(voted) < 20
    assert listed[: len(voted)].tolist() == voted
    counts = recommender.bundle.item_counts[listed[len(voted) :]]
    assert (np.diff(counts) <= 0).all()
    assert (scores[: len(voted)] > 0).all()
    assert (scores[len(voted) :] < 0).all()


def test_the_forms_of_an_event_mean_the_same(recommender: Recommender) -> None:
    common = recommender.bundle.operations.id(default_operation(recommender.bundle))
    assert common == "click"
    forms: list[Any] = [
        [("コーヒー", "click"), ("plain", "click")],
        [{"item": "コーヒー", "operation": "click"}, {"item": "plain"}],
        ["コーヒー", "plain"],
        [("コーヒー", None), {"item": "plain", "operation": None}],
        {"events": ["コーヒー", ("plain", "click")]},
        json.loads('[["コーヒー", "click"], ["plain", "click"]]'),
    ]
    found = [recommender.recommend(each) for each in forms]
    assert all(each == found[0] for each in found)


def test_earlier_sessions_bring_back_what_the_visitor_touched(shop: PreparedDataset, tmp_path: Path) -> None:
    knowing = replace(shop, train=replace(shop.train, earlier=EarlierItems.nothing(len(shop.train))))
    config, model = fitted("compass", knowing, dim=8, earlier_visits=True)
    path = save_bundle(tmp_path / "visits", new_bundle(model, name="compass", config=config, dataset=shop, metrics={}))
    recommender = Recommender.load(path)
    now = ["item-03"]
    before: list[Any] = [("item-10", "cart"), "item-11", ("item-12", "order"), ("item-11", "no such operation"), "gone"]
    alone, known = recommender.recommend_many([{"events": now}, {"events": now, "earlier": before}], k=36)
    assert known != alone
    assert sum(math.exp(each.score) for each in known.items) == pytest.approx(1, abs=1e-4)
    scores = {each.item: each.score for each in recommender.recommend(now, k=36).items}
    assert {each.item: each.score for each in alone.items} == pytest.approx(scores, abs=1e-4)
    reasons = recommender.explain({"events": now, "earlier": before}, [each.item for each in known.items])
    assert {each.item for each in reasons if each.earlier > 0} == {"item-10", "item-11", "item-12"}
    for each in reasons:
        assert each.explore + each.copy + each.neighbours + each.earlier == pytest.approx(
            math.exp(each.score), rel=1e-3
        )


def test_earlier_events_of_another_form_are_a_clear_error(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="under 'earlier'"):
        recommender.recommend({"events": ["plain"], "earlier": "item-03"})
    with pytest.raises(DataError, match="the session, earlier event 2"):
        recommender.recommend({"events": ["plain"], "earlier": ["item-03", 1.5]})


def test_the_operation_matters(recommender: Recommender) -> None:
    clicked, ordered = (recommender.recommend([("plain", operation)], k=36) for operation in ("click", "order"))
    assert clicked != ordered


@pytest.mark.parametrize("name", ["mkm-sr", "m-sr", "pop", "s-pop", "recency"])
def test_many_sessions_at_once_equal_one_by_one(name: str, shop: PreparedDataset, tmp_path: Path) -> None:
    recommender = recommender_of(name, shop, tmp_path, **({"dim": 8} if "m-sr" in name or "mkm" in name else {}))
    sessions = [*external_sessions(shop, 20), ["nobody knows this"], []]
    many = recommender.recommend_many(sessions, k=10)
    for session, found in zip(sessions, many, strict=True):
        alone = recommender.recommend(session, k=10)
        assert items(alone) == items(found)
        assert [each.score for each in alone.items] == pytest.approx([each.score for each in found.items], abs=1e-5)


@pytest.mark.parametrize("name", ["mkm-sr", "km-sr", "s-pop", "pop"])
def test_the_target_stands_where_the_evaluator_ranks_it(name: str, shop: PreparedDataset, tmp_path: Path) -> None:
    recommender = recommender_of(name, shop, tmp_path, **({"dim": 8} if name.endswith("m-sr") else {}))
    split = shop.evaluation_split("test")
    ranks = evaluate(recommender.bundle.model, split).rank
    examples = split.examples
    checked = 0
    for row in range(len(examples)):
        events = slice(int(examples.begin[row]), int(examples.end[row]))
        prefix = [
            (shop.items.id(int(item)), shop.operations.id(int(operation)))
            for item, operation in zip(
                examples.sessions.items[events], examples.sessions.operations[events], strict=True
            )
        ]
        found = recommender.recommend(prefix, k=len(shop.items))
        target = shop.items.id(int(examples.targets[row]))
        place = items(found).index(target)
        same = [each.item for each in found.items if each.score == found.items[place].score]
        if len(same) == 1:
            assert found.items[place].rank == ranks[row]
            checked += 1
        else:
            assert found.items[place].rank <= ranks[row]
    assert checked or name == "pop"


def test_unknown_items_are_skipped_and_counted(recommender: Recommender) -> None:
    clean = recommender.recommend([("plain", "click"), ("item-03", "cart")])
    dirty = recommender.recommend([("ghost", "click"), ("plain", "click"), ("", "x"), ("item-03", "cart"), (99, None)])
    assert dirty.items == clean.items
    assert dirty.skipped == 3
    assert dirty.replaced == 0


def test_an_unknown_operation_counts_as_the_most_common_one(recommender: Recommender) -> None:
    found = recommender.recommend([("plain", "teleport")])
    assert found.items == recommender.recommend([("plain", "click")]).items
    assert found.replaced == 1


@pytest.mark.parametrize("session", [[], ["ghost"], [("ghost", "click"), ("phantom", "order")]])
def test_a_session_with_nothing_known_gets_what_is_popular(
    session: list[Any], recommender: Recommender, shop: PreparedDataset
) -> None:
    found = recommender.recommend(session, k=5)
    counts = np.bincount(shop.train.items, minlength=len(shop.items) + 1)
    assert found.ranked_by == "popularity"
    assert found.skipped == len(session)
    assert [each.score * counts.sum() for each in found.items] == pytest.approx(sorted(counts, reverse=True)[:5])


def test_only_the_newest_28_events_count(recommender: Recommender) -> None:
    old, new = [("item-20", "order")] * 300, [(f"item-{n:02d}", "click") for n in range(28)]
    assert recommender.max_events == 28
    assert recommender.recommend(old + new) == recommender.recommend(new)
    assert recommender.recommend([*new, ("ghost", "click")]).items == recommender.recommend(new).items


def test_excluded_items_never_appear(recommender: Recommender) -> None:
    session = [("plain", "click")]
    first = items(recommender.recommend(session, k=3))
    rest = recommender.recommend(session, k=36, exclude=[*first, "ghost"])
    assert len(rest.items) == 33
    assert not set(first) & set(items(rest))
    assert items(rest)[:5] == items(recommender.recommend(session, k=8))[3:]
    popular = recommender.recommend([], k=36, exclude=first)
    assert len(popular.items) == 33
    assert not set(first) & set(items(popular))


def test_a_list_longer_than_the_catalogue_is_the_whole_catalogue(recommender: Recommender) -> None:
    assert len(recommender.recommend(["plain"], k=1000).items) == len(recommender.bundle.items)


def test_a_list_of_no_items_is_a_wrong_call(recommender: Recommender) -> None:
    with pytest.raises(ConfigError, match="k: must be at least 1, found 0"):
        recommender.recommend(["plain"], k=0)


SHAPELESS: list[Any] = [
    "plain",
    [3.5],
    [("a", "b", "c")],
    [None],
    {"events": "plain"},
    [True],
    7,
    [10**5000],
    [("plain", 10**5000)],
    [("plain", 1.5)],
    {"plain": "click"},
]


@pytest.mark.parametrize("session", SHAPELESS)
def test_a_session_of_another_form_is_a_clear_error(session: Any, recommender: Recommender) -> None:
    with pytest.raises(DataError, match=r"the session.* should "):
        recommender.recommend(session)


def test_a_session_that_went_through_json_is_one_session(recommender: Recommender) -> None:
    session = json.loads(json.dumps([("plain", "click"), ("item-03", "cart")]))
    found = recommender.recommend(session)
    assert (found.skipped, found.replaced) == (0, 0)
    assert found == recommender.recommend([("plain", "click"), ("item-03", "cart")])
    assert [items(each) for each in recommender.recommend_many([session, session])] == [items(found)] * 2


@pytest.mark.parametrize("sessions", [[["plain"], ["item-03"]], [{"events": ["plain"]}], [[("plain", "click")]]])
def test_several_sessions_in_place_of_one_are_a_clear_error(sessions: Any, recommender: Recommender) -> None:
    with pytest.raises(DataError, match=r"the session, event 1 .*recommend_many takes several sessions"):
        recommender.recommend(sessions)


@pytest.mark.parametrize("session", ["plain", {"events": ["plain"]}, 7])
def test_one_session_in_place_of_several_is_a_clear_error(session: Any, recommender: Recommender) -> None:
    with pytest.raises(DataError, match="recommend_many takes a list of sessions, and recommend one; found "):
        recommender.recommend_many(session)
    with pytest.raises(DataError, match="session 1 should be a list of events"):
        recommender.recommend_many(["plain", "item-03"])


def test_attributes_are_given_by_relation(recommender: Recommender) -> None:
    assert recommender.attributes("two words") == {"colour": ["grün"], "brand": ["brand-0"]}
    with pytest.raises(UnknownIdError, match="unknown item 'ghost'"):
        recommender.attributes("ghost")


def test_equal_scores_keep_the_order_of_the_catalogue() -> None:
    scores = torch.tensor([[-torch.inf, 1, 3, 1, 1, 3, 0], [-torch.inf, 5, 4, 3, 2, 1, 0]])
    assert top(scores, 3).tolist() == [[2, 5, 1], [1, 2, 3]]
    assert top(scores, 1).tolist() == [[2], [1]]
    generator = torch.Generator().manual_seed(1)
    rough = torch.randint(0, 4, (50, 40), generator=generator).float()
    expected = (-rough.numpy()).argsort(axis=1, kind="stable")
    for k in (1, 5, 17, 40):
        assert top(rough, k).tolist() == expected[:, :k].tolist()


def test_loading_again_gives_the_same_lists(recommender: Recommender, shop: PreparedDataset, tmp_path: Path) -> None:
    bundle = recommender.bundle
    save_bundle(tmp_path / "b", new_bundle(bundle.model, name="mkm-sr", config=bundle.config, dataset=shop, metrics={}))
    again = Recommender(load_bundle(tmp_path / "b"))
    sessions = external_sessions(shop, 5)
    assert again.recommend_many(sessions) == recommender.recommend_many(sessions)


def test_a_list_takes_one_thread_unless_told_otherwise(recommender: Recommender) -> None:
    seen = []
    readout = recommender.bundle.model.get_submodule("readout")
    watching = readout.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(3)
    recommender.recommend([("plain", "click")])
    Recommender(recommender.bundle, threads=2).recommend([("plain", "click")])
    torch.set_num_threads(1)
    watching.remove()
    assert seen == [1, 2]


@pytest.mark.parametrize("levels", [3, 50, 10**6])
def test_the_best_of_a_wide_catalogue_are_those_of_a_sort(levels: int) -> None:
    rough = torch.randint(levels, (4, 20_001), generator=torch.Generator().manual_seed(levels)).float()
    rough[3, 30:] = -torch.inf
    expected = rough.argsort(dim=1, descending=True, stable=True)
    for k in (1, 19):
        assert top(rough, k).tolist() == expected[:, :k].tolist()

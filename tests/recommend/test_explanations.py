from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import planted
import pytest
import torch
from planted_recommender import series_shop, trained
from small_shop import fitted, small_shop

from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.errors import ConfigError, DataError, UnknownIdError
from mkmsr.models.compass.explanation import MOST_SESSIONS
from mkmsr.models.neighbours.indexed_sessions import places_of
from mkmsr.recommend import Explanation, Recommender


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return trained(series_shop(), tmp_path_factory.mktemp("series"))


def with_rough_weights(folder: Path, name: str = "compass", **settings: object) -> Recommender:
    """Fresh weights three times as large, so that no part is negligible."""
    shop = small_shop()
    config, model = fitted(name, shop, dim=8, **settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return Recommender.load(
        save_bundle(folder / "b", new_bundle(model, name=name, config=config, dataset=shop, metrics={}))
    )


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return with_rough_weights(tmp_path_factory.mktemp("rough"))


SESSIONS = [
    [("plain", "click"), ("item-03", "cart"), ("item-04", "click"), ("plain", "order")],
    [("two words", "click")],
    [("item-10", "cart"), ("item-11", "click")],
]


@pytest.mark.parametrize("session", SESSIONS)
def test_the_parts_sum_to_the_score(session: list[tuple[str, str]], rough: Recommender) -> None:
    ranked = rough.recommend(session, k=36)
    for found, each in zip(rough.explain(session, [each.item for each in ranked.items]), ranked.items, strict=True):
        assert found.item == each.item
        assert found.score == pytest.approx(each.score, abs=1e-4)
        assert found.explore + found.copy + found.neighbours == pytest.approx(math.exp(each.score), rel=1e-3)
        assert sum(part.copied for part in found.events) == pytest.approx(found.copy)
        assert [(part.item, part.operation) for part in found.events] == session
        assert (found.copy > 0) == (found.item in [item for item, _ in session])
        if 0 < found.voters <= MOST_SESSIONS:
            assert sum(part.probability for part in found.sessions) == pytest.approx(found.neighbours, rel=1e-4)


@pytest.mark.parametrize("session", SESSIONS)
def test_the_explore_scores_of_all_items_give_the_explore_component(
    session: list[tuple[str, str]], rough: Recommender
) -> None:
    found = rough.explain(session, rough.bundle.items.ids)
    scores = torch.tensor([each.explore_score for each in found], dtype=torch.float64)
    explore = torch.tensor([each.explore for each in found], dtype=torch.float64)
    assert torch.allclose(scores.softmax(0) * explore.sum(), explore, rtol=1e-3)


def test_the_effect_of_an_event_is_what_its_absence_takes(rough: Recommender) -> None:
    session = SESSIONS[0]
    (found,) = rough.explain(session, ["item-05"])
    for place, part in enumerate(found.events):
        without = rough.explain(session[:place] + session[place + 1 :], ["item-05"])[0]
        assert part.effect == pytest.approx(found.score - without.score, abs=1e-4)
    assert rough.explain(SESSIONS[1], ["plain"])[0].events[0].effect is None


def test_votes_come_from_sessions_that_hold_the_item_and_share_one(rough: Recommender) -> None:
    shop, session = small_shop(), SESSIONS[0]
    row_of = {int(place): row for row, place in enumerate(places_of(shop.train))}
    found = rough.explain(session, ["item-05"])[0]
    assert found.voters > 0
    for part in found.sessions:
        items = {shop.items.id(int(item)) for item in shop.train.session(row_of[part.session])[0]}
        assert "item-05" in items
        assert set(part.shared_items) == items & {item for item, _ in session}


def best(recommender: Recommender, session: list[object], k: int = 1) -> Explanation:
    item = recommender.recommend(session, k=k).items[-1].item
    return recommender.explain(session, [item])[0]


def test_a_new_item_is_explained_by_the_attribute_that_places_it(series: Recommender) -> None:
    other = Recommender(series.bundle)
    other.add_items({"fresh": {"series": "2"}})
    found = other.explain(["item-2-0", "item-2-3"], ["fresh"])[0]
    assert found.own_vector == 0
    assert (found.copy, found.neighbours, found.voters) == (0, 0, 0)
    (part,) = found.attributes
    assert (part.relation, part.value, part.shared_with) == ("series", "2", ("item-2-3", "item-2-0"))
    assert part.by_vector > 0
    assert part.by_vector + part.by_match + found.popularity == pytest.approx(found.explore_score)
    assert found.sentence.startswith("fresh: it has series 2 in common with item-2-3 (explore 100%")


def test_no_item_is_recommended_for_standing_beside_itself(rough: Recommender) -> None:
    said = 0
    for session in SESSIONS:
        for found in rough.explain(session, rough.bundle.items.ids):
            match = re.search(
                r": \d+ similar sessions? holds? it(?:, the most similar one together with (.+))? \(", found.sentence
            )
            if match is not None:
                said += 1
                assert found.item not in (match[1] or "").split(" and "), found.sentence
                assert match[1] or set(found.sessions[0].shared_items) == {found.item}
    assert said > 10


@pytest.mark.slow
def test_a_sentence_names_attributes_that_the_named_item_has(rough: Recommender) -> None:
    bundle, named = rough.bundle, 0
    for first, second in pairwise(bundle.items.ids):
        for found in rough.explain([(first, "click"), (second, "cart")], bundle.items.ids):
            match = re.search(r": it has (.+) in common with (.+) \(explore", found.sentence)
            if match is None:
                continue
            known = bundle.knowledge.describe_item(bundle.items.index(match[2]))
            for each in match[1].split(" and "):
                relation, _, value = each.partition(" ")
                assert value in known[relation], found.sentence
                named += 1
    assert named > 100


def test_a_repeat_is_explained_by_the_event_that_it_repeats(tmp_path: Path) -> None:
    recommender = trained(planted.repeats(sessions=400), tmp_path, neighbours=False, training={"epochs": 5})
    found = best(recommender, [("item-3", "click"), ("item-7", "cart")])
    assert found.item == "item-7"
    assert found.copy > 0
    assert max(found.events, key=lambda part: part.copied).item == "item-7"
    assert found.events[1].effect is not None
    assert found.events[1].effect > 1
    assert found.sentence.startswith("item-7: it is in the session (cart, the last event)")


def test_an_explanation_is_json(series: Recommender) -> None:
    found = best(series, ["item-1-2", "item-1-4"], k=3)
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert set(document) == set(Explanation.__dataclass_fields__)
    assert document["events"][0]["item"] == "item-1-2"
    assert found.sentence.startswith(f"{found.item}: ")


def test_what_cannot_be_explained_says_so(series: Recommender, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no event of the session is of a known item"):
        series.explain(["ghost"], ["item-0-0"])
    with pytest.raises(UnknownIdError, match="unknown item 'ghost'"):
        series.explain(["item-0-0"], ["ghost"])
    config, model = fitted("s-pop", small_shop())
    save_bundle(tmp_path / "b", new_bundle(model, name="s-pop", config=config, dataset=small_shop(), metrics={}))
    with pytest.raises(ConfigError, match="'s-pop' cannot be explained; compass can"):
        Recommender.load(tmp_path / "b").explain(["plain"], ["plain"])

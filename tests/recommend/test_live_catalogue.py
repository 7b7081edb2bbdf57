from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from planted_recommender import series_shop, trained
from small_shop import fitted, small_shop

from mkmsr.bundle.model_bundle import load_bundle, new_bundle, save_bundle
from mkmsr.errors import ConfigError, DataError, UnknownIdError
from mkmsr.models.base import TrainingData
from mkmsr.recommend import Filters, Recommender, parse_condition

NEW = "fresh off the truck"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    trained(series_shop(), folder)
    return folder / "compass"


@pytest.fixture
def recommender(saved: Path) -> Recommender:
    return Recommender.load(saved)


def place(recommender: Recommender, session: list[str], item: str) -> int:
    found = recommender.recommend(session, k=1000)
    return [each.item for each in found.items].index(item) + 1


def test_a_new_item_is_among_the_first_of_its_own_series_and_of_no_other(recommender: Recommender) -> None:
    before = len(recommender.bundle.items)
    change = recommender.add_items({NEW: {"series": "2"}})
    assert change.added == (NEW,)
    assert change.without_attributes == ()
    assert change.unknown == {}
    assert len(recommender.bundle.items) == before + 1
    for series in range(6):
        session = [f"item-{series}-0", f"item-{series}-3"]
        assert (place(recommender, session, NEW) <= 12) == (series == 2)


def test_a_new_item_may_stand_in_a_session_and_say_what_comes_next(recommender: Recommender) -> None:
    assert recommender.recommend([NEW]).ranked_by == "popularity"
    recommender.add_items({NEW: {"series": ["4"]}})
    found = recommender.recommend([NEW], k=9)
    assert (found.ranked_by, found.skipped) == ("model", 0)
    own = [each.item for each in found.items if each.item.startswith("item-4-")]
    assert len(own) >= 6


def test_items_that_training_saw_keep_their_order(recommender: Recommender) -> None:
    """Newcomers share the chances of newcomers: only those may fall, and only together."""
    session = ["item-1-2", "item-1-5"]
    seen = recommender.bundle.model.vectors.seen
    known = {recommender.bundle.items.id(index) for index in seen.nonzero().squeeze(1).tolist()}
    before = [each.item for each in recommender.recommend(session, k=1000).items if each.item in known]
    recommender.add_items({NEW: {"series": "1"}, "another": {"series": ["0", "3"]}})
    after = [each.item for each in recommender.recommend(session, k=1000).items if each.item in known]
    assert len(known) > 40
    assert after == before


def test_unknown_values_are_counted_and_an_item_without_a_known_one_comes_last(recommender: Recommender) -> None:
    change = recommender.add_items(
        {"a": {"series": ["3", "no such"]}, "b": {"series": "no such", "colour": "red"}, "c": {}}
    )
    assert change.without_attributes == ("b", "c")
    assert change.unknown == {"series=no such": 2, "colour=red": 1}
    last = [each.item for each in recommender.recommend(["item-3-1"], k=1000).items][-2:]
    assert last == ["b", "c"]
    assert recommender.attributes("a") == {"series": ["3"]}
    assert recommender.attributes("b") == {}


def test_filters_see_values_that_training_never_saw(recommender: Recommender, tmp_path: Path) -> None:
    recommender.add_items({"a": {"series": ["3", "new"], "colour": "mint"}, "b": {"series": ["new", "new"]}})
    recommender.add_items({"c": {"series": "new", "weight": 12.5}})
    later = Recommender.load(recommender.save(tmp_path / "b"))
    for each in (recommender, later):
        known = {item: each.attributes(item) for item in each.bundle.items.ids}

        def passing(*texts: str, served: Recommender = each, **at_most: int) -> list[str]:
            filters = Filters(where=[parse_condition(text) for text in texts], at_most=at_most)
            return [one.item for one in served.recommend(["item-3-1"], k=1000, filters=filters).items]

        assert passing("series=new") == ["a", "b", "c"]
        assert len(passing("series!=new")) == len(known) - 3
        assert set(passing("series=3")) == {item for item in known if known[item].get("series") == ["3"]}
        assert passing("colour=mint") == ["a"]
        assert passing("weight=10..20") == ["c"]
        assert len(set(passing(series=2)) & {"a", "b", "c"}) == 2
        with pytest.raises(ConfigError, match=r"nothing is known under 'size' \(known: series, colour, weight\)"):
            passing("size=3")


def test_retired_items_never_appear_and_can_come_back(recommender: Recommender) -> None:
    session = ["item-0-1", "item-0-2"]
    first = recommender.recommend(session, k=1).items[0].item
    recommender.retire_items([first])
    assert first not in [each.item for each in recommender.recommend(session, k=1000).items]
    assert first not in [each.item for each in recommender.recommend([], k=1000).items]
    assert recommender.recommend([first]).ranked_by == "model"
    recommender.restore_items([first])
    assert recommender.recommend(session, k=1).items[0].item == first


def test_a_bundle_remembers_what_changed(recommender: Recommender, tmp_path: Path) -> None:
    recommender.add_items({NEW: {"series": "2"}, "bare": {}})
    recommender.retire_items(["item-2-0"])
    again = Recommender.load(recommender.save(tmp_path / "later"))
    assert again.bundle.added == (NEW, "bare")
    assert again.bundle.retired == {"item-2-0"}
    session = ["item-2-3", NEW]
    assert again.recommend(session, k=1000) == recommender.recommend(session, k=1000)
    again.add_items({"next day": {"series": "2"}})
    assert Recommender.load(again.save(tmp_path / "later")).bundle.added == (NEW, "bare", "next day")


def test_the_bundle_that_was_loaded_stays_as_it_is(saved: Path) -> None:
    bundle = load_bundle(saved)
    before = {name: value.clone() for name, value in bundle.model.state_dict().items()}
    Recommender(bundle).add_items({NEW: {"series": "2"}})
    assert NEW not in bundle.items
    assert all(torch.equal(value, before[name]) for name, value in bundle.model.state_dict().items())


def test_adding_one_by_one_equals_adding_all_at_once(saved: Path) -> None:
    new = {f"new-{n}": {"series": [str(n % 6), str(n % 5)]} for n in range(8)}
    together, apart = Recommender.load(saved), Recommender.load(saved)
    together.add_items(new)
    for item, attributes in new.items():
        apart.add_items({item: attributes})
    session = ["item-5-1", "new-5"]
    assert together.recommend(session, k=1000) == apart.recommend(session, k=1000)


def test_a_change_in_another_thread_waits_for_the_one_under_way(recommender: Recommender) -> None:
    other = Thread(target=recommender.retire_items, args=(["item-2-0"],))

    class Items(dict[str, Any]):
        def items(self) -> Any:
            other.start()
            other.join(timeout=0.3)  # It would be done at once, did it not wait.
            return super().items()

    recommender.add_items(Items({NEW: {"series": "2"}}))
    other.join()
    assert recommender.bundle.retired == {"item-2-0"}
    assert len(recommender.recommend(["item-2-1"], k=1000).items) == len(recommender.bundle.items) - 1


@pytest.mark.parametrize("series", [2, 2.0, "2", ["2", 2.0]])
def test_a_number_is_the_same_in_every_spelling(series: Any, recommender: Recommender) -> None:
    assert recommender.add_items({NEW: {"series": series}}).unknown == {}
    assert recommender.attributes(NEW) == {"series": ["2"]}


def test_a_text_that_looks_like_a_number_is_no_other_text(recommender: Recommender) -> None:
    assert recommender.add_items({NEW: {"series": ["2.0", "02"], "series=2": ""}}).unknown == {
        "series=2.0": 1,
        "series=02": 1,
        "series=2=": 1,
    }


def test_what_is_in_the_catalogue_cannot_be_added(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="item 'item-0-0' is in the catalogue already"):
        recommender.add_items({"item-0-0": {"series": "1"}})
    recommender.retire_items(["item-0-0"])
    with pytest.raises(DataError, match="restore_items"):
        recommender.add_items({"item-0-0": {"series": "1"}})
    with pytest.raises(UnknownIdError, match="unknown item 'ghost'"):
        recommender.retire_items(["ghost"])


def test_attributes_of_another_form_are_a_clear_error(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="'series' of item 'x' should be text or a number"):
        recommender.add_items({"x": {"series": [None]}})  # type: ignore[list-item]
    with pytest.raises(DataError, match="attributes of item 'x' should be values by relation"):
        recommender.add_items({"x": "red"})  # type: ignore[dict-item]


def test_one_id_in_place_of_several_is_an_error(recommender: Recommender) -> None:
    """Its letters would be taken for ids: "12" for the items "1" and "2"."""
    recommender.add_items({each: {"series": "2"} for each in ("1", "2", "12")})
    for call in (recommender.retire_items, recommender.restore_items):
        with pytest.raises(ConfigError, match=r"ids: should be a list of item ids, such as \['12'\]"):
            call("12")
    with pytest.raises(ConfigError, match=r"items: should be a list of item ids"):
        recommender.explain(["1"], "12")
    assert recommender.bundle.retired == frozenset()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"x": {"series": 10**5000}}, "should be text or a number; found an integer of thousands of digits"),
        ({"x": {10**5000: "2"}}, "attribute an integer of thousands of digits of item .x. should be named by text"),
        ({"\ud83d": {"series": "2"}}, "holds half a character, which no file can keep"),
        ({None: {"series": "2"}}, "an item id should be text or a whole number; found None"),
        ({True: {"series": "2"}}, "an item id should be text or a whole number; found True"),
        ({1: {"series": "2"}, "1": {"series": "3"}}, "item '1' is there twice: as text and as a number"),
        (["x"], "items should be attributes by item id"),
        ({"x": {"colour": "\ud83d"}}, "an attribute of item 'x', .* holds half a character"),
        ({"x": {"series": b"23"}}, "'series' of item 'x' should be text or a number; found b'23'"),
    ],
)
def test_what_no_bundle_could_keep_is_refused_and_changes_nothing(
    items: Any, message: str, recommender: Recommender, tmp_path: Path
) -> None:
    before = recommender.bundle
    with pytest.raises(DataError, match=message):
        recommender.add_items(items)
    assert recommender.bundle is before
    assert load_bundle(recommender.save(tmp_path / "b")).items == before.items


def test_adding_nothing_changes_nothing(tmp_path: Path) -> None:
    """The data leave new items out: those that training lacks get their chances with the first one that is added."""
    shop = small_shop(new_items="drop")
    shop = replace(shop, train=shop.train.select(shop.train.items != shop.items.index("plain")))
    config, model = fitted("compass", shop, dim=8)
    model.observe(TrainingData(shop.train, shop.examples(shop.train), shop.knowledge, expects_new_items=False))
    save_bundle(tmp_path / "b", new_bundle(model, name="compass", config=config, dataset=shop, metrics={}))
    recommender = Recommender.load(tmp_path / "b")
    before = recommender.recommend(["item-03"], k=1000)
    assert recommender.add_items({}).added == ()
    assert recommender.recommend(["item-03"], k=1000) == before


@pytest.mark.parametrize(("name", "settings"), [("mkm-sr", {}), ("compass", {"attributes": False}), ("s-pop", {})])
def test_a_model_that_knows_items_by_id_alone_says_so(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    shop = small_shop()
    config, model = fitted(name, shop, **settings)
    save_bundle(tmp_path / "b", new_bundle(model, name=name, config=config, dataset=shop, metrics={}))
    with pytest.raises(ConfigError, match="cannot place new ones; train a model that composes items of attributes"):
        Recommender.load(tmp_path / "b").add_items({"x": {"colour": "red"}})

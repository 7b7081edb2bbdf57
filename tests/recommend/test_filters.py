from __future__ import annotations

import math
from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shop import fitted, small_shop

from mkmsr.bundle.model_bundle import load_bundle, new_bundle, save_bundle
from mkmsr.errors import ConfigError, DataError, UnknownIdError
from mkmsr.recommend import Condition, Filters, Recommender, parse_condition
from mkmsr.recommend.ranker import best_columns

SESSION = ["plain", "item-03"]


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    folder = tmp_path_factory.mktemp("bundles")
    config, model = fitted("m-sr", small_shop(), dim=8)
    save_bundle(folder / "b", new_bundle(model, name="m-sr", config=config, dataset=small_shop(), metrics={}))
    return Recommender(load_bundle(folder / "b"))


def ranked(recommender: Recommender, filters: Filters = Filters(), k: int = 1000, session: Any = SESSION) -> list[str]:  # noqa: B008
    return [each.item for each in recommender.recommend(session, k=k, filters=filters).items]


def where(*texts: str) -> Filters:
    return Filters(where=[parse_condition(text) for text in texts])


def test_conditions_choose_from_the_whole_ranking_before_it_is_cut(recommender: Recommender) -> None:
    everything = ranked(recommender)
    red = [item for item in everything if recommender.attributes(item)["colour"] == ["red"]]
    assert ranked(recommender, where("colour=red"), k=5) == red[:5]
    either = [item for item in everything if recommender.attributes(item)["colour"][0] in ("red", "青")]
    assert ranked(recommender, where("colour=red,青"), k=9) == either[:9]
    neither = [item for item in everything if recommender.attributes(item)["colour"] == ["grün"]]
    assert ranked(recommender, where("colour!=red,青")) == neither
    both = [item for item in red if recommender.attributes(item)["brand"] == ["brand-0"]]
    assert ranked(recommender, where("colour=red", "brand=brand-0")) == both


def test_an_allow_list_and_exclusions_hold_together(recommender: Recommender) -> None:
    filters = Filters(only=["plain", "item-03", "item-07", "ghost"], exclude=["item-03", "phantom"])
    assert sorted(ranked(recommender, filters)) == ["item-07", "plain"]
    found = recommender.recommend([], k=5, exclude=["plain"], filters=filters)
    assert [each.item for each in found.items] == ["item-07"]


def test_one_id_in_place_of_several_is_an_error(recommender: Recommender) -> None:
    with pytest.raises(ConfigError, match=r"exclude: should be a list of item ids, such as \['plain'\]"):
        recommender.recommend([], exclude="plain")
    with pytest.raises(ConfigError, match=r"only: should be a list of item ids"):
        Filters(only="plain")


def test_ids_that_can_be_read_only_once_hold_for_every_call(recommender: Recommender) -> None:
    filters = Filters(
        exclude=(each for each in ["plain"]),  # type: ignore[arg-type]
        only=(each for each in ["plain", "item-07"]),  # type: ignore[arg-type]
    )
    assert ranked(recommender, filters) == ranked(recommender, filters) == ["item-07"]
    assert ranked(recommender, Filters(only=[])) == []


def test_a_text_in_place_of_a_condition_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'colour=red' is no condition; parse_condition makes one of a text"):
        Filters(where=["colour=red"])  # type: ignore[list-item]


def test_facts_are_seen_by_filters_alone(recommender: Recommender) -> None:
    before = ranked(recommender)
    recommender.set_facts({"price": {"plain": 9.5, "item-03": [30, 8], "item-04": 50}, "in_stock": {"item-04": "no"}})
    assert ranked(recommender) == before
    assert sorted(ranked(recommender, where("price=8..10"))) == ["item-03", "plain"]
    assert sorted(ranked(recommender, where("price=9.5.."))) == ["item-03", "item-04", "plain"]
    assert "item-04" not in ranked(recommender, where("in_stock!=no"))
    recommender.set_facts({"colour": {"plain": "none of its business"}})
    assert ranked(recommender, where("colour=none of its business")) == ["plain"]
    recommender.set_facts({})
    with pytest.raises(ConfigError, match=r"nothing is known under 'price' \(known: colour, brand\)"):
        ranked(recommender, where("price=8..10"))


def test_a_range_of_what_is_no_number_is_refused(recommender: Recommender) -> None:
    with pytest.raises(ConfigError, match="colour has no numbers that a range could hold, but texts like 'red'"):
        ranked(recommender, where("colour=..50"))
    recommender.set_facts({"price": {"plain": "9.50 €"}})
    with pytest.raises(ConfigError, match=r"price has no numbers that a range could hold, but texts like '9\.50 €'"):
        ranked(recommender, where("price=..50"))
    recommender.set_facts({"price": {"plain": "on request", "item-03": 8}})
    assert ranked(recommender, where("price=..50")) == ["item-03"]
    recommender.set_facts({})


def test_no_more_than_so_many_items_of_a_value(recommender: Recommender) -> None:
    found = ranked(recommender, Filters(at_most={"brand": 2, "colour": 3}), k=9)
    for relation, most in (("brand", 2), ("colour", 3)):
        assert max(Counter(recommender.attributes(item)[relation][0] for item in found).values()) <= most
    assert found == greedy(ranked(recommender), recommender, {"brand": 2, "colour": 3})[:9]
    assert ranked(recommender, Filters(at_most={"brand": 1}), session=[]) != []
    with pytest.raises(ConfigError, match=r"at_most\.brand: must be at least 1, found 0"):
        ranked(recommender, Filters(at_most={"brand": 0}))
    with pytest.raises(ConfigError, match="nothing is known under 'brnd', did you mean 'brand'"):
        ranked(recommender, Filters(at_most={"brnd": 1}))


def test_a_fact_that_is_said_twice_counts_once(recommender: Recommender) -> None:
    recommender.set_facts({"shop": {"plain": ["a", "a"], "item-03": ["a"], "item-04": "a"}})
    named = {"plain", "item-03", "item-04"}
    assert len(named & set(ranked(recommender, Filters(at_most={"shop": 2})))) == 2
    assert ranked(recommender, Filters(only=["plain"], at_most={"shop": 1})) == ["plain"]
    recommender.set_facts({})


def greedy(items: list[str], recommender: Recommender, at_most: dict[str, int]) -> list[str]:
    """The literal walk down a ranking."""
    chosen: list[str] = []
    for item in items:
        values = recommender.attributes(item)
        fits = True
        for relation, most in at_most.items():
            for value in values[relation]:
                fits &= sum(value in recommender.attributes(other)[relation] for other in chosen) < most
        chosen += [item] if fits else []
    return chosen


VISIT = [("plain", "click"), ("item-03", "order"), ("item-04", "cart"), ("item-05", "never seen")]


def test_the_items_of_a_session_are_left_out_of_its_own_list_alone(recommender: Recommender) -> None:
    everything = ranked(recommender, session=VISIT)
    left = [item for item in everything if item not in {item for item, _ in VISIT}]
    assert ranked(recommender, Filters(exclude_session=True), session=VISIT) == left
    found = recommender.recommend_many([VISIT, ["item-07"], []], k=1000, exclude_session=True)
    assert [each.item for each in found[0].items] == left
    assert {"plain", "item-03"} < {each.item for each in found[1].items}
    assert len(found[2].items) == len(everything)


def test_items_older_than_the_model_reads_are_left_out_too(recommender: Recommender) -> None:
    session = ["item-20", *["plain"] * recommender.max_events]
    assert "item-20" not in ranked(recommender, Filters(exclude_session=True), session=session)


def test_what_was_done_with_an_item_leaves_it_out_in_earlier_sessions_too(recommender: Recommender) -> None:
    bought = Filters(exclude_operations=["order"])
    session = {"events": VISIT, "earlier": [("item-10", "order"), ("item-11", "click"), ("ghost", "order")]}
    without = set(ranked(recommender, session=session)) - set(ranked(recommender, bought, session=session))
    assert without == {"item-03", "item-10"}
    alone = {"events": ["ghost"], "earlier": [("item-10", "order")]}
    assert recommender.recommend(alone, filters=bought).ranked_by == "popularity"
    assert "item-10" not in ranked(recommender, bought, session=alone)
    with pytest.raises(UnknownIdError, match="unknown operation 'ordr', did you mean 'order'"):
        ranked(recommender, Filters(exclude_operations=["ordr"]))


def test_a_session_names_what_its_own_list_must_not_hold(recommender: Recommender) -> None:
    first, second = ranked(recommender)[:2]
    sessions = [{"events": SESSION, "exclude": [first, "ghost", 7]}, {"events": SESSION}]
    found = recommender.recommend_many(sessions, k=1)
    assert [each.items[0].item for each in found] == [second, first]
    with pytest.raises(DataError, match="session 1 should have a list of item ids under 'exclude'; found 'plain'"):
        recommender.recommend_many([{"events": SESSION, "exclude": "plain"}])
    with pytest.raises(DataError, match="the session, 'exclude', should hold item ids; found None"):
        recommender.recommend({"events": SESSION, "exclude": [None]})


@pytest.mark.parametrize("k", [1.5, None, "5", True])
def test_a_length_that_is_no_whole_number_is_one_clear_line(k: Any, recommender: Recommender) -> None:
    with pytest.raises(ConfigError, match="k: should be a whole number, at least 1; found "):
        recommender.recommend(SESSION, k=k)
    with pytest.raises(ConfigError, match=r"at_most\.brand: should be a whole number"):
        ranked(recommender, Filters(at_most={"brand": k}))


@pytest.mark.parametrize("exclude", [5, None, 1.5, [None], [1.5], [10**5000]])
def test_exclusions_that_are_no_list_of_ids_are_one_clear_line(exclude: Any, recommender: Recommender) -> None:
    with pytest.raises(ConfigError, match=r"exclude: (should be a list of item ids|an item id should be text)"):
        recommender.recommend(SESSION, exclude=exclude)


def test_facts_replace_earlier_ones_or_update_them(recommender: Recommender) -> None:
    recommender.set_facts({"price": {"plain": 10, "item-03": 20}, "in_stock": {"plain": "yes"}})
    recommender.set_facts({"price": {"plain": 15, "item-04": 20}}, update=True)
    assert sorted(ranked(recommender, where("price=15..20"))) == ["item-03", "item-04", "plain"]
    assert ranked(recommender, where("in_stock=yes")) == ["plain"]
    recommender.set_facts({"price": {"item-03": []}}, update=True)
    assert sorted(ranked(recommender, where("price=1.."))) == ["item-04", "plain"]
    recommender.set_facts({"price": {"plain": 10}})
    assert ranked(recommender, where("price=1..")) == ["plain"]
    with pytest.raises(ConfigError, match="nothing is known under 'in_stock'"):
        ranked(recommender, where("in_stock=yes"))
    recommender.set_facts({})


def test_a_change_shows_in_the_next_call_with_the_same_filters(recommender: Recommender) -> None:
    other, cheap = Recommender(recommender.bundle), where("price=..10")
    other.set_facts({"price": {"plain": 5, "item-03": 5}})
    assert sorted(ranked(other, cheap)) == ["item-03", "plain"]
    other.set_facts({"price": {"plain": 50}}, update=True)
    assert ranked(other, cheap) == ["item-03"]
    other.retire_items(["item-03"])
    assert ranked(other, cheap) == []
    assert "item-03" in ranked(recommender)


def test_facts_of_unknown_items_are_named_and_wait_for_them(recommender: Recommender) -> None:
    assert recommender.set_facts(
        {"price": {"plain": 10, "ghost": 2}, "in_stock": {"phantom": "no", "ghost": "no"}}
    ) == [
        "ghost",
        "phantom",
    ]
    assert recommender.set_facts({}) == []


@cache
def values_of_items() -> dict[int, dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(3)
    draw = torch.randint(0, 5, (60, 3), generator=generator).tolist()
    return {item: {"a": [x], "b": sorted({y, z})} for item, (x, y, z) in enumerate(draw) if item % 7}


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.integers(0, 20), min_size=60, max_size=60),
    allowed=st.lists(st.booleans(), min_size=60, max_size=60),
    k=st.integers(1, 70),
    caps=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_capped_lists_equal_brute_force(scores: list[int], allowed: list[bool], k: int, caps: tuple[int, int]) -> None:
    values = values_of_items()
    chosen: list[int] = []
    for item in sorted((item for item in range(1, 60) if allowed[item]), key=lambda item: (-scores[item], item)):
        own = values.get(item, {"a": [], "b": []})
        full = any(
            sum(value in values.get(other, {}).get(name, []) for other in chosen) >= most
            for name, most in zip("ab", caps, strict=True)
            for value in own[name]
        )
        chosen += [] if full else [item]
    row = torch.tensor([[float(score) if fine else -math.inf for score, fine in zip(scores, allowed, strict=True)]])
    tables = [(most, {item: own[name] for item, own in values.items()}) for name, most in zip("ab", caps, strict=True)]
    row[0, 0] = -math.inf  # Column 0 is no item.
    assert best_columns(row, k, tables)[0].tolist() == [(chosen + [0] * k)[:k]]


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("category=shoes", Condition("category", "in", frozenset({"shoes"}))),
        ("category = a", Condition("category", "in", frozenset({" a"}))),
        ("brand!=a,b c", Condition("brand", "not in", frozenset({"a", "b c"}))),
        ("price=10..50.5", Condition("price", "range", low=10, high=50.5)),
        ("price=..-3", Condition("price", "range", low=-math.inf, high=-3)),
        ("url=a=b", Condition("url", "in", frozenset({"a=b"}))),
    ],
)
def test_a_condition_is_written_as_text(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize("text", ["category", "=shoes", "category=", "!=x", ""])
def test_another_text_is_a_clear_error(text: str) -> None:
    with pytest.raises(ConfigError, match="is no condition; write for example category=shoes,boots"):
        parse_condition(text)


@pytest.mark.parametrize(
    ("value", "passes"),
    [("10", True), ("50", True), ("50.01", False), ("10..20", True), ("40..60", False), ("..20", False), ("x", False)],
)
def test_a_range_holds_its_ends_and_the_buckets_inside(value: str, passes: bool) -> None:
    assert parse_condition("price=10..50").accepts(value) == passes


@pytest.mark.parametrize("text", ["category=boots,shoes", "brand!=acme", "price=10..50", "price=..12.5", "price=3.."])
def test_a_condition_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_condition(text)) == text


@pytest.mark.parametrize("facts", [["in_stock"], {"in_stock": ["item-03"]}, {"price": 12.5}])
def test_facts_of_another_form_are_refused(recommender: Recommender, facts: Any) -> None:
    with pytest.raises(DataError, match=r"facts should be values by name and item id, such as .* found "):
        recommender.set_facts(facts)


HUGE = 10**5000


@pytest.mark.parametrize(
    "values",
    [{"where": 5}, {"where": None}, {"where": [HUGE]}, {"at_most": 5}, {"at_most": {HUGE: 1}}, {"at_most": "brand"}],
)
def test_conditions_and_caps_of_another_form_are_one_clear_line(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"^(where|at_most): "):
        Filters(**values)


@pytest.mark.parametrize("facts", [{HUGE: {"plain": 1}}, {"price": {HUGE: 1}}, {"price": {"plain": HUGE}}])
def test_facts_of_thousands_of_digits_are_refused(recommender: Recommender, facts: Any) -> None:
    with pytest.raises(DataError, match="facts should be numbers or texts; found an integer of thousands of digits"):
        recommender.set_facts(facts)


@pytest.mark.parametrize("k", [-HUGE, 0], ids=["huge", "zero"])
def test_a_length_below_one_is_named_whatever_its_size(recommender: Recommender, k: int) -> None:
    with pytest.raises(ConfigError, match="must be at least 1, found "):
        recommender.recommend(SESSION, k=k)

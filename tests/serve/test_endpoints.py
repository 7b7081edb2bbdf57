"""What the endpoints answer, over a real socket."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, running
from small_shop import ITEMS

from mkmsr.recommend import Filters, Recommender, parse_condition
from mkmsr.serve.changes import load
from mkmsr.serve.engine import Slot
from mkmsr.serve.service import Cards
from mkmsr.serve.settings import Settings


def test_lists_are_those_of_the_recommender(live: Live, bundle: Path) -> None:
    recommender = Recommender.load(bundle)
    session = [("item-03", "click"), ("plain", "cart"), ("nowhere", "click"), ("item-05", "dance")]
    events = [{"item": item, "operation": operation} for item, operation in session]
    expected = recommender.recommend(session, k=7)
    found = live.recommend(events=events, k=7).json
    assert [each["item"] for each in found["items"]] == [each.item for each in expected.items]
    assert [each["score"] for each in found["items"]] == pytest.approx([each.score for each in expected.items])
    assert (found["skipped"], found["replaced"], found["ranked_by"]) == (1, 1, "model")


def test_filters_are_those_of_the_recommender(live: Live, bundle: Path) -> None:
    recommender = Recommender.load(bundle)
    session = [("item-03", "click"), ("item-04", "order"), ("item-05", "click")]
    filters = Filters(
        where=[parse_condition("colour!=red")], at_most={"brand": 1}, exclude_operations=["order"], exclude=["item-06"]
    )
    asked = {"where": ["colour!=red"], "at_most": {"brand": 1}, "exclude_operations": ["order"], "exclude": ["item-06"]}
    for own in (False, True):
        expected = recommender.recommend(session, k=30, filters=filters, exclude_session=own)
        events = [{"item": item, "operation": operation} for item, operation in session]
        found = live.recommend(events=events, k=30, exclude_session=own, **asked)
        assert found.items == [each.item for each in expected.items]


def test_an_appended_event_counts_in_the_same_call(live: Live) -> None:
    event = {"item": "item-09", "operation": "click"}
    first = live.recommend(session="append", consent=True, append=[event]).json
    assert (first["accepted"], first["ranked_by"]) == (1, "model")
    assert first["items"] == live.recommend(events=[event]).json["items"]
    assert live.call("GET", "/v1/sessions/append").json["events"][0]["item"] == "item-09"


def test_without_consent_nothing_is_stored(live: Live) -> None:
    event = {"item": "item-09", "operation": "click"}
    assert live.call("POST", "/v1/events", {"session": "shy", "events": [event]}).json["accepted"] == 0
    found = live.recommend(session="shy", append=[event]).json
    assert found["ranked_by"] == "model"
    assert "without consent" in found["notes"][0]
    assert live.call("GET", "/v1/sessions/shy").status == 404


@pytest.mark.parametrize(
    "wrong", [{"where": ["no-such=1"]}, {"exclude_operations": ["no-such"]}, {"operation": "order"}]
)
def test_a_call_that_is_refused_stores_nothing(live: Live, wrong: dict[str, object]) -> None:
    asked = {"session": "refused", "consent": True, "append": [{"item": "item-03", "operation": "click"}]}
    assert live.recommend(**asked, **wrong).status == 422
    assert live.call("GET", "/v1/sessions/refused").status == 404


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"event": []}, "unknown field `event`, did you mean 'events'?; there are session, "),
        ({"events": [{"itm": "a"}]}, "at `$.events[0]`, did you mean 'item'?; there are item, operation, time, id, "),
        ({"append": [{"itm": "a"}]}, "at `$.append[0]`, did you mean 'item'?; there are item, "),
    ],
)
def test_an_unknown_field_is_named_with_the_right_ones(live: Live, wrong: dict[str, object], right: str) -> None:
    found = live.recommend(session="s", consent=True, **wrong)
    assert found.status == 422
    assert right in found.json["detail"]


def test_an_event_that_comes_again_is_a_duplicate(live: Live) -> None:
    event = {"item": "item-01", "operation": "click", "id": "e-1"}
    assert live.send("again", event).json["accepted"] == 1
    assert live.send("again", event, event).json == {
        "accepted": 0, "duplicates": 2, "skipped": 0, "expires_in": 1800
    }  # fmt: skip


def test_an_anonymous_visitor_is_merged_into_a_known_one(live: Live) -> None:
    live.send("known", {"item": "item-02", "time": 200.0})
    live.send("anonymous", {"item": "item-01", "time": 100.0})
    live.send("known", {"item": "item-03", "time": 300.0}, merge="anonymous")
    events = live.call("GET", "/v1/sessions/known").json["events"]
    assert [each["item"] for each in events] == ["item-01", "item-02", "item-03"]
    assert live.call("GET", "/v1/sessions/anonymous").status == 404


def test_an_erased_session_cannot_be_read_and_stays_erased(live: Live) -> None:
    live.send("gone", "item-01")
    live.recommend(session="gone", consent=True)
    erased = live.call("DELETE", "/v1/sessions/gone").json
    assert erased["erased"] is True
    assert erased["bytes"].startswith("gone")
    assert live.call("GET", "/v1/sessions/gone").status == 404
    assert live.recommend(session="gone", consent=True).json["ranked_by"] == "popularity"


def test_only_the_newest_events_are_kept(live: Live) -> None:
    for begin in range(0, 3000, 1000):
        live.send("long", *({"item": f"item-{n % 30:02d}", "time": float(n)} for n in range(begin, begin + 1000)))
    times = [each["time"] for each in live.call("GET", "/v1/sessions/long").json["events"]]
    assert times == [float(n) for n in range(2900, 3000)]


def test_an_empty_list_says_why(live: Live) -> None:
    found = live.recommend(events=[{"item": "plain"}], where=["colour=purple"]).json
    assert found["items"] == []
    assert "colour=purple: 0 (it has" in found["notes"][0]


def test_reasons_come_as_a_sentence_and_as_shares(live: Live) -> None:
    found = live.recommend(events=[{"item": "item-03"}], k=2, explain=True).json
    reason = found["items"][0]["reason"]
    assert found["items"][0]["item"] in reason["sentence"]
    assert sum(reason["parts"].values()) == pytest.approx(1)
    whole = live.call("POST", "/v1/explanations", {"events": [{"item": "item-03"}], "items": ["plain"]}).json
    assert whole["items"][0]["item"] == "plain"
    assert "voters" in whole["items"][0]


def test_fields_limit_what_is_told_about_items(live: Live) -> None:
    def attributes(**fields: list[str]) -> set[str]:
        found = live.recommend(events=[{"item": "item-03"}], k=1, **fields).json["items"][0]
        return set(found.get("attributes", {}))

    assert attributes() == {"brand", "colour"}
    assert attributes(fields=["brand"]) == {"brand"}
    assert attributes(fields=[]) == set()


@pytest.mark.parametrize("item", ["two words", 'quo"ted', "咖啡 <b>", "[bold]"])
def test_awkward_ids_stand_in_paths(live: Live, item: str) -> None:
    from urllib.parse import quote

    found = live.call("GET", f"/v1/items/{quote(item, safe='')}/similar?k=3")
    assert (found.json["item"], len(found.items)) == (item, 3)
    assert item not in found.items


def test_the_catalogue_is_searched_and_filtered(live: Live) -> None:
    assert live.call("GET", "/v1/items").json["total"] == len(ITEMS)
    assert live.call("GET", "/v1/items?search=ITEM-0").json["total"] == 10
    red = live.call("GET", "/v1/items?relation=colour&value=red&limit=200").json
    assert {each["attributes"]["colour"][0] for each in red["items"]} == {"red"}
    pages = [live.call("GET", f"/v1/items?offset={n}&limit=18").items for n in (0, 18)]
    assert sorted(pages[0] + pages[1]) == sorted(ITEMS)


def test_the_service_describes_itself(live: Live) -> None:
    found = live.call("GET", "/v1/service").json
    assert found["bundle"]["model"] == "compass"
    assert sorted(found["operations"]) == ["cart", "click", "order"]
    assert (found["models"], sorted(found["relations"])) == (["compass"], ["brand", "colour"])
    assert (found["simulated"], found["store"]) == (False, "memory")


def test_every_endpoint_stands_in_the_description(live: Live) -> None:
    description = live.call("GET", "/openapi.json").json
    assert description["openapi"] == "3.1.0"
    assert {"/v1/recommendations", "/v1/items/{id}/similar", "/v1/catalogue/facts"} <= set(description["paths"])
    assert set(description["paths"]["/v1/sessions/{id}"]) == {"get", "delete"}
    text = json.dumps(description)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(description["components"]["schemas"])


def test_health_and_metrics_answer(live: Live) -> None:
    assert live.call("GET", "/health/live").json == {"status": "ok"}
    assert live.call("GET", "/health/ready").json == {"status": "ok"}
    live.recommend(events=[])
    assert 'mkmsr_requests_total{endpoint="/v1/recommendations",status="200"}' in live.call("GET", "/metrics").text


@pytest.fixture
def beside(bundle: Path, narm: Path) -> Iterator[Live]:
    with running(Settings(bundle=bundle, beside=narm, split=0.5, patience=30)) as service:
        yield service


def test_a_second_bundle_answers_by_name_and_by_share(beside: Live) -> None:
    events = [{"item": "item-03"}]
    assert beside.recommend(events=events, model="narm").json["model"] == "narm"
    assert beside.recommend(events=events, model="nobody").status == 422
    asked = [beside.recommend(session=f"s{n}", consent=True).json["model"] for n in range(60)]
    assert asked == [beside.recommend(session=f"s{n}", consent=True).json["model"] for n in range(60)]
    assert 10 < asked.count("narm") < 50


def test_a_late_thread_fills_no_newer_cards(bundle: Path) -> None:
    serving, facts = load(str(bundle)), {"price": {"plain": 1}}
    slot = Slot("compass", serving)

    class Slow(dict[str, dict[str, int]]):
        def items(self):  # type: ignore[no-untyped-def]  # while the facts are read, the next version comes
            found = list(super().items())
            now.update(facts={"price": {"plain": 2}})
            cards.of(slot, serving, 2, "item-01")
            return found

    now = {"facts": Slow(facts)}
    cards = Cards((), lambda: now["facts"])
    assert cards.of(slot, serving, 1, "plain")[0]["price"] == ["1"]
    assert cards.of(slot, serving, 2, "plain")[0]["price"] == ["2"]


def test_a_session_that_cannot_be_read_is_not_explained_as_an_empty_one(bundle: Path, tmp_path: Path) -> None:
    asked = {"items": ["item-01"], "session": "s", "consent": True}
    with running(Settings(bundle=bundle, store="sqlite", state=tmp_path)) as live:
        live.send("s", "plain")
        with sqlite3.connect(tmp_path / "sessions.sqlite") as file:
            file.execute("ALTER TABLE sessions RENAME TO away")
        assert live.call("POST", "/v1/explanations", asked).status == 503
        events = [{"item": "plain"}]
        assert live.call("POST", "/v1/explanations", {**asked, "events": events}).status == 200

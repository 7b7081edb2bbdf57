"""A catalogue and bundles that change while requests are answered."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, running, write_bundle
from small_shop import ITEMS

from mkmsr.serve.changes import Record, _Catalogue, load
from mkmsr.serve.settings import Settings

EVENTS = [{"item": "item-03", "operation": "click"}]


@pytest.fixture
def live(bundle: Path) -> Iterator[Live]:
    with running(Settings(bundle=bundle, image_hosts=("img.example",), patience=30)) as service:
        yield service


def test_a_new_item_is_in_the_next_list(live: Live) -> None:
    new = {"item": "new", "attributes": {"brand": "brand-1", "colour": ["red"]}, "display": {"name": "New"}}
    changed = live.call("POST", "/v1/catalogue/items", {"items": [new]}).json
    assert changed["models"]["compass"]["added"] == 1
    found = live.recommend(events=EVENTS, k=100).json
    shown = next(each for each in found["items"] if each["item"] == "new")
    assert (shown["display"], shown["attributes"]["brand"]) == ({"name": "New"}, ["brand-1"])
    assert found["catalogue"] == changed["catalogue"]
    assert live.call("POST", "/v1/catalogue/items", {"items": [new]}).status == 422


def test_retired_items_leave_and_restored_ones_come_back(live: Live) -> None:
    best = live.recommend(events=EVENTS, k=1).items
    live.call("POST", "/v1/catalogue/retire", {"items": best})
    assert best[0] not in live.recommend(events=EVENTS, k=100).items
    live.call("POST", "/v1/catalogue/restore", {"items": best})
    assert live.recommend(events=EVENTS, k=1).items == best
    refused = live.call("POST", "/v1/catalogue/retire", {"items": ["nothing"]})
    assert (refused.status, "nothing" in refused.json["detail"]) == (422, True)


def test_facts_are_stated_anew_or_one_by_one(live: Live) -> None:
    def cheap() -> list[str]:
        return sorted(live.recommend(events=EVENTS, k=100, where=["price=..10"]).items)

    live.call("PUT", "/v1/catalogue/facts", {"facts": {"price": {"plain": 5, "item-01": 50}}})
    assert cheap() == ["plain"]
    live.call("PATCH", "/v1/catalogue/facts", {"facts": {"price": {"item-01": 7.5}}})
    assert cheap() == ["item-01", "plain"]
    live.call("PUT", "/v1/catalogue/facts", {"facts": {"price": {"item-02": 1}}})
    assert cheap() == ["item-02"]


def test_only_safe_images_and_links_are_shown(live: Live) -> None:
    shown = {
        "a": {"image": "https://img.example/a.png", "link": "https://shop.example/a"},
        "b": {"image": "https://evil.example/a.png", "link": "javascript:alert(1)"},
        "c": {"image": "data:image/svg+xml,%3Csvg/%3E", "link": "data:text/html,x"},
        "d": {"image": "http://[", "name": "<script>"},
    }
    items = [{"item": name, "attributes": {"brand": "brand-1"}, "display": each} for name, each in shown.items()]
    live.call("POST", "/v1/catalogue/items", {"items": items})
    found = live.recommend(events=EVENTS, k=100).json["items"]
    told = {each["item"]: each.get("display", {}) for each in found}
    assert [told[name] for name in "abcd"] == [
        shown["a"], {}, {"image": shown["c"]["image"]}, {"name": "<script>"}
    ]  # fmt: skip


def test_a_bundle_is_swapped_and_rolled_back_without_a_failed_request(live: Live, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", metrics={"made": "anew"})
    live.call("POST", "/v1/catalogue/retire", {"items": ["plain"]})
    before = live.recommend(events=EVENTS).json["bundle"]
    statuses, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(live.recommend(events=EVENTS, k=100).status)

    asking = threading.Thread(target=ask)
    asking.start()
    swapped = live.call("POST", "/v1/admin/bundle", {"path": str(other)})
    after = live.recommend(events=EVENTS, k=100)
    rolled = live.call("POST", "/v1/admin/bundle", {"rollback": True})
    stop.set()
    asking.join()
    assert (swapped.status, rolled.status) == (200, 200)
    assert before != after.json["bundle"] == swapped.json["models"]["compass"]["bundle"]
    assert "plain" not in after.items
    assert live.recommend(events=EVENTS).json["bundle"] == before
    assert set(statuses) == {200}


def test_a_damaged_bundle_is_refused_and_the_old_one_serves_on(live: Live, bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(bundle, damaged)
    weights = damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    refused = live.call("POST", "/v1/admin/bundle", {"path": str(damaged)})
    assert (refused.status, "weights.safetensors" in refused.json["detail"]) == (422, True)
    assert live.call("POST", "/v1/admin/bundle", {"rollback": True}).status == 422
    assert len(live.recommend(events=EVENTS).items) == 20


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_long_log_becomes_one_record(
    bundle: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mkmsr.serve.changes._MOST_RECORDS", 6)
    settings = Settings(bundle=bundle, store=store, state=tmp_path, patience=30)
    new = {"item": "new", "attributes": {"brand": "brand-1"}, "display": {"name": "New"}}

    def state(live: Live) -> list[list[str]]:
        listed = live.recommend(events=EVENTS, k=100)
        return [listed.items, live.recommend(events=EVENTS, k=100, where=["price=..10"]).items]

    with running(settings) as live:
        live.call("POST", "/v1/catalogue/items", {"items": [new]})
        live.call("POST", "/v1/catalogue/retire", {"items": ["plain", "item-01"]})
        live.call("POST", "/v1/catalogue/restore", {"items": ["plain"]})
        for price in range(12):
            live.call("PATCH", "/v1/catalogue/facts", {"facts": {"price": {"new": price, f"item-{price:02d}": price}}})
        before = state(live)
    assert (len(before[0]), "new" in before[0], "item-01" in before[0]) == (36, True, False)
    if store == "sqlite":
        with sqlite3.connect(tmp_path / "sessions.sqlite") as file:
            assert file.execute("SELECT count(*) FROM changes").fetchone()[0] < 7
        with running(settings) as live:
            assert state(live) == before


def test_a_model_of_ids_alone_refuses_new_items(narm: Path) -> None:
    with running(Settings(bundle=narm)) as live:
        refused = live.call("POST", "/v1/catalogue/items", {"items": [{"item": "new"}]})
        assert (refused.status, "ids alone" in refused.json["detail"]) == (422, True)


def test_catalogue_changes_outlive_the_service_with_sqlite(bundle: Path, tmp_path: Path) -> None:
    settings = Settings(bundle=bundle, store="sqlite", state=tmp_path, patience=30)
    new = {"item": "new", "attributes": {"brand": "brand-1"}, "display": {"name": "New"}}
    with running(settings) as live:
        live.send("s", "item-01")
        live.call("POST", "/v1/catalogue/items", {"items": [new]})
        live.call("POST", "/v1/catalogue/retire", {"items": ["plain"]})
        live.call("PUT", "/v1/catalogue/facts", {"facts": {"price": {"new": 5}}})
    with running(settings) as live:
        assert live.recommend(events=EVENTS, k=100, where=["price=5"]).json["items"][0]["display"] == {"name": "New"}
        assert len(live.recommend(events=EVENTS, k=100).items) == len(ITEMS)
        assert live.call("GET", "/v1/sessions/s").json["events"][0]["item"] == "item-01"


def test_a_worker_that_starts_anew_rolls_back_to_the_same_bundle_as_the_others(bundle: Path, tmp_path: Path) -> None:
    settings = Settings(bundle=bundle, store="sqlite", state=tmp_path / "state", patience=30)
    paths = [str(write_bundle(tmp_path / name, metrics={"made": name})) for name in ("second", "third")]

    def digest(live: Live) -> str:
        return str(live.recommend(events=EVENTS).json["bundle"])

    def roll_back(live: Live) -> str:
        assert live.call("POST", "/v1/admin/bundle", {"rollback": True}).status == 200
        return digest(live)

    with running(settings) as live:
        second, third = (live.call("POST", "/v1/admin/bundle", {"path": path}).json["models"] for path in paths)
        second, third = second["compass"]["bundle"], third["compass"]["bundle"]
        with running(settings) as later:
            assert digest(later) == third
            assert [roll_back(later), digest(live)] == [second, second]
            assert [roll_back(live), digest(later)] == [third, third]
    shutil.rmtree(paths[0])
    with running(settings) as live:
        assert digest(live) == third
        assert live.call("POST", "/v1/admin/bundle", {"rollback": True}).status == 422


def test_of_two_that_add_an_item_at_once_neither_loses_the_others_items() -> None:
    catalogue = _Catalogue()
    catalogue.note(Record("add", items={"a": {"attributes": {"n": 1}}}))
    catalogue.note(Record("add", items={"a": {"attributes": {"n": 2}}, "b": {"attributes": {}}}))
    assert catalogue.record().items == {"a": {"attributes": {"n": 1}}, "b": {"attributes": {}}}


def test_facts_that_are_being_read_do_not_change() -> None:
    catalogue = _Catalogue()
    catalogue.note(Record("set", facts={"price": {"a": 1}}))
    read = catalogue.facts
    catalogue.note(Record("update", facts={"price": {"b": 2}, "stock": {"a": 3}}))
    assert read == {"price": {"a": 1}}
    assert catalogue.facts == {"price": {"a": 1, "b": 2}, "stock": {"a": 3}}


def test_a_bundle_whose_change_was_not_logged_is_read_again(bundle: Path, tmp_path: Path) -> None:
    other, file = write_bundle(tmp_path / "other", metrics={"made": "first"}), tmp_path / "state" / "sessions.sqlite"
    settings = Settings(bundle=bundle, store="sqlite", state=file.parent, patience=30)
    with running(settings) as live, running(settings) as beside:
        with sqlite3.connect(file) as store:
            store.execute("ALTER TABLE changes RENAME TO away")
        assert live.call("POST", "/v1/admin/bundle", {"path": str(other)}).status == 503
        with sqlite3.connect(file) as store:
            store.execute("ALTER TABLE away RENAME TO changes")
        shutil.rmtree(other)
        write_bundle(other, metrics={"made": "later"})
        assert beside.call("POST", "/v1/admin/bundle", {"path": str(other)}).status == 200
        assert live.recommend(events=EVENTS).json["bundle"] == load(str(other)).digest

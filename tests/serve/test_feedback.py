"""What visitors did after they saw a list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, running, write_bundle

from mkmsr.serve.feedback import wilson
from mkmsr.serve.settings import Settings

METRICS = {"test": {"metrics": {"hit@5": 0.9, "hit@10": 0.9, "hit@20": 0.95}}}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with running(Settings(bundle=write_bundle(tmp_path / "b", metrics=METRICS), patience=30)) as service:
        yield service


def visit(live: Live, session: str, place: int | None, *, k: int = 20) -> None:
    """A visitor who looks at an item, sees a list, and goes to the item at a place of it, or to the one looked at."""
    shown = live.recommend(session=session, consent=True, append=[{"item": "plain"}], exclude_session=True, k=k).json
    item = "plain" if place is None else shown["items"][place - 1]["item"]
    live.send(session, {"item": item, "operation": "cart", "recommendation": shown["id"]})


def test_the_event_after_a_list_is_a_hit_or_a_miss(live: Live) -> None:
    for number, place in enumerate([1, 6, 12, None]):
        visit(live, f"s{number}", place)
    found = live.call("GET", "/v1/service").json["live"]["compass"]
    assert (found["lists"], found["clicks"]) == (4, 4)
    assert {name: each["live"] for name, each in found["hit_rate"].items()} == {
        "hit@5": 0.25, "hit@10": 0.5, "hit@20": 0.75
    }  # fmt: skip
    assert found["by_place"] == {"1": 0.25, "6": 0.25, "12": 0.25, "later": 0.25}
    assert found["by_operation"] == {"cart": 1.0}
    metrics = live.call("GET", "/metrics").text
    assert 'mkmsr_clicks_total{bundle="' in metrics
    assert 'k="20",model="compass"} 3.0' in metrics


def test_a_list_is_judged_by_one_event_and_one_without_consent_by_none(live: Live) -> None:
    visit(live, "a", 1)
    live.send("a", "item-01", "item-02")
    live.recommend(events=[{"item": "plain"}])
    live.recommend(session="b", append=[{"item": "plain"}])
    live.send("b", "item-01")
    found = live.call("GET", "/v1/service").json["live"]["compass"]
    assert found["lists"] == 3
    assert found["hit_rate"]["hit@20"]["lists"] == 1


def test_short_lists_are_not_judged_beyond_their_length(live: Live) -> None:
    visit(live, "a", 1, k=7)
    found = live.call("GET", "/v1/service").json["live"]["compass"]["hit_rate"]
    assert set(found) == {"hit@5"}


def test_a_hit_rate_surely_below_the_offline_one_is_a_warning(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mkmsr.serve.feedback._ENOUGH", 12)
    for number in range(12):
        visit(live, f"s{number}", None)
    found = live.call("GET", "/v1/service").json["live"]["compass"]
    assert found["hit_rate"]["hit@20"]["offline"] == 0.95
    assert "train again" in found["drift"]


def test_two_models_are_compared_with_an_interval(tmp_path: Path, narm: Path) -> None:
    settings = Settings(bundle=write_bundle(tmp_path / "b", metrics=METRICS), beside=narm, split=0.5, patience=30)
    with running(settings) as live:
        for number in range(40):
            visit(live, f"s{number}", 1 if number % 2 else None)
        found = live.call("GET", "/v1/service").json["ab"]
    assert (found["models"], found["metric"]) == (["compass", "narm"], "hit@20")
    assert found["interval"][0] < found["difference"] < found["interval"][1]
    assert found["verdict"] == "no difference shown yet"


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-3)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)

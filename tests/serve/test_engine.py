"""Lists for requests that come at the same time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mkmsr.recommend import Recommender
from mkmsr.serve.changes import load
from mkmsr.serve.endpoint import Problem
from mkmsr.serve.engine import Engine, FilterKey, Ranked, Slot

NO_FILTER = FilterKey()


def engine_of(bundle: Path, *, patience: float = 10, most_queued: int = 1000) -> Engine:
    return Engine({"compass": Slot("compass", load(str(bundle)))}, patience=patience, most_queued=most_queued)


def test_what_is_queued_together_is_ranked_together_and_alike(bundle: Path) -> None:
    sizes: list[int] = []
    sessions = [[(f"item-{n:02d}", "click"), ("plain", "cart")][: 1 + n % 2] for n in range(30)]

    async def main() -> list[Ranked]:
        engine = Engine(
            {"compass": Slot("compass", load(str(bundle)))}, patience=10, most_queued=99, observe_batch=sizes.append
        )
        asked = [engine.rank(engine.first, each, exclude=(), k=5, filters=NO_FILTER) for each in sessions]
        try:
            return await asyncio.gather(*asked)
        finally:
            engine.close()

    found = asyncio.run(main())
    assert len(sizes) < 10
    assert sum(sizes) == 30
    expected = Recommender.load(bundle).recommend_many(sessions, k=5)
    assert [each.items for each in found] == [[item.item for item in each.items] for each in expected]


def test_a_wrong_filter_fails_alone(bundle: Path) -> None:
    async def main() -> list[object]:
        engine = engine_of(bundle)
        wrong = FilterKey(("size=1",))
        asked = [
            engine.rank(engine.first, [("plain", None)], exclude=(), k=5, filters=filters)
            for filters in (NO_FILTER, wrong, NO_FILTER)
        ]
        try:
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            engine.close()

    found = asyncio.run(main())
    assert [isinstance(each, Ranked) for each in found] == [True, False, True]


@pytest.mark.parametrize(("name", "ranked_by"), [("bundle", "neighbours"), ("narm", "popularity")])
def test_when_the_queue_is_long_neighbours_answer_and_then_nobody(
    name: str, ranked_by: str, request: pytest.FixtureRequest
) -> None:
    async def main() -> list[object]:
        engine = engine_of(request.getfixturevalue(name), patience=0.05, most_queued=10)
        busy = asyncio.ensure_future(engine._batcher.submit(lambda: time.sleep(0.2)))
        await asyncio.sleep(0.05)
        asked = [
            engine.rank(engine.first, [("plain", None)], exclude=["item-01"], k=5, filters=NO_FILTER) for _ in range(15)
        ]
        try:
            found = await asyncio.gather(*asked, return_exceptions=True)
            await busy
            return [*found, await engine.rank(engine.first, [("plain", None)], exclude=(), k=5, filters=NO_FILTER)]
        finally:
            engine.close()

    *found, after = asyncio.run(main())
    late = [each for each in found if isinstance(each, Ranked)]
    refused = [each for each in found if isinstance(each, Problem)]
    assert (len(late), len(refused)) == (10, 5)
    assert all((each.is_late, each.ranked_by, len(each.items)) == (True, ranked_by, 5) for each in late)
    assert all("item-01" not in each.items for each in late)
    assert {each.status for each in refused} == {429}
    assert isinstance(after, Ranked)
    assert (after.ranked_by, after.is_late) == ("model", False)


def test_similar_items_are_kept_until_the_catalogue_changes(bundle: Path) -> None:
    async def main() -> tuple[Ranked, Ranked, Ranked]:
        engine = engine_of(bundle)
        try:
            first = await engine.similar(engine.first, "plain", k=3, filters=NO_FILTER)
            again = await engine.similar(engine.first, "plain", k=3, filters=NO_FILTER)
            engine.first.recommender.retire_items(first.items[:1])
            engine.changed(1)
            return first, again, await engine.similar(engine.first, "plain", k=3, filters=NO_FILTER)
        finally:
            engine.close()

    first, again, after = asyncio.run(main())
    assert first is again
    assert first.items[0] not in after.items
    assert "plain" not in first.items


@pytest.mark.parametrize("k", [1, 20, 21, 36])
def test_lists_have_the_length_that_is_asked_for(bundle: Path, k: int) -> None:
    async def main() -> Ranked:
        engine = engine_of(bundle)
        try:
            return await engine.rank(engine.first, [("plain", None)], exclude=(), k=k, filters=NO_FILTER)
        finally:
            engine.close()

    assert len(asyncio.run(main()).items) == k


def test_kept_lists_of_similar_items_stay_below_a_bound(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mkmsr.serve.engine._SIMILAR_BYTES", 8000)

    async def main() -> tuple[int, int]:
        engine = engine_of(bundle)
        try:
            for k in range(1, 31):
                await engine.similar(engine.first, "plain", k=k, filters=NO_FILTER)
            return len(engine._similar), engine._similar_bytes
        finally:
            engine.close()

    lists, size = asyncio.run(main())
    assert 1 < lists < 8
    assert 0 < size <= 8000


def test_a_long_queue_makes_no_popular_items_similar(bundle: Path) -> None:
    async def main() -> Ranked:
        engine = engine_of(bundle, patience=0.01)
        busy = asyncio.ensure_future(engine._batcher.submit(lambda: time.sleep(0.1)))
        await asyncio.sleep(0.02)
        try:
            return await engine.similar(engine.first, "plain", k=3, filters=NO_FILTER)
        finally:
            await busy
            engine.close()

    assert asyncio.run(main()).ranked_by == "model"


def test_few_rankers_with_caps_are_kept(bundle: Path) -> None:
    async def main() -> int:
        engine = engine_of(bundle)
        try:
            for cap in range(1, 20):
                filters = FilterKey(at_most=(("brand", cap),))
                await engine.rank(engine.first, [("plain", None)], exclude=(), k=5, filters=filters)
            return len(engine._rankers)
        finally:
            engine.close()

    assert asyncio.run(main()) == 4


def test_a_full_queue_refuses_before_anything_is_stored(bundle: Path) -> None:
    async def main() -> None:
        engine = engine_of(bundle, most_queued=1)
        busy = [asyncio.ensure_future(engine._batcher.submit(lambda: time.sleep(0.1))) for _ in range(2)]
        await asyncio.sleep(0.02)
        busy.append(asyncio.ensure_future(engine._batcher.submit(lambda: None)))
        await asyncio.sleep(0)
        try:
            with pytest.raises(Problem, match="too many requests"):
                await engine.check(engine.first, 5, NO_FILTER)
        finally:
            await asyncio.gather(*busy)
            engine.close()

    asyncio.run(main())

"""What a visitor touched before, against a literal loop, through preparation, engines, files and batches."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from logs import log_of

from mkmsr.data.batching import EarlierBatch, collate
from mkmsr.data.dataset import PreparedDataset, statistics
from mkmsr.data.engines import EngineOptions, open_engine
from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.sessions import MOST_EARLIER_ITEMS, EarlierItems, SessionTable, earlier_items
from mkmsr.errors import ConfigError
from tests.conftest import earlier_batch


def random_table(rng: random.Random, sessions: int, *, since: int = 0) -> SessionTable:
    lengths = [rng.randrange(1, 5) for _ in range(sessions)]
    begins = [since + rng.randrange(400) for _ in lengths]
    times = [begin + step for begin, length in zip(begins, lengths, strict=True) for step in range(length)]
    return SessionTable(
        np.array([rng.randrange(1, 9) for _ in times], np.int32),
        np.array([rng.randrange(1, 4) for _ in times], np.int16),
        np.cumsum([0, *lengths]).astype(np.int64),
        np.array(times, np.int64),
    )


def told_by_a_loop(
    tables: list[SessionTable], visitors: list[list[int]], session: tuple[int, int]
) -> list[tuple[int, int]]:
    table, row = session
    begin = tables[table].times[tables[table].offsets[row]]
    visits = [
        (int(other.times[other.offsets[s + 1] - 1]), number, s)
        for number, other in enumerate(tables)
        for s in range(len(other))
        if visitors[number][s] == visitors[table][row] and other.times[other.offsets[s + 1] - 1] < begin
    ]
    found: dict[int, int] = {}
    for _, number, s in sorted(visits, reverse=True):
        items, operations = tables[number].session(s)
        for item, operation in zip(items[::-1].tolist(), operations[::-1].tolist(), strict=True):
            found.setdefault(item, operation)
    return list(found.items())


@pytest.mark.parametrize("seed", range(5))
def test_earlier_items_are_those_of_sessions_that_ended_before(seed: int) -> None:
    rng = random.Random(seed)
    tables = [random_table(rng, 40), random_table(rng, 15, since=200)]
    visitors = [[rng.randrange(8) for _ in range(len(table))] for table in tables]
    found = earlier_items(tables, [np.array(each) for each in visitors])
    assert [len(each) for each in found] == [40, 15]
    for table, each in enumerate(found):
        for row in range(len(each)):
            at = slice(each.offsets[row], each.offsets[row + 1])
            pairs = list(zip(each.items[at].tolist(), each.operations[at].tolist(), strict=True))
            assert pairs == told_by_a_loop(tables, visitors, (table, row))


def test_only_the_newest_items_are_remembered() -> None:
    count = MOST_EARLIER_ITEMS + 7
    table = SessionTable(
        np.arange(1, count + 2, dtype=np.int32),
        np.ones(count + 1, np.int16),
        np.array([0, count, count + 1]),
        np.arange(count + 1, dtype=np.int64),
    )
    (found,) = earlier_items([table], [np.array([4, 4])])
    assert found.offsets.tolist() == [0, 0, MOST_EARLIER_ITEMS]
    assert found.items.tolist() == list(range(count, count - MOST_EARLIER_ITEMS, -1))


def test_rows_selections_and_joins_keep_sessions_and_their_earlier_items_together() -> None:
    earlier = EarlierItems(np.array([5, 6, 7], np.int32), np.array([1, 2, 1], np.int16), np.array([0, 1, 1, 3]))
    table = SessionTable(
        np.array([1, 2, 3, 4], np.int32), np.ones(4, np.int16), np.array([0, 1, 2, 4]), np.arange(4), earlier
    )
    part = table.rows(1, 3)
    assert part.earlier is not None
    assert (part.earlier.items.tolist(), part.earlier.offsets.tolist()) == ([6, 7], [0, 0, 2])
    kept = table.select(np.array([True, False, True, False]))
    assert kept.earlier is not None
    assert (kept.earlier.items.tolist(), kept.earlier.offsets.tolist()) == ([5, 6, 7], [0, 1, 3])
    twice = part.concatenate(kept)
    assert twice.earlier is not None
    assert (twice.earlier.items.tolist(), twice.earlier.offsets.tolist()) == ([6, 7, 5, 6, 7], [0, 0, 2, 3, 5])
    assert part.concatenate(SessionTable.empty()).earlier is None


def log_of_visitors(seed: int) -> InteractionLog:
    rng = random.Random(seed)
    rows = [(rng.choice("uvwxyz"), rng.choice("abcdefgh"), rng.choice("xyz"), rng.randrange(200)) for _ in range(300)]
    return log_of(rows, owner="user_id")


OPTIONS = PrepareOptions(gap_seconds=3, visitors=True, test_share=0.2, validation_share=0.2)


def test_preparation_remembers_visits_across_splits_and_names_nobody(tmp_path: Path) -> None:
    dataset = prepare(log_of_visitors(3), OPTIONS)
    tables = (dataset.train, dataset.validation, dataset.test)
    assert all(table.earlier is not None for table in tables)
    assert dataset.test.earlier is not None
    assert np.diff(dataset.test.earlier.offsets).mean() > 3
    dataset.save(tmp_path / "data")
    again = PreparedDataset.load(tmp_path / "data")
    assert again.fingerprint == dataset.fingerprint
    assert again.test.earlier is not None
    assert again.test.earlier.items.tolist() == dataset.test.earlier.items.tolist()
    columns = {name for file in (tmp_path / "data").glob("*.parquet") for name in pl.read_parquet(file).columns}
    assert not columns & {"user", "user_id", "visitor"}
    without = prepare(log_of_visitors(3), OPTIONS.model_copy(update={"visitors": False}))
    assert without.test.earlier is None
    assert without.fingerprint != dataset.fingerprint


def test_engines_remember_alike() -> None:
    pytest.importorskip("duckdb")
    log = log_of_visitors(5)
    with open_engine(EngineOptions(engine="duckdb", threads=1)) as engine:
        assert prepare(log, OPTIONS, engine=engine).fingerprint == prepare(log, OPTIONS).fingerprint


def test_a_log_without_users_cannot_know_visitors() -> None:
    log = log_of([("s", "a", "x", 1), ("s", "b", "x", 2)])
    with pytest.raises(ConfigError, match="user column") as error:
        prepare(log, PrepareOptions(visitors=True))
    assert error.value.key == "visitors"


def test_batches_carry_the_earlier_items_of_their_sessions() -> None:
    dataset = prepare(log_of_visitors(3), OPTIONS)
    examples = dataset.examples(dataset.train)
    rows = np.array([len(examples) - 1, 3, 0])
    batch, earlier = collate(examples, rows), dataset.train.earlier
    assert batch.earlier is not None
    assert earlier is not None
    for place, row in enumerate(rows):
        session = examples.session[row]
        wanted = earlier.items[earlier.offsets[session] : earlier.offsets[session + 1]].tolist()
        assert batch.earlier.items[batch.earlier.rows == place].tolist() == wanted
        assert batch.earlier.positions[batch.earlier.rows == place].tolist() == list(range(len(wanted)))
    part = batch.part(slice(1, 3)).earlier
    assert part is not None
    assert part.items.tolist() == batch.earlier.items[batch.earlier.rows > 0].tolist()
    assert part.rows.tolist() == (batch.earlier.rows[batch.earlier.rows > 0] - 1).tolist()


def test_pairs_and_copies() -> None:
    batch = earlier_batch([[(4, 1), (2, 2)]]).repeated(2)
    assert (batch.items.tolist(), batch.operations.tolist()) == ([4, 2, 4, 2], [1, 2, 1, 2])
    assert (batch.rows.tolist(), batch.positions.tolist()) == ([0, 0, 1, 1], [0, 1, 0, 1])


def test_places_of_items_among_earlier_ones() -> None:
    earlier = earlier_batch([[(4, 1), (2, 2), (9, 1)], [], [(2, 1)]])
    rows, items = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([2, 4, 5, 4, 2, 12])
    assert earlier.ranks_of(rows, items).tolist() == [1, 0, -1, -1, 0, -1]
    nothing = EarlierBatch.nothing(3, torch.device("cpu"))
    assert nothing.ranks_of(rows, items).tolist() == [-1] * 6


def test_returning_sessions_are_counted() -> None:
    counts = statistics(prepare(log_of_visitors(3), OPTIONS))
    dataset = prepare(log_of_visitors(3), OPTIONS)
    assert dataset.test.earlier is not None
    returning = sum(1 for count in np.diff(dataset.test.earlier.offsets).tolist() if count)
    assert 0 < returning == counts["test"]["returning_sessions"] <= len(dataset.test)
    both = counts["train"]["returning_sessions"] + counts["validation"]["returning_sessions"]
    assert counts["train_and_validation"]["returning_sessions"] == both
    assert "returning_sessions" not in statistics(prepare(log_of_visitors(3)))["test"]

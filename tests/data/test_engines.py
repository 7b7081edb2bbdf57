"""Engines: the same description gives the same dataset on each of them, ties included."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import narwhals as nw
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logs import log_of

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.engines import Engine, EngineOptions, PolarsEngine, java_is_missing, open_engine
from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.data.shop import SimulateOptions
from mkmsr.data.simulate import simulate
from mkmsr.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def duckdb() -> Iterator[Engine]:
    pytest.importorskip("duckdb")
    with open_engine(EngineOptions(engine="duckdb", threads=1)) as engine:
        yield engine


@pytest.fixture(scope="module")
def spark() -> Iterator[Engine]:
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("PySpark is not installed")
    if (reason := java_is_missing()) is not None:
        pytest.skip(reason)
    with open_engine(EngineOptions(engine="spark", spark_master="local[1]", memory_limit=512 << 20)) as engine:
        yield engine


Other = Callable[[], Engine]


@pytest.fixture(params=["duckdb", pytest.param("spark", marks=pytest.mark.slow)])
def other(request: pytest.FixtureRequest) -> Engine:
    """Every engine but Polars."""
    engine: Engine = request.getfixturevalue(request.param)
    return engine


def crowded_log(seed: int, *, owner: str = "user_id", splits: bool = False) -> InteractionLog:
    """A log in which many events share their second, some are doubled and some run backwards."""
    rng = random.Random(seed)
    rows = [(rng.choice("uvwxyz"), rng.choice("abcdefgh"), rng.choice("xyz"), rng.randrange(90)) for _ in range(300)]
    rows += rng.sample(rows, 30)
    attributes = [(rng.choice("abcdefghijk"), rng.choice(["brand", "kind"]), rng.choice("123")) for _ in range(60)]
    names = ["train", "test"]
    return log_of(
        rows, owner=owner, attributes=attributes, splits=[names[row[0] > "x"] for row in rows] if splits else None
    )


def same(one: PreparedDataset, two: PreparedDataset) -> bool:
    return one.fingerprint == two.fingerprint and one.metadata == two.metadata


OPTIONS = [
    PrepareOptions(gap_seconds=3, min_item_events=3, longest_session=8, drop_duplicates=True, validation_share=0.2),
    PrepareOptions(gap_seconds=5, min_session_events=3, new_items="keep", test_share=0.3, catalogue="attributes"),
]


@pytest.mark.parametrize("options", OPTIONS, ids=["drop", "keep"])
def test_every_engine_gives_the_same_dataset_ties_included(other, options):
    log = crowded_log(1)
    assert same(prepare(log, options), prepare(log, options, engine=other))


def test_every_engine_keeps_a_logs_own_sessions_and_split(other):
    log = crowded_log(2, owner="session_id", splits=True)
    options = PrepareOptions(drop_duplicates=True, min_item_events=2)
    assert same(prepare(log, options), prepare(log, options, engine=other))


def test_every_engine_orders_a_log_without_times_by_its_rows(other):
    full = crowded_log(3)
    log = InteractionLog(full.events.drop("time"), full.attributes)
    options = PrepareOptions(gap_seconds=40)
    assert same(prepare(log, options), prepare(log, options, engine=other))


def test_every_engine_takes_ids_of_any_text(other):
    ids = ["it's", 'say "hi"', "a,b", "漢字", " space ", "NULL", "\\n", "%s"]
    rows = [(f"user {n % 3}'", ids[n * n % 8], "click's", n) for n in range(40)]
    log = log_of(rows, owner="user_id", attributes=[(each, "br'and", each) for each in ids])
    assert same(prepare(log), prepare(log, engine=other))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.sampled_from(OPTIONS))
def test_duckdb_gives_the_same_dataset_on_any_log(duckdb, seed, options):
    log = crowded_log(seed)
    assert same(prepare(log, options), prepare(log, options, engine=duckdb))


def test_the_retailrocket_slice_is_the_same_on_every_engine(shared_data, other):
    folder = shared_data / "retailrocket_slice"
    read = ReadOptions(columns={"operation": "op", "time": "ts"}, attributes=folder / "item_attributes.tsv.gz")
    log = read_log("events", folder / "events.tsv.gz", read)
    options = PrepareOptions(min_item_events=2, drop_duplicates=True, new_items="keep")
    assert same(prepare(log, options), prepare(log, options, engine=other))


def test_files_saved_by_every_engine_have_the_same_checksums(other, tmp_path):
    log = simulate(SimulateOptions(sessions=200, items=80)).to_log()
    for engine in (PolarsEngine(), other):
        prepare(log, PrepareOptions(min_item_events=2), engine=engine).save(tmp_path / engine.name)
    one, two = (json.loads((tmp_path / name / "dataset.json").read_text()) for name in ("polars", other.name))
    assert one["files"] == two["files"]


def test_a_temporary_folder_is_used_and_left_empty(tmp_path):
    pytest.importorskip("duckdb")
    log = simulate(SimulateOptions(sessions=300, items=80)).to_log()
    with open_engine(EngineOptions(engine="duckdb", memory_limit=512 << 20, scratch=tmp_path)) as engine:
        dataset = prepare(log, engine=engine)
        assert list(tmp_path.iterdir())
    del engine
    assert same(dataset, prepare(log))
    assert not list(tmp_path.iterdir())


def test_too_little_memory_is_a_clear_error(tmp_path):
    pytest.importorskip("duckdb")
    from mkmsr.data.engines import DuckDBEngine
    from mkmsr.runtime.files import Scratch

    log = simulate(SimulateOptions(sessions=20_000, items=500)).to_log()
    with (
        DuckDBEngine(memory=2 << 20, threads=1, scratch=Scratch(tmp_path)) as engine,
        pytest.raises(DataError, match=r"the memory limit is too small for this log: .*; raise --memory-limit"),
    ):
        prepare(log, engine=engine)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_limit": 1 << 30}, r"memory_limit: is an option of the engine duckdb or spark, not of polars"),
        ({"engine": "spark", "threads": 2}, r"threads: is an option of the engine duckdb, not of spark"),
        ({"engine": "duckdb", "spark_master": "spark://a:1"}, r"spark_master: is an option of the engine spark"),
    ],
)
def test_an_option_of_another_engine_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        open_engine(EngineOptions(**options))


@pytest.mark.parametrize(("engine", "module"), [("duckdb", "duckdb"), ("spark", "pyspark")])
def test_an_engine_that_is_not_installed_says_what_to_install(monkeypatch, engine, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    monkeypatch.setitem(__import__("sys").modules, f"{module}.sql", None)
    monkeypatch.setattr("mkmsr.data.engines.java_is_missing", lambda: None)
    with pytest.raises(ConfigError, match=rf"pip install 'mkmsr\[{engine}\]'"):
        open_engine(EngineOptions(engine=engine))


def test_spark_without_java_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ConfigError, match=r"Spark needs Java 17 or newer"):
        open_engine(EngineOptions(engine="spark"))


def test_a_scratch_folder_that_is_missing_is_named(tmp_path):
    pytest.importorskip("duckdb")
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        open_engine(EngineOptions(engine="duckdb", scratch=tmp_path / "nowhere"))


def test_polars_reads_a_log_that_stands_in_files(tmp_path, duckdb):
    log = crowded_log(4)
    file = Path(tmp_path / "events.parquet")
    log.events.sink_parquet(file)
    stored = InteractionLog(pl.scan_parquet(file), log.attributes, files=(file,))
    assert same(prepare(log), prepare(stored))
    assert same(prepare(log), prepare(stored, engine=duckdb))


@pytest.mark.slow
def test_a_step_that_spark_cannot_finish_is_a_clear_error(spark):
    text = spark.table(pl.LazyFrame({"a": ["not a number"]}))
    with pytest.raises(DataError, match=r"Spark could not finish a step: .*CAST_INVALID_INPUT"):
        spark.persist(text.select(nw.col("a").cast(nw.Int64)))

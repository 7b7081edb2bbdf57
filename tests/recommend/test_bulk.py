"""Lists for many sessions: those of the Recommender, whatever the shards, the processes and the kills in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from small_shop import ITEMS, OPERATIONS, fitted, small_shop

from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.cli.app import run
from mkmsr.data.engines import java_is_missing
from mkmsr.errors import ConfigError, DataError, EvaluationError, MkmsrError
from mkmsr.recommend import Filters, Recommender, parse_condition
from mkmsr.recommend.bulk import BulkJob, recommend_in_bulk
from mkmsr.recommend.bulk_files import find_columns
from mkmsr.runtime.events import Event, RankingDone

K = 7
SESSIONS = 90


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, shop = tmp_path_factory.mktemp("bundles"), small_shop()
    found = {}
    for name, settings in (("compass", {"dim": 8}), ("v-sknn", {}), ("m-sr", {"dim": 8})):
        config, model = fitted(name, shop, **settings)
        found[name] = save_bundle(folder / name, new_bundle(model, name=name, config=config, dataset=shop, metrics={}))
    return found


def events(seed: int = 1) -> pl.DataFrame:
    """Sessions with unknown items, unknown and missing operations, and two of which nothing is known."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, str | None, int]] = []
    for session in range(SESSIONS):
        for step in range(int(rng.integers(1, 40 if session == 3 else 6))):
            item = "gone" if session in (5, 50) or rng.random() < 0.1 else ITEMS[int(rng.integers(len(ITEMS)))]
            operation = [*OPERATIONS, "never seen", None][int(rng.integers(5))]
            rows.append((f"visit {session}", item, operation, step))
    return pl.DataFrame(rows, schema=["session", "item", "operation", "time"], orient="row")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    events().write_parquet(tmp_path / "events.parquet")
    return tmp_path / "events.parquet"


def job(bundle: Path, file: Path, out: Path, **values: Any) -> BulkJob:
    return BulkJob(bundle, find_columns(file, {}), out, **{"k": K, "shard_sessions": 25, **values})


def lists(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "part-*.parquet")


def one_by_one(bundle: Path, table: pl.DataFrame, **keywords: Any) -> dict[str, list[tuple[str, float]]]:
    """What the Recommender says, one session after the other."""
    recommender = Recommender.load(bundle)
    found = {}
    for (session,), rows in table.group_by("session", maintain_order=True):
        visit = [{"item": item, "operation": operation} for item, operation in rows["item", "operation"].iter_rows()]
        ranked = recommender.recommend({"events": visit}, K, **keywords)
        found[str(session)] = [(each.item, each.score) for each in ranked.items]
    return found


def as_lists(table: pl.DataFrame) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for session, rank, item, score in table.iter_rows():
        found.setdefault(session, []).append((item, score))
        assert rank == len(found[session])
    return found


def agree(found: Mapping[str, list[tuple[str, float]]], expected: Mapping[str, list[tuple[str, float]]]) -> None:
    assert list(found) == list(expected)
    for session, items in expected.items():
        assert [item for item, _ in found[session]] == [item for item, _ in items], session
        assert [score for _, score in found[session]] == pytest.approx([score for _, score in items], rel=1e-4)


@pytest.mark.parametrize("model", ["compass", "v-sknn", "m-sr"])
def test_lists_are_those_of_the_recommender_one_by_one(
    bundles: dict[str, Path], file: Path, tmp_path: Path, model: str
) -> None:
    result = recommend_in_bulk(job(bundles[model], file, tmp_path / "out"))
    table = events()
    agree(as_lists(lists(tmp_path / "out")), one_by_one(bundles[model], table))
    assert lists(tmp_path / "out").schema == {
        "session": pl.String,
        "rank": pl.Int32,
        "item": pl.String,
        "score": pl.Float32,
    }
    assert (result.sessions, result.events, result.shards) == (SESSIONS, table.height, 4)
    assert result.skipped == (table["item"] == "gone").sum()
    assert result.replaced == ((table["operation"] == "never seen") & (table["item"] != "gone")).sum()
    everything_unknown = table.group_by("session").agg((pl.col("item") == "gone").all())["item"].sum()
    assert result.by_popularity == everything_unknown >= 2


def test_filters_hold_for_every_list(bundles: dict[str, Path], file: Path, tmp_path: Path) -> None:
    filters = Filters(exclude=["plain"], where=[parse_condition("colour=red,grün")], at_most={"brand": 1})
    recommend_in_bulk(job(bundles["compass"], file, tmp_path / "out", filters=filters))
    agree(as_lists(lists(tmp_path / "out")), one_by_one(bundles["compass"], events(), filters=filters))


def test_items_of_a_session_are_left_out_by_operation_or_all(
    bundles: dict[str, Path], file: Path, tmp_path: Path
) -> None:
    for filters in (Filters(exclude_session=True), Filters(exclude_operations=["order", "cart"])):
        recommend_in_bulk(job(bundles["v-sknn"], file, tmp_path / "out", filters=filters))
        agree(as_lists(lists(tmp_path / "out")), one_by_one(bundles["v-sknn"], events(), filters=filters))


def test_facts_are_one_value_or_several_as_the_recommender_takes_them(
    bundles: dict[str, Path], file: Path, tmp_path: Path
) -> None:
    facts = {"price": {"plain": 12.5, "item-07": 9}, "in_stock": {"plain": "yes", "item-07": ["no", "soon"]}}
    filters = Filters(where=[parse_condition("price=10..20"), parse_condition("in_stock=yes")])
    recommend_in_bulk(job(bundles["v-sknn"], file, tmp_path / "out", filters=filters, facts=facts))
    assert lists(tmp_path / "out")["item"].unique().to_list() == ["plain"]


def test_processes_and_shards_change_nothing(bundles: dict[str, Path], file: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    one, two = tmp_path / "one", tmp_path / "two"
    recommend_in_bulk(job(bundles["compass"], file, one))
    result = recommend_in_bulk(job(bundles["compass"], file, two), workers=2, listener=heard.append)
    assert result.workers == 2
    assert [each.name for each in sorted(two.glob("part-*"))] == [each.name for each in sorted(one.glob("part-*"))]
    for path in one.glob("part-*"):
        assert path.read_bytes() == (two / path.name).read_bytes()
    assert (heard[0], heard[-1]) == (RankingDone(0, SESSIONS), RankingDone(SESSIONS, SESSIONS))


def test_the_order_of_rows_follows_times_and_sessions_may_lie_apart(
    bundles: dict[str, Path], file: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    shuffled = events().sample(fraction=1.0, shuffle=True, seed=3)
    renamed = shuffled.rename({"session": "session_id", "item": "sku"})
    renamed[:100].write_parquet(mixed / "a.parquet")
    renamed[100:].write_parquet(mixed / "b.parquet")
    source = find_columns(mixed, {"item": "sku"})
    result = recommend_in_bulk(BulkJob(bundles["v-sknn"], source, tmp_path / "out", k=K, shard_sessions=25))
    assert result.sessions == SESSIONS
    found, expected = as_lists(lists(tmp_path / "out")), one_by_one(bundles["v-sknn"], events())
    agree(dict(sorted(found.items())), dict(sorted(expected.items())))
    assert not (tmp_path / "out" / "_grouped.parquet").exists()


def test_items_alone_are_enough_and_ids_keep_their_type(bundles: dict[str, Path], tmp_path: Path) -> None:
    table = pl.DataFrame({"session": [4, 4, 9], "item": ["plain", "item-03", "item-05"]})
    table.write_parquet(tmp_path / "bare.parquet")
    recommend_in_bulk(job(bundles["m-sr"], tmp_path / "bare.parquet", tmp_path / "out"))
    found = lists(tmp_path / "out")
    assert found["session"].unique().to_list() == [4, 9]
    recommender = Recommender.load(bundles["m-sr"])
    assert found.filter(session=9)["item"].to_list() == [
        each.item for each in recommender.recommend(["item-05"], K).items
    ]


@pytest.mark.slow
def test_a_kill_leaves_whole_files_and_resume_makes_the_rest(
    bundles: dict[str, Path], file: Path, tmp_path: Path
) -> None:
    many = pl.concat([events(seed).with_columns(pl.col("session") + f" of {seed}") for seed in range(40)])
    many.write_parquet(file)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    recommend_in_bulk(job(bundles["compass"], file, whole))
    arguments = ["recommend", str(bundles["compass"]), "--sessions", str(file), "--out", str(killed), "-k", str(K)]
    arguments += ["--shard-sessions", "25", "--workers", "2", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "mkmsr", *arguments], env=environment, stdout=subprocess.DEVNULL)
    until, noted = time.monotonic() + 100, killed / "_shards.jsonl"
    while not noted.is_file() or noted.read_text().count("\n") < 5:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # The workers notice and stop.
    left, finished = len(list(killed.glob("part-*"))), noted.read_text().count("\n")
    assert left < 144
    with noted.open("a") as notes:
        notes.write('{"shard": 143, "sess')  # A note that was cut short.

    result = recommend_in_bulk(job(bundles["compass"], file, killed), resume=True)
    # A file may be there whose note the kill prevented: it is made again.
    assert 5 <= result.done_before == finished <= left
    assert result.shards == 144
    assert json.loads((killed / "_summary.json").read_text()) == json.loads((whole / "_summary.json").read_text())
    for path in whole.glob("part-*"):
        assert path.read_bytes() == (killed / path.name).read_bytes()
    assert [each.name for each in killed.iterdir() if each.name.startswith(".")] == []


def test_an_interrupted_job_goes_on_after_its_last_file(bundles: dict[str, Path], file: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    recommend_in_bulk(job(bundles["v-sknn"], file, whole))

    def stop(event: Event) -> None:
        if isinstance(event, RankingDone) and event.done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recommend_in_bulk(job(bundles["v-sknn"], file, cut), listener=stop)
    result = recommend_in_bulk(job(bundles["v-sknn"], file, cut), resume=True)
    assert (result.done_before, result.shards) == (1, 4)
    for path in whole.glob("part-*"):
        assert path.read_bytes() == (cut / path.name).read_bytes()


def test_a_finished_job_is_not_done_again_and_another_one_is_refused(
    bundles: dict[str, Path], file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = recommend_in_bulk(job(bundles["v-sknn"], file, out))
    again = recommend_in_bulk(job(bundles["v-sknn"], file, out), resume=True)
    assert (again.done_before, again.rows, again.skipped) == (4, first.rows, first.skipped)
    with pytest.raises(DataError, match=r"lists of another job: k is 7 there, 3 now"):
        recommend_in_bulk(job(bundles["v-sknn"], file, out, k=3), resume=True)
    with pytest.raises(DataError, match=r"another job: bundle is"):
        recommend_in_bulk(job(bundles["m-sr"], file, out), resume=True)
    assert recommend_in_bulk(job(bundles["v-sknn"], file, out, k=3)).rows == 3 * SESSIONS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop("item"), r"column 'item'.*no such column.*--columns item="),
        (lambda table: table.with_columns(item=pl.lit(None, pl.String)), r"row 1, column 'item': the item is missing"),
        (lambda table: table.head(0), "holds no events"),
    ],
)
def test_a_file_of_another_form_is_an_error_that_says_where(
    bundles: dict[str, Path], file: Path, tmp_path: Path, change: Any, message: str
) -> None:
    change(events()).write_parquet(file)
    with pytest.raises(DataError, match=message):
        recommend_in_bulk(job(bundles["v-sknn"], file, tmp_path / "out"))


def test_a_folder_is_no_longer_finished_before_its_lists_go(
    bundles: dict[str, Path], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    recommend_in_bulk(job(bundles["v-sknn"], file, out))
    real, gone = Path.unlink, list[str]()

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if gone:
            raise KeyboardInterrupt
        gone.append(self.name)
        real(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            recommend_in_bulk(job(bundles["v-sknn"], file, out))
    assert gone == ["_summary.json"]
    assert len(list(out.glob("part-*.parquet"))) == 4


def test_what_is_wrong_shows_before_older_lists_are_replaced(
    bundles: dict[str, Path], file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    recommend_in_bulk(job(bundles["v-sknn"], file, out))
    before = {each.name: each.read_bytes() for each in out.iterdir()}
    broken = tmp_path / "broken"
    shutil.copytree(bundles["v-sknn"], broken)
    next(broken.rglob("*.safetensors")).unlink()
    wrong_file = tmp_path / "wrong.parquet"
    events().with_columns(item=pl.lit(None, pl.String)).write_parquet(wrong_file)
    for wrong in (
        job(broken, file, out),
        job(bundles["v-sknn"], wrong_file, out),
        job(bundles["v-sknn"], file, out, filters=Filters(at_most={"nothing": 1})),
    ):
        with pytest.raises(MkmsrError):
            recommend_in_bulk(wrong)
    assert {each.name: each.read_bytes() for each in out.iterdir()} == before


def test_lists_of_two_models_are_not_mixed(bundles: dict[str, Path], file: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(bundles["m-sr"], bundle)

    def nightly_training(event: Event) -> None:
        if event == RankingDone(0, SESSIONS):
            shutil.copytree(bundles["v-sknn"], bundle, dirs_exist_ok=True)

    with pytest.raises(EvaluationError, match="replaced by another bundle since the job began"):
        recommend_in_bulk(job(bundle, file, tmp_path / "out"), workers=2, listener=nightly_training)
    assert not (tmp_path / "out" / "_summary.json").exists()


def test_no_file_no_parquet_and_no_shared_device(bundles: dict[str, Path], file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.parquet: no such file"):
        find_columns(tmp_path / "nothing.parquet", {})
    (tmp_path / "text.parquet").write_text("session,item\n")
    with pytest.raises(DataError, match=r"text\.parquet: not Parquet"):
        find_columns(tmp_path / "text.parquet", {})
    with pytest.raises(ConfigError, match="workers: processes share"):
        recommend_in_bulk(job(bundles["v-sknn"], file, tmp_path / "out", device="cuda"), workers=2)


def test_the_command_says_what_it_did(
    bundles: dict[str, Path], file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call = ["recommend", str(bundles["v-sknn"]), "--sessions", str(file), "--out", str(tmp_path / "out"), "-k", "3"]
    assert run([*call, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["sessions"] == SESSIONS
    assert {"rows", "skipped", "replaced", "by_popularity", "shards", "sessions_per_second", "peak_mib"} <= set(
        document
    )
    assert run([*call, "--resume", "--exclude", "plain"]) == 1
    assert "another job: exclude" in capfd.readouterr().err
    assert run(call) == 0
    assert "sessions of no known item, which got the most popular ones: " in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--session", "-", "--sessions", "x.parquet"], "give the sessions once"),
        ([], "give the sessions once"),
        (["--sessions", "x.parquet"], "--sessions FILE --out FOLDER"),
        (["--session", "-", "--workers", "2"], "belong to --sessions"),
        (["--sessions", "x.parquet", "--out", "y", "--explain"], "--explain explains sessions given with --session"),
        (["--sessions", "x.parquet", "--out", "y", "--columns", "itm=sku"], "did you mean 'item'"),
    ],
)
def test_flags_that_do_not_fit_together_are_a_wrong_call(
    arguments: list[str], message: str, bundles: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["recommend", str(bundles["v-sknn"]), *arguments]) == 2
    assert message in capfd.readouterr().err


def test_a_folder_of_somebody_else_is_not_touched(
    bundles: dict[str, Path], file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-00000.parquet").write_text("mine")
    assert run(["recommend", str(bundles["v-sknn"]), "--sessions", str(file), "--out", str(tmp_path / "out")]) == 1
    assert "holds other files" in capfd.readouterr().err
    assert (tmp_path / "out" / "part-00000.parquet").read_text() == "mine"


def test_ids_are_read_as_in_a_log_whatever_their_type(tmp_path):
    path = tmp_path / "[e].parquet"
    pl.DataFrame({"session": ["s"], "item": ["other"]}).write_parquet(tmp_path / "e.parquet")
    pl.DataFrame({"session": ["s", "s"], "item": [102.0, 7.0]}).write_parquet(path)
    sessions = find_columns(path, {})
    sessions.check()
    assert sessions.read(sessions.stretches(10)[0])["item"].to_list() == ["102", "7"]
    pl.DataFrame({"session": ["s", "s"], "item": [102.0, float("nan")]}).write_parquet(path)
    with pytest.raises(DataError, match=r"row 2, column 'item': the item is missing"):
        find_columns(path, {}).check()


def test_damage_inside_a_file_is_one_clear_line(tmp_path):
    path = tmp_path / "events.parquet"
    events().write_parquet(path, compression="uncompressed")
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"events.parquet: (the Parquet file is damaged|not Parquet)"):
        find_columns(path, {}).check()


@pytest.mark.slow
def test_spark_makes_the_same_files_as_processes(bundles: Mapping[str, Path], file: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyspark")
    if missing := java_is_missing():
        pytest.skip(missing)
    here = recommend_in_bulk(job(bundles["compass"], file, tmp_path / "here"))
    options = ["--sessions", str(file), "--k", str(K), "--shard-sessions", "25", "--engine", "spark"]
    out = tmp_path / "spark"
    assert run(["recommend", str(bundles["compass"]), *options, "--spark-master", "local[2]", "--out", str(out)]) == 0
    for each in (tmp_path / "here").glob("part-*.parquet"):
        assert (out / each.name).read_bytes() == each.read_bytes()
    summary = json.loads((out / "_summary.json").read_text())
    assert (summary["sessions"], summary["rows"]) == (here.sessions, here.rows) == (SESSIONS, SESSIONS * K)


def test_spark_does_not_take_processes_of_this_machine(bundles: Mapping[str, Path], file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers: on Spark the cluster says how many processes work"):
        recommend_in_bulk(job(bundles["compass"], file, tmp_path / "out"), workers=2, spark_master="local[1]")

"""The command line end to end, on a small simulated shop; most calls are made in this process to save start-up time."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from mkmsr.cli.app import COMMANDS, run
from mkmsr.cli.reading import byte_count


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Any:
    def calling(*arguments: object) -> Outcome:
        capfd.readouterr()
        status = run([str(each) for each in arguments])
        return Outcome(status, *capfd.readouterr())

    return calling


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "shop"
    assert run(["simulate", "--out", str(folder), "--sessions", "400", "--items", "60", "--seed", "3"]) == 0
    return folder


@pytest.fixture(scope="module")
def data(shop: Path) -> Path:
    arguments = ["prepare", "events", str(shop / "events.parquet"), "--attributes", str(shop / "attributes.parquet")]
    assert run([*arguments, "--out", str(shop / "data"), "--new-items", "keep"]) == 0
    return shop / "data"


@pytest.fixture(scope="module")
def runs(data: Path) -> Path:
    folder = data.parent / "runs"
    small = ["--set", "model.dim=8", "training.batch_size=64", "--epochs", "2"]
    assert run(["train", str(data), "--model", "mkm-sr", "--out", str(folder / "mkm-sr"), *small]) == 0
    assert run(["train", str(data), "--model", "recency", "--out", str(folder / "recency")]) == 0
    return folder


def sessions_file(folder: Path, *sessions: list[Any]) -> Path:
    path = folder / "sessions.jsonl"
    lines = [json.dumps({"events": events}, ensure_ascii=False) for events in sessions]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


# --- help and wrong calls


@pytest.mark.parametrize("name", [name for name, _, _ in COMMANDS])
def test_every_help_ends_with_an_example(name: str, call: Any) -> None:
    shown = call(name, "--help")
    assert shown.status == 0
    assert f"mkmsr {name}" in " ".join(shown.out.split("Example:")[-1].split())
    assert "--json" in shown.out
    assert "--debug" in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], 'Unknown command "trian". Did you mean "train"?'),
        (["describe"], "DATA is missing"),
        (["train", "x"], "--out is missing"),
        (["train", "x", "--out"], "--out needs a value"),
        (["describe", "my", "data", "folder"], "no use for 'data' 'folder'; a path with spaces needs quotation marks"),
        (
            ["train", "x", "--out", "y", "--model", "zzzz"],
            "no model 'zzzz'; `mkmsr models` lists them; for a model of your own, MKMSR_MODELS names",
        ),
        (["describe", "x", "--jsn"], "--jsn"),
        (["evaluate", "a", "b", "--split", "train"], 'Choose from: "test", "validation"'),
        (["evaluate", "a", "b", "--k", "5,x"], "--k"),
        (["evaluate", "a", "b", "--k", "0"], "above 0"),
        (["recommend", "a", "--session", "-", "-k", "0"], "-k"),
        (["simulate", "--out", "x", "--sessions", "many"], "--sessions"),
        (["prepare", "evnts", "x", "--out", "y"], "no kind of log 'evnts', did you mean 'events'?"),
        (["prepare", "events", "--out", "y"], "give the raw log once"),
        (["prepare", "events", "a", "--events", "b", "--out", "y"], "give the raw log once"),
        (["prepare", "events", "a", "--out", "y", "--columns", "sku"], "'sku' should read field=column"),
        (["prepare", "events", "a", "--out", "y", "--columns", "itm=sku"], "did you mean 'item'?"),
        (["prepare", "events", "a", "--out", "y", "--memory-limit", "much"], "'much' should read like 2GB or 512MiB"),
        (["prepare", "events", "a", "--out", "y", "--memory-limit", "1MB"], "'1MB' is too little, 256MiB is the least"),
        (["prepare", "events", "a", "--out", "y", "--columns", "item=a,item=b"], "the field 'item' is named twice"),
        (["simulate", "--out", "x", "--items", "49"], 'Invalid value "49" for --items. Must be >= 50'),
        (["simulate", "--out", "x", "--sessions", "9"], 'Invalid value "9" for --sessions. Must be >= 10'),
        (["prepare", "events", "a", "--out", "y", "--engine", "dask"], 'Choose from: "polars", "duckdb", "spark"'),
        (["train", "x", "--out", "y", "--model", "mkm-rs"], "no model 'mkm-rs', did you mean 'mkm-sr'?"),
        (["train", "x", "--out", "y"], "give --model NAME"),
        (["evaluate", "a", "b", "--device", "abacus"], "no device 'abacus'; for example cpu"),
        (["tune", "a", "--out", "b", "--device", "abacus"], "no device 'abacus'; for example cpu"),
        (["bench", "training", "--data", "a", "--device", "abacus"], "no device 'abacus'; for example cpu"),
        (["reproduce", "table2", "a", "--out", "b", "--device", "abacus"], "no device 'abacus'; for example cpu"),
        (["compare", "a", "b", "--samples", "0"], "samples"),
    ],
)
def test_a_wrong_call_is_status_2_with_a_message_and_no_output(arguments: list[str], message: str, call: Any) -> None:
    shown = call(*arguments)
    assert shown.status == 2
    assert shown.out == ""
    assert message in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "nowhere"], "nowhere"),
        (["recommend", "nowhere", "--session", "-"], "nowhere: not a bundle"),
        (["compare", "nowhere"], "nowhere"),
        (["prepare", "events", "nowhere.csv", "--out", "y"], "nowhere.csv: no such file"),
    ],
)
def test_a_failure_is_status_1_with_one_line_and_no_traceback(
    arguments: list[str], message: str, call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = call(*arguments, "--json")
    assert shown.status == 1
    assert shown.out == ""
    complaints = [line for line in shown.err.splitlines() if line.startswith("mkmsr: ")]
    assert len(complaints) == 1
    assert message in complaints[0]
    assert "Traceback" not in shown.err


def test_debug_shows_the_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkmsr", "describe", "nowhere", "--debug"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "DataError" in done.stderr


# --- data


def test_simulate_writes_a_log_and_says_how_large(call: Any, tmp_path: Path) -> None:
    shown = call("simulate", "--out", tmp_path / "log", "--sessions", 50, "--items", 60, "--json")
    assert shown.status == 0
    assert shown.document["sessions"] == 50
    assert {each.name for each in (tmp_path / "log").iterdir()} == {
        "events.parquet",
        "attributes.parquet",
        "attributes_display.parquet",
    }


def test_describe_has_the_documented_keys(call: Any, data: Path) -> None:
    counts = call("describe", data, "--json").document
    assert {
        "sessions",
        "events",
        "items",
        "operations",
        "relations",
        "triples",
        "train",
        "validation",
        "test",
        "mean_session_length",
        "mean_item_frequency",
    } <= set(counts)
    assert {"sessions", "events", "examples", "new_item_event_share", "new_item_target_share"} <= set(counts["test"])
    assert counts["sessions"] == sum(counts[split]["sessions"] for split in ("train", "validation", "test"))


def test_describe_for_people_shows_the_same_numbers(call: Any, data: Path) -> None:
    counts = call("describe", data, "--json").document
    shown = call("describe", data).out
    assert f"{counts['train']['events']:,}" in shown
    assert f"{counts['triples']:,} triples" in shown


def test_prepare_maps_columns_and_cuts_sessions_by_gap(call: Any, tmp_path: Path) -> None:
    rows = ["uid,sku,type,ts"]
    rows += [
        f"u{n % 4},s{(n + n // 7) % 5},{'click' if n % 3 else 'buy'},{1_700_000_000 + n * 600}" for n in range(120)
    ]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    options = ["--columns", "item=sku,operation=type,time=ts,user=uid"]
    wide = call("prepare", "events", tmp_path / "log.csv", *options, "--gap", 3600, "--out", tmp_path / "a", "--json")
    narrow = call("prepare", "events", "--events", tmp_path / "log.csv", *options, "--gap", 2000, "--out",
                  tmp_path / "b", "--json")  # fmt: skip
    assert wide.document["sessions"] == 4
    assert wide.document["preparation"]["events"]["read"] == 120
    assert wide.document["notes"]["columns"] == {"item": "sku", "operation": "type", "time": "ts", "user": "uid"}
    assert narrow.status == 1
    assert "no session is left" in narrow.err


def test_prepare_says_what_is_left_out_and_how_far_attributes_reach(call: Any, tmp_path: Path) -> None:
    rows = [f"s{n // 3},i{n % 4},{n}" for n in range(90)] + ["alone,i1,3"]
    (tmp_path / "log.csv").write_text("\n".join(["session,item,time", *rows, rows[0]]) + "\n")
    (tmp_path / "attributes.csv").write_text("item,brand\ni0,x\ni1,\nelsewhere,y\n")
    shown = call("prepare", "events", tmp_path / "log.csv", "--attributes", tmp_path / "attributes.csv",
                 "--drop-duplicates", "--out", tmp_path / "data")  # fmt: skip
    assert "assumed: operation: every event has the one operation 'event'\n" in shown.out
    assert "from 1970-01-01 00:00:00 to 1970-01-01 00:01:29 (UTC)\n" in shown.out
    assert "events: 92 read, 90 kept; left out: 1 that repeat another, 1 in short sessions\n" in shown.out
    assert "attributes: 1 of 4 items have some; 1 item of the table is not in the catalogue, 1 of 3" in shown.out
    assert "4 items, 1 operation, 1 relation, 1 triple\n" in shown.out


def test_a_malformed_row_is_quoted_once(call: Any, tmp_path: Path) -> None:
    rows = [f"s{n // 3},i{n % 4},{n}" for n in range(300)]
    (tmp_path / "log.csv").write_text("\n".join(["session,item,time", *rows, "s1,i3,later"]) + "\n")
    shown = call("prepare", "events", tmp_path / "log.csv", "--out", tmp_path / "data")
    assert (shown.out + shown.err).count("cannot read 'later' as a time") == 1
    assert "malformed rows: 1\n" in shown.out


def test_prepare_says_where_prices_would_do_better_as_ranges(call: Any, shop: Path, tmp_path: Path) -> None:
    prices = [f"item-{number:05d},{number + 0.5}" for number in range(60)]
    (tmp_path / "prices.csv").write_text("\n".join(["item,price", *prices]))
    arguments = ["prepare", "events", shop / "events.parquet", "--attributes", tmp_path / "prices.csv", "--out"]
    shown = call(*arguments, tmp_path / "data")
    assert "items, of which little can be learnt; if they are amounts, --buckets price=20 makes" in shown.out
    assert "amounts" not in call(*arguments, tmp_path / "data", "--buckets", "price=5").out


def test_prepare_says_which_columns_are_names_to_be_shown(call: Any, shop: Path, tmp_path: Path) -> None:
    rows = [f"item-{number:05d},Phone {number},p/{number}.jpg,b{number % 3}" for number in range(60)]
    (tmp_path / "products.csv").write_text("\n".join(["item,title,image,brand", *rows]))
    arguments = ["prepare", "events", shop / "events.parquet", "--attributes", tmp_path / "products.csv", "--out"]
    shown = call(*arguments, tmp_path / "data")
    assert "\ntitle, image: nearly every item has a text of its own" in shown.out
    assert "if it is only to be shown, --attribute-columns display=title+image says so\n" in shown.out
    assert "\nrelations: title, image, brand\n" in shown.out
    again = call(*arguments, tmp_path / "data", "--attribute-columns", "display=title+image")
    assert "nearly every item" not in again.out
    assert "\nrelations: brand\n" in again.out
    assert "no column is shown as the name, so lists will show ids" in again.out
    named = call(*arguments, tmp_path / "data", "--attribute-columns", "display=name:title+image")
    assert "no column is shown" not in named.out


def test_describe_names_the_first_operations_of_many(call: Any, tmp_path: Path) -> None:
    rows = [f"s{n // 3},i{n % 4},{n},act-{n % 15:02d}" for n in range(300)]
    (tmp_path / "log.csv").write_text("\n".join(["session,item,time,operation", *rows]))
    call("prepare", "events", tmp_path / "log.csv", "--out", tmp_path / "data")
    shown = call("describe", tmp_path / "data")
    assert "\noperations: act-00, act-01, act-02" in shown.out
    assert " and 3 more\n" in shown.out
    assert "relations:" not in shown.out


def test_prepare_says_where_the_kind_stands(call: Any, shop: Path, tmp_path: Path) -> None:
    shown = call("prepare", shop / "events.parquet", "--out", tmp_path / "data")
    assert shown.status == 2
    assert f"its kind goes before it: mkmsr prepare events {shop / 'events.parquet'}" in shown.err


def test_prepare_gives_the_same_files_on_another_engine_within_a_memory_limit(
    call: Any, shop: Path, tmp_path: Path
) -> None:
    documents = {}
    for name, flags in (("polars", ()), ("duckdb", ("--memory-limit", "1GB", "--threads", 1, "--scratch", tmp_path))):
        out = tmp_path / name
        shown = call("prepare", "events", shop / "events.parquet", "--engine", name, *flags, "--out", out, "--json")
        assert shown.status == 0
        assert shown.document["engine"] == name
        documents[name] = json.loads((out / "dataset.json").read_text())
    assert documents["polars"]["files"] == documents["duckdb"]["files"]


@pytest.mark.parametrize(
    ("text", "count"), [("2GB", 2 * 10**9), ("512MiB", 512 << 20), ("1.5 gib", 3 << 29), ("300000000", 300_000_000)]
)
def test_a_memory_limit_is_read_with_its_unit(text: str, count: int) -> None:
    assert byte_count(text) == count


def test_prepare_does_not_replace_a_folder_of_something_else(call: Any, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    shown = call("prepare", "events", shop / "events.parquet", "--out", tmp_path)
    assert shown.status == 1
    assert "not overwritten" in shown.err
    assert (tmp_path / "thesis.tex").exists()


def test_the_command_that_comes_next_can_be_pasted_into_a_shell(call: Any, shop: Path, tmp_path: Path) -> None:
    shown = call("prepare", "events", shop / "events.parquet", "--out", tmp_path / "my shop")
    assert f"Next: mkmsr train '{tmp_path}/my shop' --model compass --out 'runs/my shop'" in shown.out


def test_models_lists_names_summaries_and_sources(call: Any) -> None:
    found = call("models", "--json").document
    assert {"mkm-sr", "km-sr", "m-sr", "pop", "s-pop", "recency"} <= {each["name"] for each in found}
    assert all(set(each) == {"name", "summary", "source", "flagship"} for each in found)
    assert "mkm-sr" in call("models").out


# --- train, evaluate, compare, report


def test_train_leaves_the_documented_run_folder(runs: Path) -> None:
    names = {each.name for each in (runs / "mkm-sr").iterdir()}
    assert {"config.toml", "history.jsonl", "metrics.json", "ranks.parquet", "bundle", "report.html"} <= names
    assert len((runs / "mkm-sr" / "history.jsonl").read_text().splitlines()) == 2


def test_train_with_json_prints_the_metrics_of_the_run_and_nothing_else(call: Any, data: Path, tmp_path: Path) -> None:
    shown = call("train", data, "--model", "pop", "--out", tmp_path / "pop", "--json")
    assert shown.status == 0
    assert shown.document == json.loads((tmp_path / "pop" / "metrics.json").read_text())
    assert shown.document["model"] == "pop"


def test_a_model_without_epochs_has_no_best_epoch_to_name(call: Any, data: Path, tmp_path: Path) -> None:
    shown = call("train", data, "--model", "pop", "--out", tmp_path / "pop")
    assert "best epoch" not in shown.out
    assert "mrr@20 on validation: " in shown.out


def test_a_model_that_keeps_its_last_epoch_does_not_call_it_the_best(call: Any, data: Path, tmp_path: Path) -> None:
    shown = call("train", data, "--model", "compass", "--out", tmp_path / "run", "--epochs", 1, "--set", "model.dim=8")
    assert shown.out.startswith("epoch 1 is kept, the last; mrr@20 on validation: ")
    note = "a little too good: some weights were fitted to these sessions"
    assert f" % ({note})" in " ".join(shown.out.split())
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["validation"]["note"] == note


def test_train_reads_a_settings_file_which_flags_override(call: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[model]\nname = "m-sr"\ndim = 4\n[training]\nepochs = 9\nbatch_size = 64\n')
    arguments = ["train", data, "--config", tmp_path / "own.toml", "--out", tmp_path / "run", "--epochs", 1]
    shown = call(*arguments, "--set", "model.dim=6", "training.optimiser.learning_rate=0.01")
    assert shown.status == 0
    written = (tmp_path / "run" / "config.toml").read_text()
    assert "dim = 6" in written
    assert "epochs = 1" in written
    assert "learning_rate = 0.01" in written


def test_an_unknown_setting_is_named_with_the_nearest_right_one(call: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[training]\nepohcs = 9\n")
    shown = call("train", data, "--model", "m-sr", "--config", tmp_path / "own.toml", "--out", tmp_path / "run")
    assert shown.status == 1
    assert "own.toml" in shown.err
    assert "training.epohcs: unknown key, did you mean 'epochs'?" in shown.err
    shown = call("train", data, "--model", "m-sr", "--set", "model.dmi=9", "--out", tmp_path / "run")
    assert shown.status == 1
    assert "model.dmi: unknown key, did you mean 'dim'?" in shown.err


def test_training_says_what_it_needs_and_shows_each_epoch_on_standard_error(
    call: Any, data: Path, tmp_path: Path
) -> None:
    shown = call("train", data, "--model", "m-sr", "--set", "model.dim=8", "--epochs", 2, "--out", tmp_path / "run")
    assert shown.status == 0
    before, _, _ = shown.err.partition("epoch 1/2")
    assert "MiB" in before
    assert "examples/s" in shown.err
    assert "epoch 2/2: loss" in shown.err
    assert "epoch 1/2" not in shown.out


def test_training_says_when_it_leaves_known_visitors_unused(call: Any, shop: Path, tmp_path: Path) -> None:
    prepared = call("prepare", "events", shop / "events.parquet", "--visitors", "--out", tmp_path / "data")
    assert "--model compass --set model.earlier_visits=true --out" in prepared.out
    small = ["--model", "compass", "--epochs", 1, "--set", "model.dim=8"]
    unused = call("train", tmp_path / "data", *small, "--out", tmp_path / "unused")
    used = call("train", tmp_path / "data", *small, "model.earlier_visits=true", "--out", tmp_path / "used")
    assert unused.status == used.status == 0
    assert "--set model.earlier_visits=true" in unused.err
    assert "earlier_visits" not in used.err


def test_train_ends_with_a_recommendation_that_can_be_typed(call: Any, data: Path, tmp_path: Path) -> None:
    shown = call("train", data, "--model", "recency", "--out", tmp_path / "my run")
    command = shown.out.rpartition("Next: ")[2].replace("| mkmsr", f"| {sys.executable} -m mkmsr")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "item-" in done.stdout


def test_evaluate_gives_the_numbers_of_the_run(call: Any, data: Path, runs: Path, tmp_path: Path) -> None:
    shown = call("evaluate", runs / "mkm-sr" / "bundle", data, "--json", "--out", tmp_path / "ranks.parquet")
    document = shown.document
    assert list(document) == [
        "model",
        "split",
        "examples",
        "candidates",
        "ties",
        "metrics",
        "intervals",
        "slices",
        "seconds",
    ]
    assert (document["model"], document["split"], document["ties"]) == ("mkm-sr", "test", "conservative")
    assert document["metrics"] == json.loads((runs / "mkm-sr" / "metrics.json").read_text())["test"]["metrics"]
    assert set(document["slices"]) == {"repeat", "new_item", "seen"}
    low, high = document["intervals"]["hit@20"]
    assert low <= document["metrics"]["hit@20"] <= high
    from mkmsr.evaluation.ranks import RankTable

    assert len(RankTable.load(tmp_path / "ranks.parquet")) == document["examples"]


@pytest.mark.parametrize(
    ("form", "first"), [("markdown", "**Runs on the same"), ("latex", r"\begin{table}"), ("csv", "run,metric,value")]
)
def test_compare_prints_the_table_in_other_forms(call: Any, runs: Path, form: str, first: str) -> None:
    shown = call("compare", runs / "mkm-sr", runs / "recency", "--samples", "100", "--table", form, "--pool-seeds")
    assert shown.out.startswith(first)
    assert "recency" in shown.out


def test_evaluate_says_what_the_lists_are_like(call: Any, data: Path, runs: Path, tmp_path: Path) -> None:
    bundle, lists = runs / "recency" / "bundle", tmp_path / "lists.parquet"
    shown = call("evaluate", bundle, data, "--k", "1,3", "--lists", lists)
    assert "coverage: share of the catalogue that is in some list" in shown.out
    document = call("evaluate", bundle, data, "--k", "1,3", "--lists", lists, "--json").document
    assert {"coverage@1", "gini@3", "popularity_lift@3", "novelty@1"} <= set(document["lists"])
    assert pl.read_parquet(lists)["item"].n_unique() == round(document["lists"]["coverage@3"] * document["candidates"])


def test_evaluate_tells_details_and_whether_order_matters(call: Any, data: Path, runs: Path) -> None:
    bundle = runs / "recency" / "bundle"
    shown = call("evaluate", bundle, data, "--k", "1,3", "--details", "--shuffle")
    assert shown.status == 0
    for said in ("diversity", "each session counts once", "newest", "random order", "Hit@3 +"):
        assert said in shown.out
    document = call("evaluate", bundle, data, "--k", "1,3", "--details", "--json").document
    assert document["metrics"] == call("evaluate", bundle, data, "--k", "1,3", "--json").document["metrics"]
    frame = pl.DataFrame(document["details"])
    kinds = frame.group_by("by").agg(pl.col("examples").sum()).filter(pl.col("by") != "average")
    assert kinds["examples"].to_list() == [document["examples"]] * 4
    assert "probabilities" not in document


def test_evaluate_says_whether_probabilities_are_right(call: Any, data: Path, tmp_path: Path) -> None:
    call("train", data, "--model", "compass", "--out", tmp_path / "run", "--epochs", 1, "--set", "model.dim=8")
    found = call("evaluate", tmp_path / "run" / "bundle", data, "--details", "--json").document["probabilities"]
    assert found["log_likelihood"] < 0
    assert 0 <= found["calibration_error"] < 0.5
    assert all(0 < each["expected"] <= 1.001 for each in found["groups"])
    assert "mean difference" in call("evaluate", tmp_path / "run" / "bundle", data, "--details").out


def test_evaluate_takes_list_lengths_and_split(call: Any, data: Path, runs: Path) -> None:
    document = call(
        "evaluate", runs / "recency" / "bundle", data, "--split", "validation", "--k", "1,3", "--json"
    ).document
    assert set(document["metrics"]) == {"hit@1", "hit@3", "mrr@1", "mrr@3", "ndcg@1", "ndcg@3"}
    assert document["split"] == "validation"
    assert "Hit@3" in call("evaluate", runs / "recency" / "bundle", data, "--k", "3").out


@pytest.mark.parametrize(("refit", "split"), [(True, "validation"), (True, "test"), (False, "validation")])
def test_evaluate_says_when_a_refit_has_read_the_sessions(
    call: Any, data: Path, tmp_path: Path, refit: bool, split: str
) -> None:
    call("train", data, "--model", "pop", "--out", tmp_path / "run", *(["--refit"] if refit else []))
    shown = call("evaluate", tmp_path / "run" / "bundle", data, "--split", split)
    assert shown.status == 0
    assert ("the model learnt from these sessions" in shown.err) == (refit and split == "validation")


def test_evaluate_refuses_data_of_unknown_items(call: Any, runs: Path, tmp_path: Path) -> None:
    rows = [f"s{n // 3},other-{n % 4}" for n in range(90)]
    (tmp_path / "log.csv").write_text("\n".join(["session,item", *rows]))
    assert call("prepare", "events", tmp_path / "log.csv", "--out", tmp_path / "other").status == 0
    shown = call("evaluate", runs / "mkm-sr" / "bundle", tmp_path / "other")
    assert shown.status == 1
    assert "does not know 4 of the 4 items" in shown.err


def test_evaluate_maps_data_prepared_with_other_options_by_ids(
    call: Any, shop: Path, runs: Path, tmp_path: Path
) -> None:
    arguments = ["prepare", "events", shop / "events.parquet", "--out", tmp_path / "fewer", "--test-share", 0.2]
    assert call(*arguments, "--new-items", "drop").status == 0
    document = call("evaluate", runs / "recency" / "bundle", tmp_path / "fewer", "--json").document
    own = call("train", tmp_path / "fewer", "--model", "recency", "--out", tmp_path / "run", "--json").document
    assert document["examples"] == own["test"]["examples"]
    assert document["metrics"]["hit@5"] == pytest.approx(own["test"]["metrics"]["hit@5"])


def test_compare_orders_runs_and_tests_them_in_pairs(call: Any, runs: Path) -> None:
    document = call("compare", runs / "mkm-sr", runs / "recency", "--json", "--samples", 500).document
    assert {each["model"] for each in document["runs"]} == {"mkm-sr", "recency"}
    assert "recency" in call("compare", runs / "mkm-sr", runs / "recency", "--samples", 500).out


def test_report_draws_the_page_again(call: Any, runs: Path) -> None:
    page = runs / "mkm-sr" / "report.html"
    page.unlink()
    shown = call("report", runs / "mkm-sr", "--beside", runs / "recency", "--json")
    assert shown.document == {"report": str(page)}
    assert "recency" in page.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_so_and_goes_on_with_resume(
    data: Path, call: Any, tmp_path: Path, stop: signal.Signals
) -> None:
    arguments = ["train", str(data), "--model", "m-sr", "--out", str(tmp_path / "run"), "--set", "model.dim=8"]
    arguments += ["training.batch_size=16", "training.patience=99"]
    with subprocess.Popen(
        [sys.executable, "-m", "mkmsr", *arguments, "--epochs", "500"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 1/500"):
                break
        second = call(*arguments, "--epochs", 500, "--resume")
        assert second.status == 1
        assert f"in use by process {process.pid} on " in second.err
        process.send_signal(stop)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "mkmsr: interrupted; with --resume the same call goes on from its last checkpoint\n" in rest
    assert "Traceback" not in rest
    shown = call(*arguments, "--epochs", 501, "--resume")
    assert shown.status == 1
    assert "epochs" in shown.err

    checkpoint = (tmp_path / "run" / "checkpoint" / "checkpoint.json").read_bytes()
    shown = call(*arguments, "--epochs", 2)
    assert shown.status == 1
    assert "--resume goes on with it, --overwrite starts over" in shown.err
    assert (tmp_path / "run" / "checkpoint" / "checkpoint.json").read_bytes() == checkpoint
    assert call(*arguments, "--epochs", 2, "--overwrite").status == 0
    assert call(*arguments, "--epochs", 1).status == 0, "a finished run is replaced"


def test_an_interrupted_call_says_how_to_go_on(data: Path, call: Any, tmp_path: Path) -> None:
    history = tmp_path / "run" / "history.jsonl"

    def interrupt_after_an_epoch() -> None:
        while not (history.is_file() and history.stat().st_size):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored where the tests run in the background of a shell.

    threading.Thread(target=interrupt_after_an_epoch, daemon=True).start()
    arguments = ["train", data, "--model", "m-sr", "--out", tmp_path / "run", "--set", "model.dim=8"]
    shown = call(*arguments, "training.patience=999", "--epochs", 9999)
    assert shown.status == 130
    assert shown.err.endswith("mkmsr: interrupted; with --resume the same call goes on from its last checkpoint\n")
    shown = call(*arguments, "--epochs", 1)
    assert shown.status == 1
    assert "--resume goes on with it, --overwrite starts over" in shown.err


# --- recommend


def test_recommend_prints_one_json_line_a_session(call: Any, runs: Path, tmp_path: Path) -> None:
    events = [{"item": "item-00007", "operation": "click"}, {"item": "item-00012", "operation": "cart"}]
    path = sessions_file(tmp_path, events, [{"item": "ghost", "operation": "click"}], [])
    shown = call("recommend", runs / "mkm-sr" / "bundle", "--session", path, "-k", 4, "--json")
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert len(lines) == 3
    assert [each["rank"] for each in lines[0]["items"]] == [1, 2, 3, 4]
    assert set(lines[0]["items"][0]) == {"item", "score", "rank"}
    assert lines[1]["skipped"] == 1
    assert lines[2]["ranked_by"] == "popularity"


def test_recommend_reads_standard_input(call: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"events": [{"item": "item-00007"}]}\n')))
    shown = call("recommend", runs / "recency" / "bundle", "--session", "-", "--k", 2, "--json")
    assert shown.document["items"][0]["item"] == "item-00007"


def test_recommend_for_people_shows_attributes(call: Any, runs: Path, tmp_path: Path) -> None:
    path = sessions_file(tmp_path, [{"item": "item-00007", "operation": "click"}, {"item": "[ghost]"}])
    shown = call("recommend", runs / "mkm-sr" / "bundle", "--session", path, "-k", 3)
    assert "brand: " in shown.out
    assert "[ghost]" in shown.out
    assert "1 event of unknown items skipped" in shown.out


def test_an_id_that_no_terminal_can_show_ends_no_command(call: Any, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text('{"events": ["item-00007", "half of a pair: \\ud83d"]}')
    shown = call("recommend", runs / "recency" / "bundle", "--session", tmp_path / "odd.jsonl", "-k", 3)
    assert shown.status == 0
    assert "half of a pair: \\ud83d" in shown.out


def test_a_run_folder_in_place_of_its_bundle_is_told_where_the_bundle_is(call: Any, runs: Path, data: Path) -> None:
    shown = call("evaluate", runs / "recency", data)
    assert shown.status == 1
    assert (
        f"not a bundle: there is no bundle.json in this folder; that of this run is {runs}/recency/bundle" in shown.err
    )


def test_recommend_leaves_excluded_items_out(call: Any, runs: Path, tmp_path: Path) -> None:
    path = sessions_file(tmp_path, [{"item": "item-00007"}])
    arguments = ["recommend", runs / "recency" / "bundle", "--session", path, "-k", 1, "--json"]
    assert call(*arguments).document["items"][0]["item"] == "item-00007"
    assert call(*arguments, "--exclude", "item-00007").document["items"][0]["item"] != "item-00007"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "row 2: not JSON"),
        (b'{"events": ["caf\xe9"]}', "row 2: not JSON"),
        ('{"events": [%s]}' % ("7" * 5000), "row 2: not JSON"),
        ("[" * 100_000, "row 2: not JSON"),
        ('["a"]', "row 2: should be"),
        ('{"events": "a"}', "row 2: should be"),
        ('{"events": [{"sku": "a"}]}', "row 2: should be"),
        ('{"events": [true]}', "row 2: should be"),
        ('{"events": ["a"], "earlier": 3}', "row 2: should be"),
    ],
)
def test_a_bad_line_is_named(line: str | bytes, message: str, call: Any, runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"events": ["item-00007"]}\r\n' + (line.encode() if isinstance(line, str) else line) + b"\n")
    shown = call("recommend", runs / "recency" / "bundle", "--session", path, "--json")
    assert shown.status == 1
    assert message in shown.err
    assert shown.out == ""


def test_a_damaged_bundle_is_one_clear_line(call: Any, runs: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "bundle"
    shutil.copytree(runs / "recency" / "bundle", broken)
    content = bytearray((broken / "items.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (broken / "items.parquet").write_bytes(content)
    shown = call("recommend", broken, "--session", "-")
    assert shown.status == 1
    assert "items.parquet: altered since it was written (expected sha256" in shown.err

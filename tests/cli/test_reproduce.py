"""The paper's tables and figures end to end, on a small shop, through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from mkmsr.cli.app import run
from tests.small_shop import small_shop


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Any:
    def calling(*arguments: object) -> Outcome:
        capfd.readouterr()
        status = run([str(each) for each in arguments])
        return Outcome(status, *capfd.readouterr())

    return calling


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A prepared shop in `shop`, and settings of small models in `settings`."""
    base = tmp_path_factory.mktemp("reproduce")
    small_shop().save(base / "shop")
    settings = base / "settings"
    (settings / "shop").mkdir(parents=True)
    training = "[training]\nepochs = 2\npretrain_epochs = 1\nbatch_size = 64\n"
    for name in ("mkm-sr", "narm", "rib"):
        (settings / f"{name}.toml").write_text(f'[model]\nname = "{name}"\ndim = 8\n{training}', encoding="utf-8")
    (settings / "shop" / "narm.toml").write_text(f'[model]\nname = "narm"\ndim = 4\n{training}', encoding="utf-8")
    yield base
    torch.set_num_threads(1)


def test_a_folder_of_settings_that_is_not_there_is_refused(folder: Path, call: Any, tmp_path: Path) -> None:
    arguments = ["table2", folder / "shop", "--out", tmp_path, "--models", "pop"]
    shown = call("reproduce", *arguments, "--settings", tmp_path / "setings")
    assert shown.status == 2
    assert f"--settings: there is no folder {tmp_path / 'setings'}" in shown.err


def test_table_1_counts_the_data(folder: Path, call: Any) -> None:
    found = call("reproduce", "table1", folder / "shop", "--out", folder / "table1", "--json")
    assert found.status == 0, found.err
    assert json.loads(found.out)["shop"]["sessions"] == 120
    assert "120" in (folder / "table1" / "table1.md").read_text(encoding="utf-8")


def test_table_2_trains_what_is_missing_and_writes_what_the_runs_say(folder: Path, call: Any) -> None:
    readme, docs = folder / "README.md", folder / "docs" / "reproduction"
    readme.write_text("# x\n<!-- results:begin -->\n<!-- results:end -->\n", encoding="utf-8")
    arguments = [
        *("reproduce", "table2", folder / "shop", "--out", folder / "table2", "--settings", folder / "settings"),
        *("--models", "narm,recency,v-sknn", "--seeds", 2, "--readme", readme, "--docs", docs, "--json"),
    ]
    found = call(*arguments)
    assert found.status == 0, found.err
    (table,) = json.loads(found.out)["tables"]
    seeds = {row["system"]: row["seeds"] for row in table["rows"]}
    assert seeds == {"NARM": 2, "Recency": 1, "V-SkNN": 1}
    assert all(row["published"] == {} for row in table["rows"])  # The shop is not the paper's data.
    for row in table["rows"]:
        values = [each["mrr@20"] for each in row["per_seed"]]
        assert row["metrics"]["mrr@20"] == pytest.approx(np.mean(values))
        assert all((Path(path) / "ranks.parquet").is_file() for path in row["runs"])
    assert "| V-SkNN" in readme.read_text(encoding="utf-8")
    assert (docs / "figures" / "table2-shop.svg").is_file()
    text = (docs / "table2.md").read_text(encoding="utf-8")
    assert "](figures/table2-shop.svg)" in text
    command = f"mkmsr reproduce table2 {folder / 'shop'} --out {folder / 'table2'} --docs {docs}"
    assert (
        f"{command} --settings {folder / 'settings'} --seeds 2 --models narm,recency,v-sknn --readme {readme}" in text
    )
    again = call(*arguments)
    assert "4 of them done already" in again.err
    assert json.loads(again.out)["tables"] == [table]


def test_table_2_is_drawn_again_from_kept_results_without_training(folder: Path, call: Any, tmp_path: Path) -> None:
    kept, command = tmp_path / "kept", ["reproduce", "table2", folder / "shop", "--settings", folder / "settings"]
    options = [*command, "--models", "narm,v-sknn", "--seeds", 2, "--json"]
    first = call(*options, "--out", tmp_path / "first", "--keep", kept)
    assert first.status == 0, first.err
    assert sorted(path.name for path in (kept / "shop").iterdir()) == ["ranks.parquet", "runs.jsonl"]
    again = call(*options, "--out", tmp_path / "again", "--from", kept, "--no-train")
    assert again.status == 0, again.err

    def rows(text: str) -> list[dict[str, Any]]:
        return [{**row, "runs": []} for row in json.loads(text)["tables"][0]["rows"]]

    assert rows(again.out) == rows(first.out)
    assert not list((tmp_path / "again").rglob("bundle"))
    partly = call(
        *command,
        "--models",
        "narm,stamp",
        "--seeds",
        2,
        "--json",
        "--out",
        tmp_path / "partly",
        "--from",
        kept,
        "--no-train",
    )
    assert partly.status == 0, partly.err
    assert "no results are kept" in json.loads(partly.out)["tables"][0]["missing"]["STAMP"]


@pytest.mark.slow
def test_a_killed_table_2_goes_on_where_it_stopped(folder: Path, call: Any, tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    settings.mkdir()
    training = "[training]\nepochs = 6\nbatch_size = 8\ncheckpoint_seconds = 0.05\n"
    (settings / "narm.toml").write_text(f'[model]\nname = "narm"\ndim = 8\n{training}', encoding="utf-8")
    out = tmp_path / "killed"
    options = ["reproduce", "table2", folder / "shop", "--settings", settings, "--models", "narm,recency", "--seeds", 2]
    program = [sys.executable, "-m", "mkmsr", *map(str, options), "--out", str(out), "--workers", "1"]
    table = subprocess.Popen(program, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    try:
        while not any(path.read_bytes().count(b"\n") for path in out.rglob("history.jsonl")):
            assert table.poll() is None
            time.sleep(0.02)
    finally:
        table.kill()
        table.wait()
    assert not (out / "table2.json").exists()
    time.sleep(1)  # Its worker notices and ends.
    resumed = call(*options, "--out", out, "--json")
    assert resumed.status == 0, resumed.err
    assert "resumed at epoch" in "".join(path.read_text(encoding="utf-8") for path in out.rglob("run.log"))
    whole = call(*options, "--out", tmp_path / "whole", "--json")
    values = [[row["per_seed"] for row in json.loads(found.out)["tables"][0]["rows"]] for found in (resumed, whole)]
    assert values[0] == values[1]


def test_a_failed_run_is_reported_after_the_table_of_the_others(folder: Path, call: Any, tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "narm.toml").write_text('[model]\nname = "narm"\n[training]\nselect = "mrr@x"\n', encoding="utf-8")
    out = tmp_path / "out"
    options = ["--models", "narm,recency", "--seeds", 1, "--settings", settings]
    found = call("reproduce", "table2", folder / "shop", "--out", out, *options)
    assert found.status == 1
    assert "1 runs failed; the first was shop narm seed 0" in found.err.replace("\n", " ")
    table = json.loads((out / "table2.json").read_text(encoding="utf-8"))["tables"][0]
    assert [row["system"] for row in table["rows"]] == ["Recency"]
    assert "no metric 'mrr@x'" in table["missing"]["NARM"]


def test_figure_3_draws_the_test_and_chooses_on_validation(folder: Path, call: Any) -> None:
    options = ["--seeds", 2, "--settings", folder / "settings", "--json"]
    found = call("reproduce", "figure3", folder / "shop", "--out", folder / "figure3", *options)
    assert found.status == 0, found.err
    curves = json.loads(found.out)["shop"]
    assert curves.keys() == {"alternating", "joint", "pretrain"}
    for strategy, each in curves.items():
        before = 1 if strategy == "pretrain" else 0
        for seed in (0, 1):
            validation = each["mrr@20"][seed]
            assert len(validation) == len(each["test mrr@20"][seed]) == 2
            assert each["best_epochs"][seed] - before == int(np.argmax(validation)) + 1
    text = (folder / "figure3" / "figure3.md").read_text(encoding="utf-8")
    assert text.count("alternating training overtakes pre-training") == 1
    means = {name: np.mean(each["mrr@20"], axis=0) for name, each in curves.items()}
    ahead = np.flatnonzero(means["pretrain"] > np.maximum(means["alternating"], means["joint"])) + 1
    where = f"epochs {', '.join(map(str, ahead))}" if len(ahead) else "no epoch"
    assert f"By the mean over seeds it is ahead of both after {where}." in text
    drawing = (folder / "figure3" / "figures" / "figure3-shop-mrr.svg").read_text(encoding="utf-8")
    assert "test (only drawn)" in drawing
    again = call("reproduce", "figure3", folder / "shop", "--out", folder / "figure3", *options)
    assert "6 of them done already" in again.err
    assert json.loads(again.out)["shop"] == curves


def test_figure_4_measures_what_its_maps_show(folder: Path, call: Any) -> None:
    pytest.importorskip("gensim")
    pytest.importorskip("sklearn")
    options = ["--settings", folder / "settings", "--attribute", "colour", "--epochs", 15, "--json"]
    found = call("reproduce", "figure4", folder / "shop", "--out", folder / "figure4", *options)
    assert found.status == 0, found.err
    numbers = json.loads(found.out)["shop"]
    assert numbers["attribute"] == "colour"
    assert numbers["spaces"].keys() == {"word2vec", "transh", "mkm-sr"}
    # Triples alone know the colour; sessions walk along the list of items, whatever their colour.
    assert numbers["spaces"]["transh"]["purity"] > numbers["spaces"]["word2vec"]["purity"]
    assert (folder / "figure4" / "figures" / "figure4-shop.svg").is_file()
    wrong = call("reproduce", "figure4", folder / "shop", "--out", folder / "figure4", "--attribute", "color")
    assert wrong.status == 1
    assert "no relation 'color', did you mean 'colour'" in wrong.err


def test_a_file_that_documents_were_once_written_into_is_no_folder_for_them(folder: Path, call: Any) -> None:
    page = folder / "reproduction.md"
    page.touch()
    shown = call("reproduce", "table1", folder / "shop", "--out", folder / "table1", "--docs", page)
    assert shown.status == 2
    assert f"--docs takes a folder, and {page} is a file" in " ".join(shown.err.split())


@pytest.mark.parametrize("name", ["table1", "table2", "ablation", "figure3", "figure4"])
def test_every_part_has_help_with_an_example(name: str, call: Any) -> None:
    shown = call("reproduce", name, "--help")
    assert shown.status == 0
    assert f"mkmsr reproduce {name}" in " ".join(shown.out.split("Example:")[-1].split())


def test_a_call_without_data_or_with_two_data_of_one_name_is_refused(folder: Path, call: Any, tmp_path: Path) -> None:
    assert call("reproduce", "table1", "--out", tmp_path / "x").status == 2
    small_shop(sessions=60).save(tmp_path / "shop")
    found = call("reproduce", "table2", folder / "shop", tmp_path / "shop", "--out", tmp_path / "x")
    assert found.status == 1
    assert "two folders of prepared data are called 'shop'" in found.err


def test_the_ablation_compares_every_variant_with_the_whole_and_leaves_out_those_that_change_nothing(
    folder: Path, tmp_path: Path, call: Any
) -> None:
    settings = tmp_path / "settings"
    settings.mkdir()
    model = '[model]\nname = "compass"\ndim = 4\noperations = false\n'
    (settings / "compass.toml").write_text(f"{model}[training]\nepochs = 1\nbatch_size = 64\n", encoding="utf-8")
    options = ["--out", tmp_path / "out", "--settings", settings, "--seeds", 1, "--workers", 1]
    first = call("reproduce", "ablation", folder / "shop", *options, "--keep", tmp_path / "kept", "--json")
    assert first.status == 0, first.err
    (table,) = json.loads(first.out)["tables"]
    variants = {row["label"]: row for row in table["runs"]}
    assert "without operations" not in variants
    assert {"COMPASS", "without ids", "without copies", "without neighbours"} <= variants.keys()
    whole, other = variants["COMPASS"], variants["without copies"]
    assert whole["differences"] == {}
    for metric in ("hit@20", "mrr@20"):
        found = other["differences"][metric]["difference"]
        assert found == pytest.approx(other["metrics"][metric] - whole["metrics"][metric], abs=1e-9)
    assert "without copies" in (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8")
    drawn = ["--out", tmp_path / "again", "--settings", settings, "--seeds", 1, "--no-train"]
    again = call("reproduce", "ablation", folder / "shop", *drawn, "--from", tmp_path / "kept", "--json")
    assert json.loads(again.out) == json.loads(first.out)

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
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError, DataError
from mkmsr.evaluation.item_space import chance_purity, closeness, item_difference, neighbour_purity
from mkmsr.paper.figure4_items import choose_items, default_attribute, later_pairs, pairs_of_sessions
from mkmsr.paper.settings import experiment_settings
from mkmsr.paper.table2 import table_rows
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


# --- settings


def test_a_folder_of_settings_that_is_not_there_is_refused(folder: Path, call: Any, tmp_path: Path) -> None:
    arguments = ["table2", folder / "shop", "--out", tmp_path, "--models", "pop"]
    shown = call("reproduce", *arguments, "--settings", tmp_path / "setings")
    assert shown.status == 2
    assert f"--settings: there is no folder {tmp_path / 'setings'}" in shown.err


def test_settings_of_the_data_come_before_those_of_the_model_and_these_before_defaults(folder: Path) -> None:
    def dim(data: Path, model: str, settings: Path | None) -> Any:
        return experiment_settings(data, model, settings).model["dim"]

    shop, settings = folder / "shop", folder / "settings"
    assert dim(shop, "narm", settings) == 4
    assert dim(folder / "elsewhere", "narm", settings) == 8
    assert dim(shop, "stamp", settings) == dim(shop, "narm", None) == 100
    assert experiment_settings(shop, "narm", settings, {"epochs": 1}).training.epochs == 1


def test_a_settings_file_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "narm.toml").write_text('[model]\nname = "stamp"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="is for 'stamp', but its name says 'narm'"):
        experiment_settings(tmp_path, "narm", tmp_path)


def test_the_rows_are_the_papers_thirteen_the_rivals_and_the_flagships() -> None:
    rows = table_rows()
    groups = [group for _, _, group in rows]
    assert groups.count("paper") == 13
    assert [name for _, name, group in rows if group == "flagship"] == ["compass", "compass-ensemble"]
    assert len({name for _, name, _ in rows}) == len(rows)
    with pytest.raises(ConfigError, match="no row for 'nram', did you mean 'narm'"):
        table_rows(["nram"])


# --- the commands


def test_table_1_counts_the_data(folder: Path, call: Any) -> None:
    found = call("reproduce", "table1", folder / "shop", "--out", folder / "table1", "--json")
    assert found.status == 0, found.err
    assert json.loads(found.out)["shop"]["sessions"] == 120
    assert "120" in (folder / "table1" / "table1.md").read_text(encoding="utf-8")


def test_table_2_trains_what_is_missing_and_writes_what_the_runs_say(folder: Path, call: Any) -> None:
    readme, docs = folder / "README.md", folder / "docs" / "reproduction.md"
    docs.parent.mkdir()
    readme.write_text("# x\n<!-- results:begin -->\n<!-- results:end -->\n", encoding="utf-8")
    docs.write_text("<!-- table2:begin -->\n<!-- table2:end -->\n", encoding="utf-8")
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
    assert (docs.parent / "figures" / "table2-shop.svg").is_file()
    assert "](figures/table2-shop.svg)" in docs.read_text(encoding="utf-8")
    again = call(*arguments)
    assert "4 of them done already" in again.err
    assert json.loads(again.out)["tables"] == [table]


def test_table_2_is_drawn_again_from_kept_results_without_training(folder: Path, call: Any, tmp_path: Path) -> None:
    kept, command = tmp_path / "kept", ["reproduce", "table2", folder / "shop", "--settings", folder / "settings"]
    options = [*command, "--models", "narm,v-sknn", "--seeds", 2, "--json"]
    first = call(*options, "--out", tmp_path / "first", "--keep", kept)
    assert first.status == 0, first.err
    assert sorted(path.name for path in (kept / "shop" / "narm").glob("*.json")) == ["seed-0.json", "seed-1.json"]
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


@pytest.mark.parametrize("name", ["table1", "table2", "figure3", "figure4"])
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


# --- what the numbers of Figure 4 mean


def test_purity_and_closeness_agree_with_loops() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(40, 5)).astype(np.float32)
    has = rng.random((40, 3)) < 0.4
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = []
    for item in range(40):
        order = sorted((other for other in range(40) if other != item), key=lambda other: -unit[item] @ unit[other])
        expected.append(np.mean([bool((has[item] & has[other]).any()) for other in order[:7]]))
    assert neighbour_purity(vectors, has, neighbours=7) == pytest.approx(expected)
    share = np.mean([(has[one] & has[other]).any() for one in range(40) for other in range(40) if one != other])
    assert chance_purity(has) == pytest.approx(share, abs=0.01)


def test_planted_clusters_are_pure_and_close_and_random_vectors_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 50)
    has = np.eye(4, dtype=bool)[group]
    centres = 5 * rng.normal(size=(4, 8))
    clusters = (centres[group] + rng.normal(size=(200, 8))).astype(np.float32)
    noise = rng.normal(size=(200, 8)).astype(np.float32)
    within = np.array(
        [(one, other) for one in range(200) for other in range(one + 1, 200) if group[one] == group[other]]
    )
    assert neighbour_purity(clusters, has).mean() > 0.99
    assert neighbour_purity(noise, has).mean() == pytest.approx(0.25, abs=0.04)
    assert closeness(clusters, within).mean() > 0.85
    assert closeness(noise, within).mean() == pytest.approx(0.5, abs=0.03)
    found = item_difference(closeness(clusters, within), closeness(noise, within))
    assert 0.3 < found.low < found.difference < found.high
    alone = closeness(clusters, within[:1])
    assert np.isnan(alone).sum() == 198


def test_the_chosen_items_and_pairs_are_those_of_the_log() -> None:
    shop = small_shop()
    assert default_attribute(shop) == "colour"
    chosen = choose_items(shop, "colour", 3)
    counts = np.bincount(shop.train.items, minlength=len(shop.items) + 1)
    assert (counts[chosen.items] >= 3).all()
    for row, item in enumerate(chosen.items):
        values = shop.knowledge.describe_item(int(item))["colour"]
        assert chosen.has[row].sum() == len(values)
    for place, colour in zip(chosen.shown, chosen.colours, strict=True):
        (value,) = shop.knowledge.describe_item(int(chosen.items[place]))["colour"]
        assert value == chosen.names[colour]
    together = {tuple(pair) for pair in pairs_of_sessions(shop.train, chosen.items).tolist()}
    expected = set()
    for row in range(len(shop.train)):
        own = sorted({list(chosen.items).index(item) for item in shop.train.session(row)[0] if item in chosen.items})
        expected |= {(one, other) for one in own for other in own if one < other}
    assert together == expected
    assert not together & {tuple(pair) for pair in later_pairs(shop, chosen.items).tolist()}
    with pytest.raises(DataError, match="only 0 items have 1000 training events"):
        choose_items(shop, "colour", 1000)


def test_data_without_knowledge_have_nothing_to_colour_by(tmp_path: Path) -> None:
    from dataclasses import replace

    from mkmsr.data.knowledge import KnowledgeGraph

    shop: PreparedDataset = small_shop()
    with pytest.raises(DataError, match="nothing can colour a map"):
        default_attribute(replace(shop, knowledge=KnowledgeGraph.empty(len(shop.items))))


# --- the parts of COMPASS


def test_the_ablation_compares_every_variant_with_the_whole_and_leaves_out_those_that_change_nothing(
    folder: Path, tmp_path: Path, call: Any
) -> None:
    settings = tmp_path / "settings"
    settings.mkdir()
    model = '[model]\nname = "compass"\ndim = 4\n[model.retrieval]\nkind_weight = 0.0\n'
    (settings / "compass.toml").write_text(f"{model}[training]\nepochs = 1\nbatch_size = 64\n", encoding="utf-8")
    options = ["--out", tmp_path / "out", "--settings", settings, "--seeds", 1, "--workers", 1]
    first = call("reproduce", "ablation", folder / "shop", *options, "--keep", tmp_path / "kept", "--json")
    assert first.status == 0, first.err
    (table,) = json.loads(first.out)["tables"]
    variants = {row["variant"]: row for row in table["rows"]}
    assert "without neighbours by kind" not in variants
    assert {"COMPASS", "without ids", "without copies", "with the knowledge loss"} <= variants.keys()
    whole, other = variants["COMPASS"], variants["without copies"]
    assert whole["differences"] == {}
    for metric in ("hit@20", "mrr@20"):
        found = other["differences"][metric]["difference"]
        assert found == pytest.approx(other["metrics"][metric] - whole["metrics"][metric], abs=1e-9)
    assert "without copies" in (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8")
    drawn = ["--out", tmp_path / "again", "--settings", settings, "--seeds", 1, "--no-train"]
    again = call("reproduce", "ablation", folder / "shop", *drawn, "--from", tmp_path / "kept", "--json")
    assert json.loads(again.out) == json.loads(first.out)

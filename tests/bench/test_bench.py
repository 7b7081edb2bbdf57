"""The benchmarks measure what they say, and report it under the names that scripts rely on."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from small_shop import fitted, small_shop
from torch.nn import functional as F

from mkmsr.bench.preparation import time_preparation
from mkmsr.bench.ranking import time_evaluation, time_recommending
from mkmsr.bench.training import CatalogueFloor, time_training
from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.cli.app import run
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError
from mkmsr.models.registry import model_entry
from mkmsr.training.config import OptimiserConfig, TrainingConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def shop() -> PreparedDataset:
    return small_shop()


@pytest.fixture(scope="module")
def saved(shop: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "data"
    shop.save(folder)
    return folder


def training(shop: PreparedDataset, **options: Any) -> dict[str, Any]:
    settings = model_entry("mkm-sr").configure({"dim": 8, "scorer": "dot"})
    return time_training(shop, "mkm-sr", settings, TrainingConfig(batch_size=32, threads=1), repetitions=2, **options)


def test_the_floors_gradients_are_those_of_cross_entropy() -> None:
    floor = CatalogueFloor(40, 6, 9, OptimiserConfig(learning_rate=1e-9))
    queries = floor.queries.clone().requires_grad_()
    items = floor.table.weight.detach().clone().requires_grad_()
    F.cross_entropy(queries @ items.T, floor.targets[:, 0], reduction="sum").backward()
    floor.step()
    torch.testing.assert_close(floor.query_gradient, queries.grad)
    torch.testing.assert_close(floor.table.weight.grad, items.grad)


def test_the_floor_moves_the_item_table() -> None:
    floor = CatalogueFloor(40, 6, 9, OptimiserConfig(learning_rate=0.1))
    before = floor.table.weight.detach().clone()
    floor.step()
    assert not torch.equal(before, floor.table.weight.detach())


def test_a_training_measurement_has_the_promised_keys_and_no_more_seconds_than_passed(shop: PreparedDataset) -> None:
    began = time.perf_counter()
    result = training(shop)
    passed = time.perf_counter() - began
    promised = "model threads batch_size epoch_seconds floor_seconds ratio examples_per_second peak_mib"
    assert list(result)[:8] == promised.split()
    examples = shop.examples(shop.fitting_sessions(refit=True))
    assert result["examples"] == len(examples)
    assert result["session_steps"] == -(-len(examples) // 32)
    assert result["triple_steps"] == -(-len(shop.knowledge) // 256)
    assert 0 < result["triple_seconds"] < result["epoch_seconds"]
    assert 2 * (result["spread"]["epoch_seconds"]["min"] + result["spread"]["floor_seconds"]["min"]) < passed
    assert result["ratio"] > 1, "an epoch takes longer than the products that it cannot do without"
    assert result["peak_mib"] > 50
    json.dumps(result, allow_nan=False)


def test_a_share_of_an_epoch_is_scaled_up_to_the_whole(shop: PreparedDataset) -> None:
    whole, half = training(shop), training(shop, share=0.5)
    assert half["examples"] == pytest.approx(whole["examples"], abs=2)
    assert half["session_steps"] == pytest.approx(whole["session_steps"] / 2, abs=1)
    assert 0.2 < half["epoch_seconds"] / whole["epoch_seconds"] < 5


def test_knowledge_epochs_before_the_sessions_are_not_timed(shop: PreparedDataset) -> None:
    settings = model_entry("mkm-sr").configure({"dim": 8})
    config = TrainingConfig(batch_size=32, strategy="pretrain", threads=1)
    result = time_training(shop, "mkm-sr", settings, config, repetitions=2)
    assert result["triple_steps"] == 0
    assert result["triple_seconds"] == 0


def test_timing_the_training_of_a_model_without_weights_says_what_to_do(shop: PreparedDataset) -> None:
    with pytest.raises(ConfigError, match="recency has no weights to train; `mkmsr bench evaluation` times it"):
        time_training(shop, "recency", model_entry("recency").configure(), TrainingConfig())


@pytest.mark.parametrize("name", ["m-sr", "s-knn", "recency"])
def test_an_evaluation_measurement_counts_examples_and_candidates(shop: PreparedDataset, name: str) -> None:
    began = time.perf_counter()
    result = time_evaluation(shop, name, model_entry(name).configure(), repetitions=2)
    assert result["examples"] == len(shop.evaluation_split("test").examples)
    assert result["candidates"] == len(shop.items)
    assert 0 < 2 * result["spread"]["seconds"]["min"] < time.perf_counter() - began


def test_an_evaluation_of_some_examples_counts_only_these(shop: PreparedDataset) -> None:
    result = time_evaluation(shop, "m-sr", model_entry("m-sr").configure(), examples=3, repetitions=1)
    assert result["examples"] == 3


def test_a_measurement_of_lists_counts_sessions_alone_and_in_bulk(shop: PreparedDataset, tmp_path: Path) -> None:
    config, model = fitted("v-sknn", shop)
    save_bundle(tmp_path / "bundle", new_bundle(model, name="v-sknn", config=config, dataset=shop))
    found = time_recommending(tmp_path / "bundle", shop, sessions=3, repetitions=1)
    assert (found["sessions"], found["sessions_in_bulk"], found["candidates"]) == (3, 12, len(shop.items))
    assert found["milliseconds_alone"] > 0
    assert found["sessions_a_processor_second"] > 0


def test_a_preparation_measurement_is_of_exactly_the_events_asked_for() -> None:
    began = time.perf_counter()
    result = time_preparation(3_000, repetitions=2)
    assert list(result)[:5] == ["events", "seconds", "events_per_second", "peak_mib", "engine"]
    assert result["events"] == 3_000
    assert 0 < 2 * result["spread"]["seconds"]["min"] < time.perf_counter() - began
    assert result["cpu_seconds"] > 0


SAMPLED = ["training.optimiser.touched_rows=true", "training.loss.negatives.number=20", "training.batch_size=64"]


def script(name: str, *arguments: object) -> str:
    """What a script of benchmarks/ prints."""
    command = [sys.executable, str(BENCHMARKS / name), *map(str, arguments), "--set", "model.dim=8", *SAMPLED]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize(("model", "steps"), [("compass", 5), ("mkm-sr", 0)])
def test_the_sampled_loss_is_measured_beside_the_exact_one_whole_and_in_blocks(
    saved: Path, model: str, steps: int
) -> None:
    options = ("--data", saved, "--model", model, "--block", 9, "--steps", steps, "--exact-steps", 2)
    result = json.loads(script("large.py", *options))
    assert result["loss"] == "sampled-cross-entropy"
    assert result["touched_rows"]
    assert set(result["exact"]) == {"exact", "exact in blocks"}
    shop = PreparedDataset.load(saved)
    assert result["examples"] == len(shop.examples(shop.fitting_sessions(refit=True)))
    assert result["measured_steps"] == (steps or -(-result["examples"] // 64))


@pytest.mark.slow
def test_growth_is_measured_at_every_point_and_exponents_are_fitted(tmp_path: Path) -> None:
    script("growth.py", "--models", "mkm-sr", "--small", "--steps", 5, "--out", tmp_path / "growth.json")
    result = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))
    assert [(point["curve"], point["sessions"], point["items"]) for point in result["points"]] == [
        ("log", 300, 100),
        ("log", 600, 100),
        ("catalogue", 300, 100),
        ("catalogue", 300, 200),
    ]
    assert all(point["epoch_seconds"] > 0 and point["training_mib"] > 50 for point in result["points"])
    assert [row["curve"] for row in result["exponents"]] == ["log", "catalogue"]


def test_exponents_are_those_of_power_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    exponent = load("growth", monkeypatch).exponent
    sizes = [10, 20, 40, 80]
    assert exponent(sizes, [3 * size**1.7 for size in sizes]) == pytest.approx(1.7)
    assert exponent(sizes, [5.0] * 4) == pytest.approx(0.0, abs=1e-12)


def test_bench_without_a_name_lists_the_benchmarks(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--json"]) == 0
    assert [case["name"] for case in json.loads(capfd.readouterr().out)] == [
        "training",
        "evaluation",
        "recommend",
        "prepare",
        "serving",
    ]


def test_bench_training_prints_one_json_document_and_writes_it(
    saved: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    arguments = ["bench", "training", "--data", str(saved), "--repetitions", "1", "--out", str(out), "--json"]
    assert run([*arguments, "--set", "model.dim=8", "training.strategy=sessions"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document == json.loads(out.read_text(encoding="utf-8"))
    assert document["settings"]["model"]["scorer"] == "dot"
    assert document["settings"]["model"]["dim"] == 8
    assert document["strategy"] == "sessions"


def test_a_result_names_neither_the_machine_nor_its_user(shop: PreparedDataset) -> None:
    import platform

    text = json.dumps(time_evaluation(shop, "recency", model_entry("recency").configure(), repetitions=1))
    for name in (platform.node(), str(Path.home())):
        assert len(name) < 3 or f'"{name}' not in text


def test_the_committed_page_is_drawn_from_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = load("page", monkeypatch)
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in drawing.RESULTS.glob("*.json")}
    assert results
    assert drawing.PAGE.read_text(encoding="utf-8") == drawing.page(results)


def test_every_case_of_the_standard_list_is_a_benchmark_or_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    from mkmsr.cli.bench import CASES

    standard = load("run", monkeypatch)
    names = {name for name, *_ in CASES} | {path.stem for path in BENCHMARKS.glob("*.py")}
    assert all(arguments[0] in names for arguments in standard.CASES.values())


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a script of benchmarks/, which is no package and whose scripts import each other."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module(name)

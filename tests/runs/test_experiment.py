"""One experiment: what it leaves behind, that it never learns from the test, and that it can be taken up again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from mkmsr.bundle.model_bundle import load_bundle
from mkmsr.config import read_toml, validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.sessions import SessionTable
from mkmsr.errors import ConfigError, EvaluationError, TrainingError
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.ranks import RankTable
from mkmsr.models import mkm_sr
from mkmsr.models.registry import MODELS
from mkmsr.reports.run_folder import read_run_folder
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.experiment import run_experiment
from mkmsr.runtime.events import EpochRecord, Event, PhaseStarted, TrainingEstimate
from mkmsr.training.checkpoint import read_history
from mkmsr.training.config import TrainingConfig
from tests.small_shop import small_shop


@pytest.fixture(scope="module")
def shop() -> PreparedDataset:
    return small_shop()


def settings(name: str = "mkm-sr", model: Mapping[str, Any] | None = None, **training: Any) -> ExperimentConfig:
    values = {"epochs": 3, "batch_size": 32, "optimiser": {"learning_rate": 0.02}, **training}
    if model is None:
        model = {"dim": 8} if name == "mkm-sr" else {}
    return validate(ExperimentConfig, {"model": {"name": name, **model}, "training": values})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "bundle" / "weights.safetensors")


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_times(metrics: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in metrics.items() if key not in ("seconds", "processor_seconds", "peak_mib")}
    for split in ("validation", "test"):
        plain[split] = {key: value for key, value in plain[split].items() if key != "seconds"}
    return plain


def test_a_run_folder_holds_settings_history_metrics_ranks_model_and_report(
    shop: PreparedDataset, tmp_path: Path
) -> None:
    config = settings()
    result = run_experiment(shop, config, tmp_path, seed=4)
    names = {"config.toml", "history.jsonl", "metrics.json", "ranks.parquet", "report.html", "examples.json"}
    assert names <= {each.name for each in tmp_path.iterdir()}
    assert json.loads((tmp_path / "metrics.json").read_text()) == result.metrics
    assert validate(ExperimentConfig, read_toml(tmp_path / "config.toml")) == config
    metrics = result.metrics
    assert (metrics["model"], metrics["seed"], metrics["refit"], metrics["fitted_on"]) == ("mkm-sr", 4, False, "train")
    assert metrics["data_fingerprint"] == shop.fingerprint
    assert metrics["seconds"] > 0
    assert metrics["processor_seconds"] > 0
    history = read_history(tmp_path / "history.jsonl")
    assert metrics["epochs_run"] == len(history)
    best = max(history, key=lambda record: record.validation["mrr@20"])
    assert metrics["best_epoch"] == best.epoch
    assert metrics["validation"]["metrics"]["mrr@20"] == pytest.approx(best.validation["mrr@20"])
    ranks = RankTable.load(tmp_path / "ranks.parquet")
    assert ranks.metrics() == pytest.approx(metrics["test"]["metrics"])
    bundle = load_bundle(tmp_path / "bundle")
    assert (evaluate(bundle.model, shop.evaluation_split("test")).rank == ranks.rank).all()


def test_a_model_without_weights_runs_through_the_same_function(shop: PreparedDataset, tmp_path: Path) -> None:
    plain, refitted = (
        run_experiment(shop, settings("pop"), tmp_path / str(n), refit=bool(n), report=False) for n in (0, 1)
    )
    assert (plain.metrics["best_epoch"], plain.metrics["epochs_run"]) == (0, 0)
    # The refit counts the validation sessions too.
    counted = [weights(tmp_path / str(n))["counts"].sum().item() for n in (0, 1)]
    assert counted == [shop.train.num_events, shop.train.num_events + shop.validation.num_events]
    assert plain.metrics["validation"]["metrics"] == refitted.metrics["validation"]["metrics"]


def test_a_refit_learns_from_validation_too_for_the_epochs_that_validation_chose(
    shop: PreparedDataset, tmp_path: Path
) -> None:
    config = settings(optimiser={"learning_rate": 0.02, "schedule": "one-cycle"})
    run_experiment(shop, config, tmp_path / "plain", seed=1, report=False)
    result = run_experiment(shop, config, tmp_path / "refit", seed=1, refit=True, report=False)
    assert result.metrics["fitted_on"] == "train and validation"
    first, second = (read_history(tmp_path / "refit" / each) for each in ("history.jsonl", "refit/history.jsonl"))
    assert len(second) == result.metrics["best_epoch"]
    assert [record.validation for record in second] == [{}] * len(second)
    rates = [[record.learning_rate for record in each[: len(second)]] for each in (first, second)]
    assert rates[0] == pytest.approx(rates[1], abs=0.001)  # The longer epochs end a little later in the plan.
    assert not same(weights(tmp_path / "plain"), weights(tmp_path / "refit"))
    assert json.loads((tmp_path / "refit" / "bundle" / "bundle.json").read_text())["data"]["fitted_on"] == (
        "train and validation"
    )


def test_nothing_that_is_learnt_or_chosen_depends_on_the_test_sessions(shop: PreparedDataset, tmp_path: Path) -> None:
    test = shop.test
    swapped = replace(test, items=test.items[::-1].copy(), operations=test.operations[::-1].copy())
    results = [
        run_experiment(data, settings(), tmp_path / name, seed=2, refit=True, report=False)
        for name, data in (("own", shop), ("other", replace(shop, test=swapped)))
    ]
    assert same(weights(tmp_path / "own"), weights(tmp_path / "other"))
    own, other = (without_times(each.metrics) for each in results)
    assert own["validation"] == other["validation"]
    assert own["test"] != other["test"]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(shop: PreparedDataset, tmp_path: Path) -> None:
    results = [
        run_experiment(shop, settings(), tmp_path / str(n), seed=seed, report=False) for n, seed in enumerate((3, 3, 5))
    ]
    assert without_times(results[0].metrics) == without_times(results[1].metrics)
    assert same(weights(tmp_path / "0"), weights(tmp_path / "1"))
    assert not same(weights(tmp_path / "0"), weights(tmp_path / "2"))


class Stop:
    """Hears everything, and ends the run at the n-th epoch it hears of."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.heard = at, list[str]()

    def __call__(self, event: Event) -> None:
        match event:
            case PhaseStarted(name):
                self.heard.append(name)
            case TrainingEstimate():
                self.heard.append("estimate")
            case EpochRecord():
                self.heard.append(f"epoch {event.epoch}")
                if self.at is not None and sum(each.startswith("epoch") for each in self.heard) == self.at:
                    raise KeyboardInterrupt


@pytest.mark.parametrize("at", [1, 3, 4])
def test_an_interrupted_run_is_taken_up_in_whichever_part_it_was(
    shop: PreparedDataset, tmp_path: Path, at: int
) -> None:
    config = settings(patience=3)
    whole = run_experiment(shop, config, tmp_path / "whole", seed=1, refit=True, report=False, listener=Stop())
    with pytest.raises(KeyboardInterrupt):
        run_experiment(shop, config, tmp_path / "cut", seed=1, refit=True, listener=Stop(at))
    assert not (tmp_path / "cut" / "metrics.json").exists()
    resumed = run_experiment(shop, config, tmp_path / "cut", seed=1, refit=True, resume=True, report=False)
    assert without_times(resumed.metrics) == without_times(whole.metrics)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_the_listener_hears_the_parts_in_order(shop: PreparedDataset, tmp_path: Path) -> None:
    listener = Stop()
    result = run_experiment(shop, settings(epochs=2, patience=2), tmp_path, refit=True, report=False, listener=listener)
    again = [f"epoch {n + 1}" for n in range(result.metrics["best_epoch"])]
    expected = ["fit", "estimate", "epoch 1", "epoch 2", "validation", "refit", "estimate", *again, "test"]
    assert listener.heard == expected


def test_a_finished_run_is_skipped_on_resume_and_another_one_is_refused(shop: PreparedDataset, tmp_path: Path) -> None:
    first = run_experiment(shop, settings("pop"), tmp_path, seed=1)
    (tmp_path / "report.html").unlink()
    again = run_experiment(shop, settings("pop"), tmp_path, seed=1, resume=True)
    assert again.skipped
    assert again.metrics == first.metrics
    assert (tmp_path / "report.html").is_file()
    with pytest.raises(TrainingError, match="another finished run: seed is 1 there, 2 now"):
        run_experiment(shop, settings("pop"), tmp_path, seed=2, resume=True)
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(TrainingError, match="not the metrics of a run"):
        run_experiment(shop, settings("pop"), tmp_path, seed=1, resume=True)


def test_without_resume_an_old_run_is_replaced(shop: PreparedDataset, tmp_path: Path) -> None:
    run_experiment(shop, settings(), tmp_path, seed=1, refit=True, report=False)
    result = run_experiment(shop, settings("pop"), tmp_path, seed=2)
    assert not result.skipped
    assert not (tmp_path / "refit").exists()
    assert load_bundle(tmp_path / "bundle").name == "pop"
    assert 'name = "pop"' in (tmp_path / "config.toml").read_text()


def test_resuming_what_never_came_to_a_checkpoint_states_the_settings_of_now(
    shop: PreparedDataset, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text("# what another run wrote before it was killed\n")
    config = settings(epochs=1)
    run_experiment(shop, config, tmp_path, seed=1, resume=True, report=False)
    assert validate(ExperimentConfig, read_toml(tmp_path / "config.toml")) == config
    written = (tmp_path / "config.toml").read_text()
    with pytest.raises(TrainingError, match="another finished run"):
        run_experiment(shop, settings(epochs=2), tmp_path, seed=1, resume=True, report=False)
    (tmp_path / "metrics.json").unlink()
    with pytest.raises(TrainingError, match="checkpoint of another run"):
        run_experiment(shop, settings(epochs=2), tmp_path, seed=1, resume=True, report=False)
    assert (tmp_path / "config.toml").read_text() == written


def test_the_epochs_of_a_replaced_run_are_not_those_of_a_model_that_has_none(
    shop: PreparedDataset, tmp_path: Path
) -> None:
    run_experiment(shop, settings(), tmp_path, seed=1)
    assert (tmp_path / "figures" / "curves.svg").is_file()
    run_experiment(shop, settings("pop"), tmp_path, seed=1)
    assert read_run_folder(tmp_path).history == ()
    assert not (tmp_path / "figures" / "curves.svg").exists()


def test_a_finished_run_that_went_on_from_another_model_is_not_one_that_did_not(
    shop: PreparedDataset, tmp_path: Path
) -> None:
    run_experiment(shop, settings(), tmp_path / "first", seed=1, report=False)
    earlier = load_bundle(tmp_path / "first" / "bundle")
    run_experiment(shop, settings(), tmp_path / "on", seed=1, report=False, start_from=earlier)
    with pytest.raises(TrainingError, match=r"another finished run: .*continued_from\.name is .* there, None now"):
        run_experiment(shop, settings(), tmp_path / "on", seed=1, report=False, resume=True)
    with pytest.raises(TrainingError, match=r"another finished run: .*continued_from\.name is None there"):
        run_experiment(shop, settings(), tmp_path / "first", seed=1, report=False, resume=True, start_from=earlier)
    again = run_experiment(shop, settings(), tmp_path / "on", seed=1, report=False, resume=True, start_from=earlier)
    assert again.skipped
    run_experiment(shop, settings(), tmp_path / "first", seed=2, report=False)
    other = load_bundle(tmp_path / "first" / "bundle")  # Of the same data.
    with pytest.raises(TrainingError, match=r"another finished run: continued_from\.bundle is"):
        run_experiment(shop, settings(), tmp_path / "on", seed=1, report=False, resume=True, start_from=other)


def test_the_models_recommended_training_stands_under_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    recommended = (("epochs", 7), ("optimiser.learning_rate", 0.5), ("optimiser.schedule", "cosine"))
    monkeypatch.setitem(mkm_sr.ENTRIES, "mkm-sr", replace(MODELS["mkm-sr"], training=recommended))
    given = {"optimiser": {"learning_rate": 0.25}}
    for training in (given, TrainingConfig.model_validate(given)):
        config = ExperimentConfig.model_validate({"model": {"name": "mkm-sr"}, "training": training})
        assert config.training.epochs == 7
        assert (config.training.optimiser.learning_rate, config.training.optimiser.schedule) == (0.25, "cosine")
        assert config.training.batch_size == 128
    assert ExperimentConfig.model_validate({"model": {"name": "pop"}}).training == TrainingConfig()


@pytest.mark.parametrize(("name", "triples"), [("mkm-sr", 512), ("km-sr", 512), ("m-sr", 256), ("compass", 256)])
def test_models_of_the_paper_with_the_knowledge_task_take_512_triples_a_step(name: str, triples: int) -> None:
    assert ExperimentConfig.model_validate({"model": {"name": name}}).training.triple_batch_size == triples


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"name": "mkm-s"}}, "no model 'mkm-s', did you mean"),
        ({"model": {"dim": 8}}, "model.name"),
        ({"model": {"name": "mkm-sr", "dimm": 8}}, "model.dimm: unknown key, did you mean 'dim'"),
        ({"model": {"name": "mkm-sr"}, "training": {"epoch": 8}}, "training.epoch: unknown key, did you mean 'epochs'"),
        ({"model": {"name": "mkm-sr"}, "training": {"loss": {"margn": 8}}}, "did you mean 'margin'"),
        ({"model": {"name": "mkm-sr"}, "trainig": {}}, "trainig: unknown key, did you mean 'training'"),
        ({"model": {"name": "mkm-sr"}, "training": {"epochs": 0}}, "training.epochs: .*greater than or equal to 1"),
        ({}, "model: Field required"),
    ],
)
def test_a_wrong_setting_is_named_with_the_nearest_right_one(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(ExperimentConfig, values)


def test_a_wrong_selection_metric_or_device_is_an_error_before_anything_is_written(
    shop: PreparedDataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"training.select: no metric 'mmr@20', did you mean 'mrr@20'"):
        run_experiment(shop, settings(select="mmr@20"), tmp_path / "run")
    with pytest.raises(ConfigError, match="no device 'abacus'"):
        run_experiment(shop, settings(), tmp_path / "run", device="abacus")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_without_examples_is_an_error_before_an_older_run_is_removed(
    shop: PreparedDataset, tmp_path: Path, split: str
) -> None:
    run_experiment(shop, settings("pop"), tmp_path, report=False)
    bare = replace(shop, **{split: SessionTable.empty()})
    with pytest.raises(
        EvaluationError, match=f"the {split} split has no examples: .* more data or a larger share helps"
    ):
        run_experiment(bare, settings("pop"), tmp_path)
    assert (tmp_path / "metrics.json").is_file()


def test_selection_may_use_any_list_length(shop: PreparedDataset, tmp_path: Path) -> None:
    run_experiment(shop, settings(select="hit@3", epochs=1), tmp_path, report=False)
    assert {"hit@3", "mrr@20"} <= set(read_history(tmp_path / "history.jsonl")[0].validation)

"""The search: spaces that fit their models, equal budgets, validation alone, early stops, and resumption."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mkmsr.config import dotted, nested, read_toml, validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.models.base import TrainingData
from mkmsr.models.entry import Choice, Range, Value
from mkmsr.models.registry import MODELS
from mkmsr.runs.config import ExperimentConfig, new_model
from mkmsr.runs.search import search_space, tune
from mkmsr.runs.study import Study, TrialRecord
from mkmsr.runtime.events import Event, JobStarted
from tests.small_shop import small_shop


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune") / "shop"
    small_shop().save(folder)
    return folder


SMALL: Mapping[str, Any] = {
    "model": {"name": "m-sr", "dim": 8, "scale": 16.0},
    "training": {"epochs": 2, "batch_size": 64, "optimiser": {"schedule": "constant"}},
}


def drawn(each: Choice | Range, chance: random.Random) -> Value:
    return chance.choice(each.values) if isinstance(each, Choice) else chance.uniform(each.low, each.high)


# --- search spaces


def test_every_model_with_settings_has_a_space() -> None:
    assert {name for name, entry in MODELS.items() if not entry.space} == {"pop", "s-pop"}


@pytest.mark.parametrize("name", list(MODELS))
def test_every_point_of_a_space_is_a_valid_setting_and_so_is_the_default(name: str) -> None:
    start = validate(ExperimentConfig, {"model": {"name": name}})
    space = search_space(start, {"model": {"name": name}})
    chance = random.Random(name)
    for _ in range(30):
        values = {"model.name": name, **{key: drawn(each, chance) for key, each in space.items()}}
        validate(ExperimentConfig, nested(values))
    for key, each in space.items():
        value = dotted(start.model_dump(mode="json"))[key]
        assert value in each.values if isinstance(each, Choice) else each.low <= value <= each.high


def test_what_is_set_is_not_searched() -> None:
    start = validate(ExperimentConfig, SMALL)
    space = search_space(start, SMALL)
    assert "model.dropout" in space
    assert not {"model.scale", "training.batch_size", "training.optimiser.schedule"} & space.keys()


# --- the study


def study(folder: Path, *, seed: int = 0) -> Study:
    return Study(
        folder,
        {"model.dropout": Choice((0.0, 0.5)), "training.optimiser.learning_rate": Range(1e-3, 1e-1)},
        defaults={"model.dropout": 0.5, "training.optimiser.learning_rate": 0.01},
        depends_on={"seed": seed},
        seed=seed,
        warmup=1,
        parallel=False,
    )


def test_the_defaults_are_the_first_trial(tmp_path: Path) -> None:
    assert study(tmp_path).propose().settings == {"model.dropout": 0.5, "training.optimiser.learning_rate": 0.01}


def test_a_trial_below_the_median_is_hopeless_once_there_are_others(tmp_path: Path) -> None:
    searched = study(tmp_path)
    for quality in (0.1, 0.2, 0.3, 0.4, 0.5):
        proposal = searched.propose()
        assert not any(proposal.is_hopeless(epoch, quality) for epoch in (1, 2, 3))
        searched.finish(proposal, TrialRecord(proposal.number, "complete", proposal.settings, quality))
    bad, good = searched.propose(), searched.propose()
    assert [bad.is_hopeless(epoch, 0.15) for epoch in (1, 2)] == [False, True]
    assert not any(good.is_hopeless(epoch, 0.45) for epoch in (1, 2, 3))


@pytest.mark.slow
def test_an_interrupted_study_proposes_what_it_would_have_proposed(tmp_path: Path) -> None:
    def trial(searched: Study) -> Mapping[str, Value]:
        proposal = searched.propose()
        value = -abs(float(proposal.settings["training.optimiser.learning_rate"]) - 0.05)
        searched.finish(proposal, TrialRecord(proposal.number, "complete", proposal.settings, value))
        return proposal.settings

    whole = study(tmp_path / "whole", seed=4)
    expected = [trial(whole) for _ in range(12)]
    found = []
    for number in range(12):
        searched = study(tmp_path / "killed", seed=4)  # a new process each time
        if number in (3, 8):
            lost = searched.propose()  # killed before it is over
            assert lost.settings == expected[number]
            searched = study(tmp_path / "killed", seed=4)
        found.append(trial(searched))
    assert found == expected
    assert [record.number for record in study(tmp_path / "killed", seed=4).records()] == list(range(12))


@pytest.mark.parametrize("moment", ["before it is drawn", "while it runs", "twice"])
def test_the_promised_first_trial_is_not_lost_by_a_kill(tmp_path: Path, moment: str) -> None:
    expected = study(tmp_path / "whole", seed=4).propose().settings
    searched = study(tmp_path / "killed", seed=4)
    if moment == "before it is drawn":
        searched._study.ask()
    else:
        assert searched.propose().settings == expected
    if moment == "twice":
        study(tmp_path / "killed", seed=4)
    found = study(tmp_path / "killed", seed=4).propose()
    assert (found.number, found.settings) == (0, expected)


def test_the_first_trial_comes_again_although_one_beside_it_was_over_before_the_kill(tmp_path: Path) -> None:
    searched = study(tmp_path, seed=4)
    first, second = searched.propose(), searched.propose()
    searched.finish(second, TrialRecord(second.number, "complete", second.settings, 0.5))
    again = study(tmp_path, seed=4)
    assert again.propose().settings == first.settings
    assert again.propose().number == 2


# --- searches


def interrupt(event: Event) -> None:
    """Break off when the third trial has been proposed."""
    if event == JobStarted("trial-002"):
        raise KeyboardInterrupt


def told(records: tuple[TrialRecord, ...]) -> list[TrialRecord]:
    return [replace(record, seconds=0.0) for record in records]


@pytest.fixture(scope="module")
def searched(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("searched")
    return tune(data, SMALL, folder, trials=4, seed=2), folder


def test_the_best_trial_becomes_a_settings_file(data: Path, searched: Any) -> None:
    result, folder = searched
    assert [record.number for record in result.trials] == [0, 1, 2, 3]
    complete = [record for record in result.trials if record.state == "complete"]
    assert result.best.value == max(record.value for record in complete)
    assert result.best.value > 0
    chosen = read_toml(folder / "chosen.toml")
    assert validate(ExperimentConfig, chosen) == result.config
    assert (chosen["model"]["dim"], chosen["training"]["epochs"]) == (8, 2)
    assert chosen["model"]["dropout"] == result.best.settings["model.dropout"]
    with (folder / "trials.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == sorted((float(row["value"]) for row in rows), reverse=True)
    assert (folder / "logs" / "trial-000.log").is_file()


def test_a_known_plan_can_be_the_first_trial_and_is_searched_around(data: Path, tmp_path: Path) -> None:
    plan = {
        "model": {"dropout": 0.25},
        "training": {"optimiser": {"learning_rate": 0.03, "weight_decay": 0.01}, "epochs": 9},
    }
    result = tune(data, SMALL, tmp_path, trials=2, first=plan)
    first, second = result.trials
    assert (first.settings["model.dropout"], first.settings["training.optimiser.learning_rate"]) == (0.25, 0.03)
    assert second.settings != first.settings
    assert (result.config.training.optimiser.weight_decay, result.config.training.epochs) == (0.01, 2)  # as SMALL says


def test_a_search_that_was_broken_off_comes_to_the_same_trials(data: Path, searched: Any, tmp_path: Path) -> None:
    result, _ = searched
    with pytest.raises(KeyboardInterrupt):
        tune(data, SMALL, tmp_path, trials=4, seed=2, listener=interrupt)
    again = tune(data, SMALL, tmp_path, trials=4, seed=2)
    assert told(again.trials) == told(result.trials)
    # Nothing is left to do: the same result comes from the file.
    assert told(tune(data, SMALL, tmp_path, trials=4, seed=2).trials) == told(result.trials)


def test_the_test_sessions_have_no_say(data: Path, searched: Any, tmp_path: Path) -> None:
    result, _ = searched
    shop = small_shop()
    other = replace(shop, test=replace(shop.test, items=shop.test.items[::-1].copy()))
    other.save(tmp_path / "shop")
    again = tune(tmp_path / "shop", SMALL, tmp_path / "search", trials=2, seed=2)
    assert told(again.trials) == told(result.trials[:2])


def test_a_folder_of_another_search_is_refused(data: Path, searched: Any) -> None:
    _, folder = searched
    with pytest.raises(ConfigError, match="holds a search that differs in seed; choose another folder"):
        tune(data, SMALL, folder, trials=4, seed=3)


def test_a_model_without_weights_is_searched_and_one_without_settings_has_one_trial(data: Path, tmp_path: Path) -> None:
    base = {"model": {"name": "v-sknn"}}
    result = tune(data, base, tmp_path / "v-sknn", trials=3)
    assert [record.best_epoch for record in result.trials] == [0, 0, 0]
    assert "idf_weight" in read_toml(result.path)["model"]
    assert len(tune(data, {"model": {"name": "pop"}}, tmp_path / "pop", trials=3).trials) == 1


def test_failed_trials_count_and_their_reason_is_told(data: Path, tmp_path: Path) -> None:
    broken = {**SMALL, "training": {**SMALL["training"], "select": "mrr@x"}}
    with pytest.raises(ConfigError, match=r"no trial was completed: .*no metric 'mrr@x'"):
        tune(data, broken, tmp_path, trials=2)


def test_more_spans_judge_by_their_mean(data: Path, tmp_path: Path) -> None:
    base = {"model": {"name": "v-sknn"}}
    (alone,) = tune(data, base, tmp_path / "one", trials=1).trials
    (steady,) = tune(data, base, tmp_path / "three", trials=1, windows=3).trials
    shop = PreparedDataset.load(data)
    values = []
    for windows in range(3):
        past = shop.earlier(windows)
        model = new_model(past, validate(ExperimentConfig, base), 0)
        model.observe(TrainingData(past.train, past.examples(past.train), past.knowledge))
        values.append(evaluate(model, past.evaluation_split("validation")).metrics()["mrr@20"])
    assert alone.value == pytest.approx(values[0])
    assert steady.value == pytest.approx(np.mean(values))
    assert "mean over 3 spans" in (tmp_path / "three" / "chosen.toml").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="differs in windows"):
        tune(data, base, tmp_path / "three", trials=2, windows=2)

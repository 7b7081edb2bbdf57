"""An ensemble is the mean of its networks, in every respect, and each of them is what it would be alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_shop import batch_of, fitted, small_shop

from mkmsr.bundle.continuation import carry_over
from mkmsr.bundle.model_bundle import load_bundle, new_bundle, save_bundle
from mkmsr.data.dataset import PreparedDataset
from mkmsr.models.compass.ensemble import CompassEnsemble
from mkmsr.recommend import Recommender
from mkmsr.runs.config import ExperimentConfig, new_model
from mkmsr.runs.experiment import run_experiment
from mkmsr.runtime.events import EpochRecord, Event, PhaseStarted
from mkmsr.training.history import read_history


@pytest.fixture(scope="module")
def shop() -> PreparedDataset:
    return small_shop()


def experiment(name: str, **model: object) -> ExperimentConfig:
    training = {"epochs": 2, "batch_size": 32, "optimiser": {"learning_rate": 0.02}, "threads": 1}
    return ExperimentConfig.model_validate({"model": {"name": name, "dim": 8, **model}, "training": training})


def ensemble(folder: Path) -> CompassEnsemble:
    model = load_bundle(folder / "bundle").model
    assert isinstance(model, CompassEnsemble)
    return model


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_bundle(folder / "bundle").model.state_dict()


@pytest.fixture(scope="module")
def run(shop: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    run_experiment(shop, experiment("compass-ensemble", networks=2), folder, seed=3, refit=True, report=False)
    return folder


def test_the_score_is_the_logarithm_of_the_mean_probability(shop: PreparedDataset, run: Path) -> None:
    model, batch = ensemble(run), batch_of(shop)
    with torch.no_grad():
        expected = torch.stack([each.score(batch).exp() for each in model.members]).mean(0).log()
        torch.testing.assert_close(model.score(batch), expected)
        likelihood = model.log_likelihood(batch)
        assert likelihood is not None
        of_each = [each.log_likelihood(batch) for each in model.members]
        mean = torch.stack([each.exp() for each in of_each if each is not None]).mean(0)
        torch.testing.assert_close(likelihood.exp(), mean)


def test_the_first_network_is_compass_of_that_seed_and_the_others_are_not(
    shop: PreparedDataset, run: Path, tmp_path: Path
) -> None:
    run_experiment(shop, experiment("compass"), tmp_path, seed=3, refit=True, report=False)
    alone, together = state(tmp_path), state(run)
    from_first, of_second = (
        {name.removeprefix(f"networks.{k}."): each for name, each in together.items() if f"networks.{k}." in name}
        for k in (0, 1)
    )
    assert from_first.keys() == of_second.keys() == alone.keys()
    assert [name for name, each in from_first.items() if not torch.equal(each, alone[name])] == []
    assert not torch.equal(of_second["vectors.ids.weight"], alone["vectors.ids.weight"])
    assert torch.equal(of_second["prior.popularity"], alone["prior.popularity"])


def test_further_networks_take_the_epochs_of_the_first_and_look_at_no_validation(run: Path) -> None:
    for folder in (run, run / "refit"):
        first, second = (read_history(each / "history.jsonl") for each in (folder, folder / "network-2"))
        assert [each.epoch for each in second] == [each.epoch for each in first] == [1, 2]
        assert all(each.validation == {} for each in second)
        assert [each.train_loss for each in second] != [each.train_loss for each in first]
    assert all(each.validation for each in read_history(run / "history.jsonl"))


class _StopAt:
    def __init__(self, epochs: int) -> None:
        self.left, self.heard = epochs, list[str]()

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self.heard.append(event.name)
        self.left -= isinstance(event, EpochRecord)
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 3, 7])
def test_an_interrupted_run_is_taken_up_in_whichever_network_it_was(
    shop: PreparedDataset, run: Path, tmp_path: Path, epochs: int
) -> None:
    config, listener = experiment("compass-ensemble", networks=2), _StopAt(epochs)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(shop, config, tmp_path, seed=3, refit=True, report=False, listener=listener)
    fits = ["fit", "network 1 of 2", "network 2 of 2", "validation", "refit", "network 1 of 2", "network 2 of 2"]
    assert listener.heard == fits[: len(listener.heard)]
    run_experiment(shop, config, tmp_path, seed=3, refit=True, report=False, resume=True)
    expected, found = state(run), state(tmp_path)
    assert all(torch.equal(each, found[name]) for name, each in expected.items())


def test_an_overwritten_run_leaves_no_network_behind(shop: PreparedDataset, tmp_path: Path) -> None:
    run_experiment(shop, experiment("compass-ensemble", networks=2), tmp_path, report=False)
    assert (tmp_path / "network-2").is_dir()
    run_experiment(shop, experiment("compass"), tmp_path, report=False)
    assert not (tmp_path / "network-2").exists()


def test_a_new_item_is_placed_by_every_network_and_saved(run: Path, tmp_path: Path) -> None:
    recommender = Recommender.load(run / "bundle")
    recommender.add_items({"new": {"colour": "red", "brand": "brand-0"}})
    recommender.save(tmp_path / "grown")
    session = [("plain", "click"), ("item-03", "cart")]
    for each in (recommender, Recommender.load(tmp_path / "grown")):
        model = each.bundle.model
        assert isinstance(model, CompassEnsemble)
        assert {each.sizes.num_items for each in (model, *model.members)} == {len(recommender.bundle.items)}
        (found,) = [item for item in each.recommend(session, k=37).items if item.item == "new"]
        assert found.score > -12


def test_a_continuation_starts_every_network_from_its_own(shop: PreparedDataset, run: Path) -> None:
    earlier, config = load_bundle(run / "bundle"), experiment("compass-ensemble", networks=3)
    model = new_model(shop, config, 9)
    fresh = {name: each.clone() for name, each in model.named_parameters()}
    carry_over(model, config.settings(), shop, earlier)
    old = dict(earlier.model.named_parameters())
    for name, parameter in model.named_parameters():
        # A third network starts anew.
        assert torch.equal(parameter, old.get(name, fresh[name])), name


def test_memory_of_networks_is_not_shared_after_loading(shop: PreparedDataset, tmp_path: Path) -> None:
    config, model = fitted("compass-ensemble", shop, dim=8, networks=2)
    save_bundle(tmp_path / "b", new_bundle(model, name="compass-ensemble", config=config, dataset=shop, metrics={}))
    loaded = load_bundle(tmp_path / "b").model
    assert isinstance(loaded, CompassEnsemble)
    first, second = loaded.members
    with torch.no_grad():
        for each in first.parameters():
            each.zero_()
    assert any(bool(each.any()) for each in second.parameters())

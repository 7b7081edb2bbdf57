"""Visitors taken out of prepared data and bundles, against what is built without them from the start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from small_shop import fitted, small_shop

from mkmsr.bundle.forgetting import forget
from mkmsr.bundle.model_bundle import load_bundle, new_bundle, save_bundle
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.log import InteractionLog
from mkmsr.errors import BundleError, DataError
from mkmsr.models.base import SessionModel


@dataclass(frozen=True)
class Shop:
    data: Path
    bundle: Path

    @property
    def dataset(self) -> PreparedDataset:
        return PreparedDataset.load(self.data)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    small_shop().save(tmp_path / "data")
    save(tmp_path / "bundle", PreparedDataset.load(tmp_path / "data"), "v-sknn")
    return Shop(tmp_path / "data", tmp_path / "bundle")


def save(path: Path, dataset: PreparedDataset, name: str) -> SessionModel:
    config, model = fitted(name, dataset)
    save_bundle(path, new_bundle(model, name=name, config=config, dataset=dataset))
    return model


def events_of(dataset: PreparedDataset, *sessions: int, times: bool = True) -> InteractionLog:
    """The log of some training sessions, and of an item that the data do not know."""
    table = dataset.train
    events = np.flatnonzero(np.isin(table.session_of_event, sessions))
    columns = {
        "user_id": ["u"] * (len(events) + 1),
        "item_id": [*(dataset.items.id(int(item)) for item in table.items[events]), "a stranger"],
        "operation": ["click"] * (len(events) + 1),
        "row": range(len(events) + 1),
        **({"time": [*table.times[events].tolist(), 7]} if times else {}),
    }
    return InteractionLog(pl.DataFrame(columns).lazy())


def test_the_sessions_of_the_events_go_and_all_others_stay(shop: Shop) -> None:
    before = shop.dataset
    found = forget(shop.data, events_of(before, 3, 5))
    after = shop.dataset
    assert found.sessions == {"train": 2, "validation": 0, "test": 0}
    assert found.events == int(before.train.lengths[[3, 5]].sum())
    expected = before.train.select(~np.isin(before.train.session_of_event, [3, 5]))
    assert np.array_equal(after.train.items, expected.items)
    assert np.array_equal(after.train.offsets, expected.offsets)
    assert len(after.validation) == len(before.validation)
    assert len(after.test) == len(before.test)
    assert after.metadata["forgotten_sessions"] == 2


def test_a_session_with_another_event_stays(shop: Shop) -> None:
    log = events_of(shop.dataset, 3)
    log = InteractionLog(log.events.slice(1))
    assert forget(shop.data, log, [shop.bundle]).events == 0


@pytest.mark.parametrize("name", ["v-sknn", "stan", "compass"])
def test_a_bundle_keeps_what_a_model_without_these_sessions_would(tmp_path: Path, shop: Shop, name: str) -> None:
    save(tmp_path / name, shop.dataset, name)
    found = forget(shop.data, events_of(shop.dataset, 3, 5), [tmp_path / name])
    assert found.bundles == {str(tmp_path / name): 2}
    left, expected = load_bundle(tmp_path / name).model.state_dict(), save(tmp_path / "new", shop.dataset, name)
    of_index = {key: tensor for key, tensor in expected.state_dict().items() if "index." in key}
    assert len(of_index) >= 6
    for key, tensor in of_index.items():
        assert torch.equal(left[key], tensor), key


def test_a_call_that_was_broken_off_after_a_bundle_is_finished_by_the_same_call(tmp_path: Path, shop: Shop) -> None:
    before = shop.dataset
    forget(shop.data, events_of(before, 3), [shop.bundle])
    before.save(shop.data)  # as it was when the bundle was done
    found = forget(shop.data, events_of(before, 3), [shop.bundle])
    assert found.sessions["train"] == 1
    assert found.bundles == {str(shop.bundle): 0}
    assert len(shop.dataset.train) == len(before.train) - 1


def test_a_bundle_of_other_data_is_refused_and_nothing_changes(shop: Shop) -> None:
    before = shop.dataset
    forget(shop.data, events_of(before, 3))
    with pytest.raises(BundleError, match="learnt from other data"):
        forget(shop.data, events_of(before, 5), [shop.bundle])
    assert len(shop.dataset.train) == len(before.train) - 1


def test_events_without_times_and_all_sessions_at_once_are_refused(shop: Shop) -> None:
    with pytest.raises(DataError, match="has no times"):
        forget(shop.data, events_of(shop.dataset, 3, times=False))
    with pytest.raises(DataError, match="remove the folder"):
        forget(shop.data, events_of(shop.dataset, *range(len(shop.dataset.train))))


def test_a_bundle_says_of_sessions_only_what_scores_need(shop: Shop) -> None:
    saved = {name for name in load_bundle(shop.bundle).model.state_dict() if name.startswith("index.")}
    lists = {"index.postings", "index.posting_events", "index.item_offsets"}
    assert saved == {"index.items", "index.item_events", "index.session_offsets", "index.ages", *lists}
    assert load_bundle(shop.bundle).model.state_dict()["index.ages"].numel() == 0

"""A saved model on data prepared elsewhere: the same events in another vocabulary give the same ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_shop import fitted, small_shop

from mkmsr.bundle.alignment import aligned_split
from mkmsr.bundle.model_bundle import ModelBundle, load_bundle, new_bundle, save_bundle
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.sessions import SessionTable, earlier_items
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.evaluation.evaluator import evaluate


@pytest.fixture(scope="module")
def visitors() -> PreparedDataset:
    """The small shop with seven visitors who come again and again."""
    shop = small_shop()
    tables = (shop.train, shop.validation, shop.test)
    owners = [np.arange(len(table)) % 7 for table in tables]
    known = (replace(t, earlier=each) for t, each in zip(tables, earlier_items(tables, owners), strict=True))
    train, validation, test = known
    return replace(shop, train=train, validation=validation, test=test)


@pytest.fixture
def bundle(visitors: PreparedDataset, tmp_path: Path) -> ModelBundle:
    config, model = fitted("compass", visitors, dim=8, earlier_visits=True)
    saved = save_bundle(tmp_path / "b", new_bundle(model, name="compass", config=config, dataset=visitors, metrics={}))
    return load_bundle(saved)


def renamed(dataset: PreparedDataset, more: int = 0) -> PreparedDataset:
    """The same data with items numbered the other way round, and so many items more that nobody touches."""
    count = len(dataset.items)
    place = np.concatenate([[0], np.arange(count, 0, -1)]).astype(np.int32)

    def table(old: SessionTable) -> SessionTable:
        assert old.earlier is not None
        return replace(old, items=place[old.items], earlier=replace(old.earlier, items=place[old.earlier.items]))

    names = [*reversed(dataset.items.ids), *(f"nobody's {n}" for n in range(more))]
    tables = {name: table(getattr(dataset, name)) for name in ("train", "validation", "test")}
    return replace(dataset, items=Vocabulary(names, kind="item"), **tables)


def test_another_vocabulary_changes_no_rank_with_visitors_known(bundle: ModelBundle, visitors: PreparedDataset) -> None:
    own = evaluate(bundle.model, aligned_split(bundle, visitors, "test"))
    mapped = aligned_split(bundle, renamed(visitors), "test")
    assert mapped.examples.sessions.earlier is not None
    assert (evaluate(bundle.model, mapped).rank == own.rank).all()


def test_earlier_items_that_the_model_does_not_know_are_passed_over(
    bundle: ModelBundle, visitors: PreparedDataset
) -> None:
    other = renamed(visitors, more=1)
    test, strange = other.test, len(other.items)
    assert test.earlier is not None
    items = test.earlier.items.copy()
    first = int(test.earlier.offsets[3])
    items[first] = strange
    changed = replace(other, test=replace(test, earlier=replace(test.earlier, items=items)))
    found = aligned_split(bundle, changed, "test").examples.sessions.earlier
    assert found is not None
    assert len(found.items) == len(items) - 1
    counts, before = np.diff(found.offsets), np.diff(test.earlier.offsets)
    assert (before - counts).tolist() == [int(row == 3) for row in range(len(before))]

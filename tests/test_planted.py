"""Planted logs hold the answer that they promise, and nothing that gives it away."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from planted import attributes_link, deterministic, operation_decides, repeats

from mkmsr.data.dataset import PreparedDataset


def followers(dataset: PreparedDataset, *, by_operation: bool) -> dict[tuple[int, ...], Counter[int]]:
    """How often each item follows an item (and operation) in training."""
    table = dataset.examples(dataset.train)
    items, operations = table.sessions.items[table.end - 1], table.sessions.operations[table.end - 1]
    found: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for item, operation, target in zip(items.tolist(), operations.tolist(), table.targets.tolist(), strict=True):
        found[(item, operation) if by_operation else (item,)][target] += 1
    return found


def test_item_and_operation_decide_the_next_item_and_the_item_alone_does_not():
    dataset = operation_decides(operations=4)
    assert {len(each) for each in followers(dataset, by_operation=True).values()} == {1}
    for counts in followers(dataset, by_operation=False).values():
        assert len(counts) == 4
        assert max(counts.values()) < 0.5 * sum(counts.values())


def test_each_item_has_one_successor():
    dataset = deterministic(items=30)
    assert [len(each) for each in followers(dataset, by_operation=False).values()] == [1] * 30


def test_the_same_item_follows_a_cart_and_never_a_click():
    dataset = repeats()
    cart = dataset.operations.index("cart")
    for (item, operation), counts in followers(dataset, by_operation=True).items():
        assert (counts[item] == sum(counts.values())) if operation == cart else (item not in counts)


def test_cold_targets_share_an_attribute_with_the_prefix_and_nothing_else():
    dataset = attributes_link()
    table = dataset.examples(dataset.test)
    cold = ~dataset.seen_before("test")[table.targets]
    assert cold.mean() == pytest.approx(0.5)
    series = dataset.knowledge.triples[:, 2]
    first = dataset.test.items[table.begin]
    assert np.array_equal(series[table.targets - 1], series[first - 1])
    assert not set(table.targets[cold]) & set(dataset.train.items)


@pytest.mark.parametrize("make", [operation_decides, attributes_link, repeats, deterministic])
def test_a_seed_decides_a_planted_log(make):
    assert make().fingerprint == make().fingerprint
    assert make().fingerprint != make(seed=1).fingerprint

"""What the numbers of Figure 4 mean, and which items they are of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.errors import DataError
from mkmsr.paper.item_space import (
    chance_purity,
    choose_items,
    closeness,
    default_attribute,
    item_difference,
    later_pairs,
    neighbour_purity,
    pairs_of_sessions,
)
from tests.small_shop import small_shop


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


def test_data_without_knowledge_have_nothing_to_colour_by() -> None:
    shop = small_shop()
    with pytest.raises(DataError, match="nothing can colour a map"):
        default_attribute(replace(shop, knowledge=KnowledgeGraph.empty(len(shop.items))))

"""The catalogue of the simulated shop: categories, shops and brands, popularity, launches, companions of items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ACCESSORIES = 3
"""Companions of each item."""
DAY = 86_400


@dataclass(frozen=True)
class Shop:
    """What is on sale.

    Args:
        groups: Category, shop and brand of each item. Shape [3, items].
        second_category: Another category, or -1. Shape [items].
        weights: Popularity, not normalised. Shape [items].
        launch: When the item comes up for sale, seconds since 1970 (UTC); 0 is always. Shape [items].
        launch_year: Shape [items].
        accessories: Companions of each item. Shape [items, ACCESSORIES].
    """

    groups: NDArray[np.int64]
    second_category: NDArray[np.int64]
    weights: NDArray[np.float64]
    launch: NDArray[np.int64]
    launch_year: NDArray[np.int64]
    accessories: NDArray[np.int64]


class GroupSampler:
    """Draws items of given groups by weight: each group is an interval of the running sum of weights.

    Args:
        groups: Group of each item, from 0. Shape [items].
        weights: Shape [items].
    """

    def __init__(self, groups: NDArray[np.int64], weights: NDArray[np.float64]):
        self.order = np.argsort(groups, kind="stable")
        self.running = np.concatenate([[0.0], np.cumsum(weights[self.order])])
        self.bounds = np.searchsorted(groups[self.order], np.arange(groups.max() + 2))

    def draw(self, group: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """One item of each given group, which must not be empty. Shape as `group`."""
        begin, end = self.bounds[group], self.bounds[group + 1]
        low, high = self.running[begin], self.running[end]
        place = np.searchsorted(self.running, low + (high - low) * rng.random(len(group)), side="right") - 1
        drawn: NDArray[np.int64] = self.order[np.clip(place, begin, end - 1)]
        return drawn


def stock_shop(
    *, items: int, cold_items: float, popularity: float, start: int, days: int, rng: np.random.Generator
) -> Shop:
    """A catalogue of about 125 items a category; most shops and brands sell mainly in one of them.

    Args:
        items: Items in all.
        cold_items: Share of items launched in the last sixth of the log.
        popularity: Exponent of Zipf's law.
        start: First second of the log.
        days: Days of the log.
        rng: Source of all randomness.
    """
    categories = max(4, items // 125)
    category = np.concatenate([np.arange(categories), _skewed(rng, categories, items - categories, 0.4)])
    groups = np.stack([category, _near(category, categories, 5, rng), _near(category, categories, 6, rng)])
    weights = np.power(rng.permutation(items) + 10.0, -popularity).astype(np.float64)
    cold = rng.choice(np.arange(categories, items), int(items * cold_items), replace=False)
    launch = np.zeros(items, np.int64)
    launch[cold] = start + days * DAY - rng.integers(0, days * DAY // 6, len(cold))
    year = 1970 + int(start / (365.2425 * DAY))
    launch_year = year - np.minimum(rng.geometric(0.3, items), 9)
    launch_year[cold] = year
    companions = GroupSampler(category, np.where(launch > 0, 0.2, 1.0) * weights**0.5)
    beside = (category + 1) % categories
    accessories = np.stack([companions.draw(beside, rng) for _ in range(ACCESSORIES)], axis=1)
    another = (category + rng.integers(1, categories, items)) % categories
    second_category = np.where(rng.random(items) < 0.15, another, -1)
    weights[cold] *= 3.0  # a launch is advertised
    return Shop(groups, second_category, weights, launch, launch_year, accessories)


def _near(category: NDArray[np.int64], categories: int, each: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A group for each item: `each` groups a category, one item in four goes to a group of the next category."""
    home = (category + (rng.random(len(category)) < 0.25)) % categories
    return home * each + _skewed(rng, each, len(category), 0.7)


def _skewed(rng: np.random.Generator, values: int, size: int, exponent: float) -> NDArray[np.int64]:
    weights = np.arange(1, values + 1) ** -exponent
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(size)).clip(max=values - 1)

"""How item vectors lie: are neighbours of one kind, and are items that occur together close? One number an item.

Cosine similarity throughout. Dimension letters: m items, D embedding size, A values of the attribute, k neighbours,
p pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ItemDifference", "chance_purity", "closeness", "item_difference", "neighbour_purity"]

_CHUNK = 512
_OTHERS = 100
"""Random items that each pair is compared with."""
_SAMPLES = 5000

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ItemDifference:
    """Mean difference between two spaces, over items.

    Args:
        difference: First minus second.
        low: Lower end of the 95 % interval over resampled items.
        high: Upper end.
    """

    difference: float
    low: float
    high: float


def neighbour_purity(vectors_mD: Vectors, has_mA: NDArray[np.bool_], *, neighbours: int = 10) -> NDArray[np.float64]:
    """The share of each item's nearest neighbours that have one of its values. Shape [m], 0..1.

    Args:
        vectors_mD: Item vectors.
        has_mA: Which item has which value of the attribute.
        neighbours: k; fewer where there are not so many other items.
    """
    unit_mD = _unit(vectors_mD)
    k = min(neighbours, len(unit_mD) - 1)
    shares = np.empty((len(unit_mD), k))
    for begin in range(0, len(unit_mD), _CHUNK):
        rows = np.arange(begin, min(begin + _CHUNK, len(unit_mD)))
        similar = unit_mD[rows] @ unit_mD.T
        similar[np.arange(len(rows)), rows] = -np.inf
        nearest = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        for place in range(k):
            shares[rows, place] = (has_mA[rows] & has_mA[nearest[:, place]]).any(axis=1)
    purity: NDArray[np.float64] = shares.mean(axis=1)
    return purity


def chance_purity(has_mA: NDArray[np.bool_], *, draws: int = 200_000, seed: int = 0) -> float:
    """The purity that random neighbours have: how often two different items share a value, 0..1."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(has_mA), draws)
    second = (first + rng.integers(1, len(has_mA), draws)) % len(has_mA)
    return float((has_mA[first] & has_mA[second]).any(axis=1).mean())


def closeness(vectors_mD: Vectors, pairs_p2: NDArray[np.int64], *, seed: int = 0) -> NDArray[np.float64]:
    """How close the items of given pairs are, for each item that occurs in one; NaN for the others. Shape [m], 0..1.

    For a pair (a, b): the share of random items c that are farther from a than b is, ties by half. 0.5 is chance, 1 is
    closer than all others. An item's value is the mean over its pairs, in both directions.
    """
    unit_mD = _unit(vectors_mD)
    rng = np.random.default_rng(seed)
    both = np.concatenate([pairs_p2, pairs_p2[:, ::-1]])
    values = np.empty(len(both))
    for begin in range(0, len(both), _CHUNK):
        first, second = both[begin : begin + _CHUNK].T
        others = rng.integers(0, len(unit_mD), (len(first), _OTHERS))
        own = np.einsum("pd,pd->p", unit_mD[first], unit_mD[second])[:, None]
        random = np.einsum("pd,pod->po", unit_mD[first], unit_mD[others])
        valid = (others != first[:, None]) & (others != second[:, None])
        won = ((own > random) + 0.5 * (own == random)) * valid
        values[begin : begin + _CHUNK] = won.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
    sums = np.bincount(both[:, 0], weights=values, minlength=len(unit_mD))
    counts = np.bincount(both[:, 0], minlength=len(unit_mD))
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def item_difference(first_m: NDArray[np.float64], second_m: NDArray[np.float64], *, seed: int = 0) -> ItemDifference:
    """The mean difference of two values of the same items, with its interval over resampled items, without NaNs."""
    difference = (first_m - second_m)[~np.isnan(first_m) & ~np.isnan(second_m)]
    if len(difference) == 0:
        return ItemDifference(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    means = [difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(_SAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return ItemDifference(float(difference.mean()), float(low), float(high))


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
    return unit

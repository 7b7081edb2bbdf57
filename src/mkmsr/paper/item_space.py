"""The items that Figure 4 looks at, which of them occur together, and how their vectors lie. One number an item.

Cosine similarity throughout. Dimension letters: m items, D embedding size, A values of the attribute, k neighbours,
p pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.sessions import SessionTable
from mkmsr.errors import DataError, nearest

MOST_SHOWN = 2000
"""Items on a map."""
MOST_COLOURS = 8
"""Values of the attribute that have a colour on a map."""
MOST_PAIRS = 50_000
FEWEST_ITEMS = 20

_CHUNK = 512
_OTHERS = 100
"""Random items that each pair is compared with."""
_SAMPLES = 5000
_DRAWS = 200_000

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ChosenItems:
    """The items that are looked at.

    `has` says which of the m items has which value of the attribute, [m, A]. `shown` are places in `items` of those on
    the map, `colours` places in `names`, the most frequent values, of theirs.
    """

    attribute: str
    items: NDArray[np.int64]
    has: NDArray[np.bool_]
    shown: NDArray[np.int64]
    colours: NDArray[np.int64]
    names: tuple[str, ...]


def default_attribute(dataset: PreparedDataset) -> str:
    """The relation with the fewest values, at least two: the coarsest kind of item; without one DataError is raised."""
    knowledge = dataset.knowledge
    counts = {
        name: len(np.unique(knowledge.triples[knowledge.triples[:, 1] == relation, 2]))
        for relation, name in enumerate(knowledge.relations.ids, start=1)
    }
    usable = {name: count for name, count in counts.items() if count >= 2}
    if not usable:
        raise DataError("no relation with at least two values, so that nothing can colour a map")
    return min(usable, key=lambda name: usable[name])


def choose_items(dataset: PreparedDataset, attribute: str | None, min_events: int) -> ChosenItems:
    """Choose the items with enough training events and a value of the attribute, and those of them that a map shows.

    None is `default_attribute`. An unknown relation, or too few items, raises DataError.
    """
    knowledge = dataset.knowledge
    attribute = attribute or default_attribute(dataset)
    if attribute not in knowledge.relations:
        known = knowledge.relations.ids
        hint = nearest(attribute, known) or f"; there are: {', '.join(known)}"
        raise DataError(f"no relation {attribute!r}{hint}")
    triples = knowledge.triples[knowledge.triples[:, 1] == knowledge.relations.index(attribute)]
    events = np.bincount(dataset.train.items, minlength=len(dataset.items) + 1)
    items = np.intersect1d(np.flatnonzero(events >= min_events), triples[:, 0])
    if len(items) < FEWEST_ITEMS:
        raise DataError(f"only {len(items)} items have {min_events} training events and a value of {attribute!r}")
    triples = triples[np.isin(triples[:, 0], items)]
    values, column = np.unique(triples[:, 2], return_inverse=True)
    has = np.zeros((len(items), len(values)), np.bool_)
    has[np.searchsorted(items, triples[:, 0]), column] = True
    frequent = np.argsort(-has.sum(axis=0), kind="stable")[:MOST_COLOURS]
    rows = np.flatnonzero(has[:, frequent].any(axis=1))
    shown = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_SHOWN])
    names = [knowledge.attributes.id(int(values[each]) - knowledge.num_items) for each in frequent]
    return ChosenItems(
        attribute,
        items,
        has,
        shown,
        has[shown][:, frequent].argmax(axis=1),
        tuple(name.removeprefix(f"{attribute}=") for name in names),
    )


def pairs_of_sessions(sessions: SessionTable, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Distinct pairs of the given items that share a session, as places in `items`, the smaller first. Shape [p, 2]."""
    place = np.full(int(max(sessions.items.max(initial=0), items.max())) + 1, -1, np.int64)
    place[items] = np.arange(len(items))
    kept = sessions.select(place[sessions.items] >= 0)
    found = []
    for row in range(len(kept)):
        own = np.unique(place[kept.session(row)[0]])
        first, second = np.triu_indices(len(own), k=1)
        found.append(np.stack([own[first], own[second]], axis=1))
    if not found:
        return np.zeros((0, 2), np.int64)
    return np.unique(np.concatenate(found), axis=0)


def later_pairs(dataset: PreparedDataset, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs of validation and test sessions that no training session has. Shape [p, 2]."""
    known = {tuple(pair) for pair in pairs_of_sessions(dataset.train, items).tolist()}
    later = pairs_of_sessions(dataset.validation.concatenate(dataset.test), items).tolist()
    return np.array([pair for pair in later if tuple(pair) not in known], np.int64).reshape(-1, 2)


def sample_pairs(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `MOST_PAIRS` of them, drawn at random."""
    if len(pairs) <= MOST_PAIRS:
        return pairs
    return pairs[np.random.default_rng(0).permutation(len(pairs))[:MOST_PAIRS]]


@dataclass(frozen=True)
class ItemDifference:
    """Mean difference between two spaces over items, first minus second, and its 95 % interval over resampled items."""

    difference: float
    low: float
    high: float


def neighbour_purity(vectors_mD: Vectors, has_mA: NDArray[np.bool_], *, neighbours: int = 10) -> NDArray[np.float64]:
    """The share of each item's nearest neighbours that have one of its values of the attribute. Shape [m], 0..1."""
    from sklearn.neighbors import NearestNeighbors

    k = min(neighbours, len(vectors_mD) - 1)
    nearest_mk = NearestNeighbors(n_neighbors=k, metric="cosine").fit(vectors_mD).kneighbors(return_distance=False)
    purity: NDArray[np.float64] = np.mean([(has_mA & has_mA[each_m]).any(axis=1) for each_m in nearest_mk.T], axis=0)
    return purity


def chance_purity(has_mA: NDArray[np.bool_]) -> float:
    """The purity that random neighbours have: how often two different items share a value, 0..1."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, len(has_mA), _DRAWS)
    second = (first + rng.integers(1, len(has_mA), _DRAWS)) % len(has_mA)
    return float((has_mA[first] & has_mA[second]).any(axis=1).mean())


def closeness(vectors_mD: Vectors, pairs_p2: NDArray[np.int64]) -> NDArray[np.float64]:
    """How close the items of given pairs are, for each item that occurs in one; NaN for the others. Shape [m], 0..1.

    For a pair (a, b): the share of random items c that are farther from a than b is, ties by half. 0.5 is chance, 1 is
    closer than all others. An item's value is the mean over its pairs, in both directions.
    """
    unit_mD = _unit(vectors_mD)
    rng = np.random.default_rng(0)
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


def item_difference(first_m: NDArray[np.float64], second_m: NDArray[np.float64]) -> ItemDifference:
    """The mean difference of two values of the same items, with its interval over resampled items, without NaNs."""
    difference = (first_m - second_m)[~np.isnan(first_m) & ~np.isnan(second_m)]
    if len(difference) == 0:
        return ItemDifference(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(0)
    means = [difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(_SAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return ItemDifference(float(difference.mean()), float(low), float(high))


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
    return unit

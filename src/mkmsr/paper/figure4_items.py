"""Which items Figure 4 looks at, and which of them occur together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.sessions import SessionTable
from mkmsr.errors import DataError, nearest
from mkmsr.paper.embedding_map import COLOURS

__all__ = ["ChosenItems", "choose_items", "default_attribute", "later_pairs", "pairs_of_sessions", "sample_pairs"]

MOST_SHOWN = 2000
"""Items on a map."""
MOST_PAIRS = 50_000
FEWEST_ITEMS = 20


@dataclass(frozen=True)
class ChosenItems:
    """The items that are looked at.

    Args:
        items: Item indexes. Shape [m].
        has: Which of them has which value of the attribute. Shape [m, A].
        shown: Places in `items` of those on the map. Shape [shown].
        colours: Places in `names` of their values. Shape [shown].
        names: The most frequent values.
    """

    items: NDArray[np.int64]
    has: NDArray[np.bool_]
    shown: NDArray[np.int64]
    colours: NDArray[np.int64]
    names: tuple[str, ...]


def default_attribute(dataset: PreparedDataset) -> str:
    """The relation with the fewest values, at least two: the coarsest kind of item.

    Raises:
        DataError: No relation has two values.
    """
    knowledge = dataset.knowledge
    counts = {
        name: len(np.unique(knowledge.triples[knowledge.triples[:, 1] == relation, 2]))
        for relation, name in enumerate(knowledge.relations.ids, start=1)
    }
    usable = {name: count for name, count in counts.items() if count >= 2}
    if not usable:
        raise DataError("no relation with at least two values, so that nothing can colour a map")
    return min(usable, key=lambda name: usable[name])


def choose_items(dataset: PreparedDataset, attribute: str, min_events: int) -> ChosenItems:
    """The items with enough training events and a value of the attribute, and those of them that a map shows.

    Raises:
        DataError: There is no such attribute, or too few items are left.
    """
    knowledge = dataset.knowledge
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
    frequent = np.argsort(-has.sum(axis=0), kind="stable")[: len(COLOURS)]
    rows = np.flatnonzero(has[:, frequent].any(axis=1))
    shown = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_SHOWN])
    names = [knowledge.attributes.id(int(values[each]) - knowledge.num_items) for each in frequent]
    return ChosenItems(
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

"""Which items a list may hold: exclusions, an allow-list, conditions on attributes, and at most so many of one value.

Conditions look at what the model knows about items, at what was said about items added since, whether or not the model
knows such values, and at facts that change too often for a model, such as the price of today or what is in stock.
Everything is applied to the whole catalogue before a list is cut to its length.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.data.buckets import bucket_bounds, number_in
from mkmsr.errors import ConfigError, nearest

__all__ = [
    "NO_FILTERS",
    "Condition",
    "Facts",
    "Filters",
    "allowed_items",
    "capped_values",
    "item_ids",
    "parse_condition",
    "why_nothing",
]

Facts = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Values of items by relation and item id: `facts["price"]["sku-1"] == ("12.5",)`."""


@dataclass(frozen=True)
class Condition:
    """A condition on the values that an item has under one relation.

    Args:
        relation: Name of the relation, or of a fact, which goes before a relation of the same name.
        kind: "in": one of the item's values is among `values`; "not in": none is; "range": one of them is a number x
            with low <= x <= high, or a bucket that lies inside. An item without any value meets only "not in".
        values: For "in" and "not in".
        low: For "range".
        high: For "range".
    """

    relation: str
    kind: Literal["in", "not in", "range"]
    values: frozenset[str] = frozenset()
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        """The text that states it, as `parse_condition` takes it."""
        if self.kind == "range":
            low, high = ("" if math.isinf(bound) else f"{bound:g}" for bound in (self.low, self.high))
            return f"{self.relation}={low}..{high}"
        return f"{self.relation}{'!=' if self.kind == 'not in' else '='}{','.join(sorted(self.values))}"

    def accepts(self, value: str) -> bool:
        """Whether one value is in the range, or among the values (also for "not in")."""
        if self.kind != "range":
            return value in self.values
        low, high = _interval(value) or (math.nan, math.nan)
        return self.low <= low and high <= self.high


def item_ids(ids: Iterable[str], key: str) -> list[str]:
    """Several ids; a single text would be taken for its letters, none of which is an item.

    Raises:
        ConfigError: It is a single text.
    """
    if isinstance(ids, str):
        raise ConfigError(f"should be a list of item ids, such as [{ids!r}]", key=key)
    return list(ids)


@dataclass(frozen=True)
class Filters:
    """What the lists of one call may hold.

    Args:
        exclude: Items that must not appear; unknown ids change nothing.
        only: The only items that may appear, or None for all; unknown ids change nothing.
        where: Conditions that every item must meet.
        at_most: By relation, how many items of a list may share one of its values. From the best item down, an item
            that would be one too many is passed over; one with several values counts for each, one without for none.

    Raises:
        ConfigError: A single text stands where several ids should, or a condition is none.
    """

    exclude: Collection[str] = ()
    only: Collection[str] | None = None
    where: Sequence[Condition] = ()
    at_most: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Kept as they are now: what can be read only once would be used up by the first look.
        object.__setattr__(self, "exclude", tuple(item_ids(self.exclude, "exclude")))
        object.__setattr__(self, "only", None if self.only is None else tuple(item_ids(self.only, "only")))
        object.__setattr__(self, "where", tuple(self.where))
        for each in self.where:
            if not isinstance(each, Condition):
                raise ConfigError(f"{each!r} is no condition; parse_condition makes one of a text", key="where")


NO_FILTERS = Filters()

_SHOWN_VALUES = 8
"""Values of a relation that a message names."""


def parse_condition(text: str) -> Condition:
    """The condition that a text states.

    `category=shoes` equal, `category=shoes,boots` one of several, `brand!=acme` none of several, `price=10..50` a range
    with both ends, `price=..50` open at one end.

    Raises:
        ConfigError: The text has another form.
    """
    relation, separator, wanted = text.partition("=")
    if not separator or not wanted or not relation.strip("! "):
        raise ConfigError(
            f"{text!r} is no condition; write for example category=shoes,boots or brand!=acme or price=10..50",
            key="where",
        )
    if relation.endswith("!"):
        return Condition(relation[:-1].strip(), "not in", frozenset(wanted.split(",")))
    bounds = bucket_bounds(wanted)
    if bounds is not None:
        return Condition(relation.strip(), "range", low=bounds[0], high=bounds[1])
    return Condition(relation.strip(), "in", frozenset(wanted.split(",")))


def allowed_items(bundle: ModelBundle, filters: Filters, facts: Facts) -> NDArray[np.bool_]:
    """Whether each item may be recommended. Shape [V]; entry 0, padding, is False.

    Raises:
        ConfigError: A condition names a relation that neither the model nor the facts have, or asks for a range of
            one that has no number.
    """
    allowed = np.ones(len(bundle.items) + 1, np.bool_)
    if filters.only is not None:
        allowed[:] = False
        allowed[bundle.items.indexes(map(str, filters.only), missing="zero")] = True
    for condition in filters.where:
        allowed &= _passing(bundle, condition, facts)
    allowed[bundle.items.indexes([*map(str, filters.exclude), *bundle.retired], missing="zero")] = False
    allowed[0] = False
    return allowed


def why_nothing(bundle: ModelBundle, filters: Filters, facts: Facts) -> str:
    """Why a list came out empty: how many items pass each condition by itself, and the values where none does.

    Raises:
        ConfigError: As `allowed_items`.
    """
    parts = []
    for condition in filters.where:
        passing = int(_passing(bundle, condition, facts)[1:].sum())
        _, _, names = _values(bundle, facts, condition.relation)
        shown = f" (it has {', '.join(names[:_SHOWN_VALUES])}{', ..' if len(names) > _SHOWN_VALUES else ''})"
        parts.append(f"{condition}: {passing:,}{'' if passing or not names else shown}")
    if filters.only is not None:
        named = bundle.items.indexes(map(str, filters.only), missing="zero")
        parts.append(f"the allow-list: {np.unique(named[named > 0]).size:,}")
    each = f"; by itself each lets pass, of {len(bundle.items):,}: {', '.join(parts)}" if parts else ""
    return f"no item may be recommended{each}"


def _passing(bundle: ModelBundle, condition: Condition, facts: Facts) -> NDArray[np.bool_]:
    """Whether each item meets one condition. Shape [V]."""
    items, values, names = _values(bundle, facts, condition.relation)
    if condition.kind == "range" and names and not any(_interval(name) for name in names):
        raise ConfigError(
            f"{condition.relation} has no numbers that a range could hold, but texts like {names[0]!r}", key="where"
        )
    accepted = np.array([condition.accepts(name) for name in names], np.bool_)
    having = np.zeros(len(bundle.items) + 1, np.bool_)
    having[items[accepted[values]]] = True
    return ~having if condition.kind == "not in" else having


def _interval(value: str) -> tuple[float, float] | None:
    """A number as both bounds, or the bounds of a bucket; None for any other text."""
    number = number_in(value)
    return (number, number) if number is not None else bucket_bounds(value)


def capped_values(bundle: ModelBundle, filters: Filters, facts: Facts) -> list[tuple[int, dict[int, list[int]]]]:
    """For each relation of `at_most` the cap, and the values of each item that has any.

    Raises:
        ConfigError: A relation is unknown, or a cap is below 1.
    """
    caps = []
    for relation, most in filters.at_most.items():
        if most < 1:
            raise ConfigError(
                f"{relation}: must be at least 1, found {most}; use a condition to leave all out", key="at_most"
            )
        items, values, _ = _values(bundle, facts, relation)
        of_item: dict[int, list[int]] = {}
        for item, value in zip(items.tolist(), values.tolist(), strict=True):
            of_item.setdefault(item, []).append(value)
        caps.append((most, of_item))
    return caps


def _values(
    bundle: ModelBundle, facts: Facts, relation: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], Sequence[str]]:
    """Who has which value under a relation: items and value numbers, one entry a pair, and the values by number."""
    if relation in facts:
        return _values_of_facts(bundle, facts[relation])
    knowledge, unlearnt = bundle.knowledge, bundle.unlearnt.get(relation, {})
    if relation not in knowledge.relations and not unlearnt:
        known = list(dict.fromkeys([*facts, *knowledge.relations.ids, *bundle.unlearnt]))
        raise ConfigError(
            f"nothing is known under {relation!r}{nearest(relation, known)} (known: {', '.join(known) or 'none'})",
            key="where",
        )
    more_items, more_values, more_names = _values_of_facts(bundle, unlearnt)
    if relation not in knowledge.relations:
        return more_items, more_values, more_names
    rows = knowledge.triples[knowledge.triples[:, 1] == knowledge.relations.index(relation)]
    attributes, values = np.unique(rows[:, 2] - knowledge.num_items, return_inverse=True)
    names = [knowledge.attributes.id(each).removeprefix(f"{relation}=") for each in attributes.tolist()]
    items, values = np.append(rows[:, 0], more_items), np.append(values, more_values + len(names))
    return items, values, [*names, *more_names]


def _values_of_facts(
    bundle: ModelBundle, of_item: Mapping[str, Iterable[str]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Sequence[str]]:
    numbers: dict[str, int] = {}
    pairs = [
        (bundle.items.index(item), numbers.setdefault(value, len(numbers)))
        for item, values in of_item.items()
        if item in bundle.items
        for value in dict.fromkeys(values)  # Said twice, it is one value, and counts once under `at_most`.
    ]
    items, values = np.array(pairs, np.int64).reshape(-1, 2).T
    return items, values, list(numbers)

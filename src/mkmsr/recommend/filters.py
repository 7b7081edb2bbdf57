"""Which items a list may hold: exclusions, an allow-list, conditions on attributes, and at most so many of one value.

Conditions look at what the model knows of an item, at what it never learnt, and at facts, which change too often for a
model, such as today's price. Everything is applied to the whole catalogue before a list is cut to its length.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.data.buckets import bucket_bounds, number_in
from mkmsr.errors import ConfigError, DataError, nearest, shown
from mkmsr.recommend.sessions import id_text

Value: TypeAlias = "str | int | float"

Values: TypeAlias = "Value | Sequence[Value]"
"""One value or several."""

Facts: TypeAlias = "Mapping[str, Mapping[str, tuple[str, ...]]]"
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


def item_ids(ids: Iterable[str], key: str, *, what: str = "item id") -> tuple[str, ...]:
    """Return several ids as texts; a single text, whose letters would be taken for ids, raises ConfigError."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        example = shown(ids if isinstance(ids, str) else "..")
        raise ConfigError(f"should be a list of {what}s, such as [{example}]", key=key)
    texts = []
    for each in ids:
        text = id_text(each)
        if text is None:
            raise ConfigError(f"an {what} should be text or a whole number; found {type(each).__name__}", key=key)
        texts.append(text)
    return tuple(texts)


@dataclass(frozen=True)
class Filters:
    """What the lists of one call may hold.

    Args:
        exclude: Items that must not appear; unknown ids change nothing.
        exclude_session: Whether the items of a session's own events must not appear in its list.
        exclude_operations: Items must not appear that the visitor did one of these operations with, in the session or
            an earlier one: "order" leaves out what was bought.
        only: The only items that may appear, or None for all; unknown ids change nothing.
        where: Conditions that every item must meet.
        at_most: By relation, how many items of a list may share one of its values. From the best item down, an item
            that would be one too many is passed over; one with several values counts for each, one without for none.

    Raises:
        ConfigError: A single text stands where several should, or a condition is none.
    """

    exclude: Collection[str] = ()
    exclude_session: bool = False
    exclude_operations: Collection[str] = ()
    only: Collection[str] | None = None
    where: Sequence[Condition] = ()
    at_most: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Copied, because what can be read only once would be used up by the first look.
        object.__setattr__(self, "exclude", item_ids(self.exclude, "exclude"))
        operations = item_ids(self.exclude_operations, "exclude_operations", what="operation")
        object.__setattr__(self, "exclude_operations", operations)
        object.__setattr__(self, "only", None if self.only is None else item_ids(self.only, "only"))
        if not isinstance(self.where, Iterable):
            raise ConfigError(f"should be a list of conditions; found {shown(self.where)}", key="where")
        object.__setattr__(self, "where", tuple(self.where))
        if not isinstance(self.at_most, Mapping) or not all(isinstance(name, str) for name in self.at_most):
            right = '{"brand": 2}'
            raise ConfigError(
                f"should be caps by relation, such as {right}; found {shown(self.at_most)}", key="at_most"
            )
        object.__setattr__(self, "at_most", dict(self.at_most))
        for each in self.where:
            if not isinstance(each, Condition):
                raise ConfigError(f"{shown(each)} is no condition; parse_condition makes one of a text", key="where")


NO_FILTERS = Filters()

_SHOWN_VALUES = 8
"""Values of a relation that a message names."""


def parse_condition(text: str) -> Condition:
    """Return the condition that a text states.

    `category=shoes` equal, `category=shoes,boots` one of several, `brand!=acme` none of several, `price=10..50` a range
    with both ends, `price=..50` open at one end. Another form raises ConfigError.
    """
    relation, separator, wanted = text.partition("=")
    if not separator or not wanted or not relation.strip("! "):
        raise ConfigError(
            f"{shown(text)} is no condition; write for example category=shoes,boots or brand!=acme or price=10..50",
            key="where",
        )
    if relation.endswith("!"):
        return Condition(relation[:-1].strip(), "not in", frozenset(wanted.split(",")))
    bounds = bucket_bounds(wanted)
    if bounds is not None:
        return Condition(relation.strip(), "range", low=bounds[0], high=bounds[1])
    return Condition(relation.strip(), "in", frozenset(wanted.split(",")))


def positive_integer(value: object, key: str, *, hint: str = "") -> int:
    """Return a number that counts items; one that is not whole, or below 1, raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"should be a whole number, at least 1; found {shown(value)}", key=key)
    if int(value) < 1:
        raise ConfigError(f"must be at least 1, found {shown(value)}{hint}", key=key)
    return int(value)


def excluded_operations(bundle: ModelBundle, filters: Filters) -> list[int]:
    """Return the indexes of the operations that exclude items; an unknown one raises UnknownIdError."""
    return [bundle.operations.index(each) for each in filters.exclude_operations]


def allowed_items(bundle: ModelBundle, filters: Filters, facts: Facts) -> NDArray[np.bool_]:
    """Return whether each item may be recommended. Shape [V]; entry 0, padding, is False.

    A condition on an unknown relation, or a range of one that has no number, raises ConfigError.
    """
    allowed = np.ones(len(bundle.items) + 1, np.bool_)
    if filters.only is not None:
        allowed[:] = False
        allowed[bundle.items.indexes(filters.only, missing="zero")] = True
    for condition in filters.where:
        allowed &= _passing(bundle, condition, facts)
    allowed[bundle.items.indexes([*filters.exclude, *bundle.retired], missing="zero")] = False
    allowed[0] = False
    return allowed


def why_nothing(bundle: ModelBundle, filters: Filters, facts: Facts) -> str:
    """Say why a list came out empty: how many items pass each condition by itself, and the values where none does."""
    parts = []
    for condition in filters.where:
        passing = int(_passing(bundle, condition, facts)[1:].sum())
        _, _, names = values_by_item(bundle, facts, condition.relation)
        known = f" (it has {', '.join(names[:_SHOWN_VALUES])}{', ..' if len(names) > _SHOWN_VALUES else ''})"
        parts.append(f"{condition}: {passing:,}{'' if passing or not names else known}")
    if filters.only is not None:
        named = bundle.items.indexes(filters.only, missing="zero")
        parts.append(f"the allow-list: {np.unique(named[named > 0]).size:,}")
    alone = f"; of {len(bundle.items):,} items pass each one alone: {', '.join(parts)}" if parts else ""
    return f"no item passes all filters{alone}"


def _passing(bundle: ModelBundle, condition: Condition, facts: Facts) -> NDArray[np.bool_]:
    """Whether each item meets one condition. Shape [V]."""
    items, values, names = values_by_item(bundle, facts, condition.relation)
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
    """Return for each relation of `at_most` the cap, and the values of each item that has any.

    An unknown relation, or a cap below 1, raises ConfigError.
    """
    caps = []
    for relation, most in filters.at_most.items():
        cap = positive_integer(most, f"at_most.{relation}", hint="; use a condition to leave all out")
        items, values, _ = values_by_item(bundle, facts, relation)
        of_item: dict[int, list[int]] = {}
        for item, value in zip(items.tolist(), values.tolist(), strict=True):
            of_item.setdefault(item, []).append(value)
        caps.append((cap, of_item))
    return caps


def read_facts(given: Mapping[str, Mapping[str, Values]], earlier: Facts | None = None) -> Facts:
    """Return facts as texts; with `earlier`, what those say of other items and under other names too.

    What has another form raises DataError.
    """
    if not isinstance(given, Mapping) or not all(isinstance(of_item, Mapping) for of_item in given.values()):
        right = '{"price": {"sku-1": 12.5}}'
        raise DataError(f"facts should be values by name and item id, such as {right}; found {shown(given)}")
    facts = {name: dict(of_item) for name, of_item in (earlier or {}).items()}
    for name, of_item in given.items():
        named = facts.setdefault(_text(name), {})
        for item, values in of_item.items():
            named[_text(item)] = tuple(_text(value) for value in values_of(values))
    return facts


def values_of(values: Values) -> Sequence[Value]:
    """Return one value or several as a sequence."""
    return values if isinstance(values, Sequence) and not isinstance(values, str) else [values]


def values_by_item(
    bundle: ModelBundle, facts: Facts, relation: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], Sequence[str]]:
    """Return items and value numbers, one entry a pair, and the values by number; a fact hides a relation of its name.

    A relation that neither the model nor the facts know raises ConfigError.
    """
    if relation in facts:
        return _numbered(bundle, facts[relation])
    knowledge, unlearnt = bundle.knowledge, bundle.unlearnt.get(relation, {})
    if relation not in knowledge.relations and not unlearnt:
        known = list(dict.fromkeys([*facts, *knowledge.relations.ids, *bundle.unlearnt]))
        raise ConfigError(
            f"nothing is known under {relation!r}{nearest(relation, known)} (known: {', '.join(known) or 'none'})",
            key="where",
        )
    more_items, more_values, more_names = _numbered(bundle, unlearnt)
    if relation not in knowledge.relations:
        return more_items, more_values, more_names
    rows = knowledge.triples[knowledge.triples[:, 1] == knowledge.relations.index(relation)]
    attributes, values = np.unique(rows[:, 2] - knowledge.num_items, return_inverse=True)
    names = [knowledge.attributes.id(each).removeprefix(f"{relation}=") for each in attributes.tolist()]
    items, values = np.append(rows[:, 0], more_items), np.append(values, more_values + len(names))
    return items, values, [*names, *more_names]


def _numbered(
    bundle: ModelBundle, of_item: Mapping[str, Iterable[str]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Sequence[str]]:
    numbers: dict[str, int] = {}
    pairs = [
        (bundle.items.index(item), numbers.setdefault(value, len(numbers)))
        for item, values in of_item.items()
        if item in bundle.items
        for value in dict.fromkeys(values)  # A repeated value is one value, and counts once under `at_most`.
    ]
    items, values = np.array(pairs, np.int64).reshape(-1, 2).T
    return items, values, list(numbers)


def _text(value: object) -> str:
    try:
        return str(value)
    except (ValueError, RecursionError):
        raise DataError(f"facts should be numbers or texts; found {shown(value)}") from None

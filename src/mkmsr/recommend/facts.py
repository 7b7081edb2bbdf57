"""Who has which value of an attribute: what the model knows, what it never learnt, and facts of the day.

Facts change too often for a model, such as today's price or what is in stock. Only filters see them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.errors import ConfigError, DataError, nearest, shown

Value: TypeAlias = "str | int | float"

Values: TypeAlias = "Value | Sequence[Value]"
"""One value or several."""

Facts: TypeAlias = "Mapping[str, Mapping[str, tuple[str, ...]]]"
"""Values of items by relation and item id: `facts["price"]["sku-1"] == ("12.5",)`."""


def read_facts(given: Mapping[str, Mapping[str, Values]], earlier: Facts | None = None) -> Facts:
    """Return facts as texts; with `earlier`, what those say of other items and under other names too.

    Raises:
        DataError: They have another form.
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

    Raises:
        ConfigError: Neither the model nor the facts know the relation.
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

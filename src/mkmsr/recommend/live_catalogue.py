"""A catalogue that changes while it serves: new items from their attributes, items that are withdrawn.

Each function returns a new bundle and leaves the given one as it is, so that a recommender can go on answering from
the old one until the new one is ready.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.data.buckets import bucket_of, number_in
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import ConfigError, DataError, shown
from mkmsr.models.capabilities import GrowsCatalogue, places_new_items
from mkmsr.recommend.filters import Value, Values, item_ids, values_of
from mkmsr.recommend.sessions import id_text

Attributes: TypeAlias = "Mapping[str, Values]"
"""Values by relation name."""


@dataclass(frozen=True)
class CatalogueChange:
    """What adding items came to.

    Args:
        added: The new items, in the given order.
        without_attributes: Those of which no attribute value is known: they come last in every list.
        unknown: Attribute values that training never saw, as `relation=value`, and for how many items; only filters
            see them.
    """

    added: tuple[str, ...]
    without_attributes: tuple[str, ...]
    unknown: Mapping[str, int]


def with_items(bundle: ModelBundle, items: Mapping[str, Attributes]) -> tuple[ModelBundle, CatalogueChange]:
    """Return the same bundle with more items, see `Recommender.add_items` for what it raises."""
    if not places_new_items(bundle.model):
        raise ConfigError(
            f"{bundle.name!r} as trained knows items by their ids alone and cannot place new ones; train a model that "
            "composes items of attributes, such as compass, on data with attributes",
            key="model",
        )
    items = _by_id(items)
    if not items:
        return bundle, CatalogueChange((), (), {})
    if known := [item for item in items if item in bundle.items]:
        hint = "; restore_items brings retired ones back" if known[0] in bundle.retired else ""
        raise DataError(f"item {known[0]!r} is in the catalogue already{hint}")
    reader = _AttributeReader(bundle.knowledge)
    rows: list[tuple[int, int, int]] = []
    unknown: Counter[str] = Counter()
    unlearnt = {relation: dict(of_item) for relation, of_item in bundle.unlearnt.items()}
    bare: list[str] = []
    for index, (item, attributes) in enumerate(items.items(), start=len(bundle.items) + 1):
        found, missing = reader.read(item, attributes)
        rows += [(index, relation, attribute) for relation, attribute in found]
        for relation, values in missing.items():
            unlearnt.setdefault(relation, {})[item] = tuple(values)
            unknown.update(f"{relation}={value}" for value in values)
        bare += [] if found else [item]
    triples = np.array(rows, np.int64).reshape(-1, 3)
    model = copy.deepcopy(bundle.model)
    assert isinstance(model, GrowsCatalogue)
    model.append_items(len(items), torch.from_numpy(triples))
    extended = replace(
        bundle,
        model=model,
        items=Vocabulary([*bundle.items.ids, *items], kind="item"),
        knowledge=_with_triples(bundle.knowledge, len(items), triples),
        item_counts=np.concatenate([bundle.item_counts, np.zeros(len(items), np.int64)]),
        added=(*bundle.added, *items),
        unlearnt=unlearnt,
    )
    return extended, CatalogueChange(tuple(items), tuple(bare), dict(unknown))


def with_retired(bundle: ModelBundle, ids: Iterable[str]) -> ModelBundle:
    """Return the same bundle with more items retired; an unknown one raises UnknownIdError."""
    return replace(bundle, retired=bundle.retired | _known(bundle, ids))


def without_retired(bundle: ModelBundle, ids: Iterable[str]) -> ModelBundle:
    """Return the same bundle with some retired items back; an unknown one raises UnknownIdError."""
    return replace(bundle, retired=bundle.retired - _known(bundle, ids))


def _check_text(text: str, what: str) -> None:
    """Make sure that a text can be written to a file."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{what} {text!r:.100} holds half a character, which no file can keep") from None


def _by_id(items: Mapping[Any, Attributes]) -> dict[str, Attributes]:
    if not isinstance(items, Mapping):
        raise DataError(f"items should be attributes by item id; found {shown(items)}")
    named: dict[str, Attributes] = {}
    for item, attributes in items.items():
        text = id_text(item)
        if text is None:
            raise DataError(f"an item id should be text or a whole number; found {shown(item)}")
        _check_text(text, "item id")
        if text in named:
            raise DataError(f"item {text!r} is there twice: as text and as a number")
        named[text] = attributes
    return named


def _known(bundle: ModelBundle, ids: Iterable[str]) -> frozenset[str]:
    names = frozenset(item_ids(ids, "ids"))
    bundle.items.indexes(names)
    return names


def _with_triples(knowledge: KnowledgeGraph, count: int, triples: np.typing.NDArray[np.int64]) -> KnowledgeGraph:
    """A graph with more items behind the others; attribute entities, which stand behind all items, move on."""
    old = knowledge.triples + np.array([0, 0, count])
    new = triples + np.array([0, 0, knowledge.num_items + count])
    return replace(knowledge, triples=np.concatenate([old, new]), num_items=knowledge.num_items + count)


class _AttributeReader:
    """Attributes by name as relation and attribute indexes."""

    def __init__(self, knowledge: KnowledgeGraph):
        self.knowledge = knowledge

    def read(self, item: str, attributes: Attributes) -> tuple[list[tuple[int, int]], dict[str, list[str]]]:
        """The (relation, attribute) pairs that are known, rising, and the other values by relation."""
        found: set[tuple[int, int]] = set()
        missing: dict[str, list[str]] = {}
        for relation, value in _pairs(item, attributes):
            known = self._known_value(relation, value)
            if known is not None:
                attribute = self.knowledge.attributes.index(f"{relation}={known}")
                found.add((self.knowledge.relations.index(relation), attribute))
            elif str(value) not in missing.setdefault(relation, []):
                missing[relation].append(str(value))
        return sorted(found), missing

    def _known_value(self, relation: str, value: Value) -> str | None:
        """A value as the model knows it: a number in another spelling, or as its bucket; None if it does not."""
        if relation not in self.knowledge.relations:
            return None
        number, spellings = number_in(str(value)), [str(value)]
        if number is not None and not isinstance(value, str):
            spellings += [str(number), str(int(number))] if number.is_integer() else [str(number)]
        for each in spellings:
            if f"{relation}={each}" in self.knowledge.attributes:
                return each
        return None if number is None else bucket_of(number, self._values.get(relation, ()))

    @cached_property
    def _values(self) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {}
        for attribute in self.knowledge.attributes.ids:
            relation, _, value = attribute.partition("=")
            values.setdefault(relation, []).append(value)
        return values


def _pairs(item: str, attributes: Attributes) -> Iterator[tuple[str, Value]]:
    if not isinstance(attributes, Mapping):
        raise DataError(f"attributes of item {item!r} should be values by relation; found {shown(attributes)}")
    for relation, values in attributes.items():
        name = id_text(relation)
        if name is None:
            raise DataError(f"attribute {shown(relation)} of item {item!r} should be named by text")
        for value in [values] if isinstance(values, bytes) else values_of(values):
            if not isinstance(value, str | int | float) or not (isinstance(value, float) or id_text(value) is not None):
                raise DataError(f"attribute {name!r} of item {item!r} should be text or a number; found {shown(value)}")
            _check_text(f"{name}={value}", f"an attribute of item {item!r},")
            yield name, value

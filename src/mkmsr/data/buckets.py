"""Numbers as attributes: intervals with names that say their bounds, so that a later number finds its own.

A bucket is written `10..20` and holds 10 <= x < 20; `..10` and `20..` are open at one end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.errors import ConfigError, DataError, nearest

SCATTERED = 20
"""Up to so many different values of a relation are few, however few its items."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_BUCKET = re.compile(rf"({_NUMBER})?\.\.({_NUMBER})?")


def bucketed(attributes: pl.LazyFrame, buckets: Mapping[str, int], seen: Sequence[str]) -> pl.LazyFrame:
    """Replace the numbers of some relations of an attribute table by their buckets.

    Bounds are quantiles of the values of the items in `seen`, those of the training part, so that later prices move
    nothing; they are rounded to six digits, and equal ones are one. Empty cells stay empty. A relation that nothing
    says, or nothing of these items, is a ConfigError, a value that is no number a DataError.
    """
    for relation, count in buckets.items():
        table = attributes.filter(pl.col("relation") == relation).collect()
        if not table.height:
            known = attributes.select("relation").unique().sort("relation").collect()["relation"].to_list()
            hint = nearest(relation, known) or f"; there are: {', '.join(known)}"
            raise ConfigError(f"no relation {relation!r}{hint}", key="buckets")
        number = pl.col("value").str.strip_chars().cast(pl.Float64, strict=False)
        filled = table.filter(pl.col("value").is_not_null() & (pl.col("value") != "")).with_columns(number=number)
        wrong = filled.filter(pl.col("number").is_null() | ~pl.col("number").is_finite())
        if wrong.height:
            item, value = wrong.select("item_id", "value").row(0)
            raise DataError(
                f"should be a number to be put into buckets, found {value!r} (item {item!r})", column=relation
            )
        known_values = filled.filter(pl.col("item_id").is_in(seen))["number"].to_numpy()
        if not len(known_values):
            raise ConfigError(f"no item of the training part has a value of {relation!r}", key="buckets")
        inner = np.quantile(known_values, np.arange(1, count) / count)
        # Quantiles as they are named, each once.
        edges = [edge for edge in sorted({float(f"{edge:g}") for edge in inner}) if edge > known_values.min()]
        names = pl.Series(bucket_names(edges))
        place = pl.Series(np.searchsorted(edges, filled["number"].to_numpy(), side="right"))
        renamed = filled.with_columns(value=names.gather(place)).drop("number")
        attributes = pl.concat([attributes.filter(pl.col("relation") != relation), renamed.lazy()]).sort("row")
    return attributes


def bucket_names(edges: Sequence[float]) -> list[str]:
    """Names of the len(edges) + 1 buckets that rising inner edges cut the line into; six digits of an edge count."""
    texts = ["", *(f"{edge:g}" for edge in edges), ""]
    return [f"{low}..{high}" for low, high in pairwise(texts)]


def bucket_bounds(name: str) -> tuple[float, float] | None:
    """The bounds of a bucket by its name, infinite at an open end; None for any other text."""
    match = _BUCKET.fullmatch(name.strip())
    if match is None or not (match[1] or match[2]):
        return None
    return float(match[1] or -math.inf), float(match[2] or math.inf)


def bucket_of(value: float, names: Iterable[str]) -> str | None:
    """The bucket that holds a number, of some attribute values; None if none does."""
    for name in names:
        bounds = bucket_bounds(name)
        if bounds is not None and bounds[0] <= value < bounds[1]:
            return name
    return None


def number_in(text: str) -> float | None:
    """A text as a finite number; None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def scattered_numbers(knowledge: KnowledgeGraph) -> dict[str, tuple[int, int]]:
    """Relations whose values are all numbers, more than one for two items: how many values, and of how many items."""
    found = {}
    for name, rows, values in _values(knowledge):
        items = len(np.unique(rows[:, 0]))
        if len(values) > max(SCATTERED, items / 2) and _all_numbers(knowledge, name, values):
            found[name] = (len(values), items)
    return found


def unshared_texts(knowledge: KnowledgeGraph) -> list[str]:
    """Relations of texts that hardly two items share, such as names and addresses of images."""
    return [
        name
        for name, rows, values in _values(knowledge)
        if len(values) > max(SCATTERED, 0.9 * len(rows)) and not _all_numbers(knowledge, name, values)
    ]


def _values(knowledge: KnowledgeGraph) -> Iterator[tuple[str, NDArray[np.integer], NDArray[np.integer]]]:
    """Each relation: its name, its triples, and the indexes of its different attributes."""
    for relation, name in enumerate(knowledge.relations.ids, start=1):
        rows = knowledge.triples[knowledge.triples[:, 1] == relation]
        yield name, rows, np.unique(rows[:, 2]) - knowledge.num_items


def _all_numbers(knowledge: KnowledgeGraph, relation: str, values: NDArray[np.integer]) -> bool:
    texts = (knowledge.attributes.id(value).removeprefix(f"{relation}=") for value in values.tolist())
    return all(number_in(text) is not None for text in texts)

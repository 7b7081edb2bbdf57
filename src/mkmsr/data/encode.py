"""From external ids to indexes: vocabularies in a stable order, session arrays and knowledge triples."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.engines import Engine, Query
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import SessionTable, earlier_items
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import DataError


def index_ids(events: Query, raw: Query, engine: Engine, *, number: str, external: str) -> Query:
    """Return one row an id: its `number`, the external id as `id` and its `index` from 1.

    Ids of train come first, then those first seen in validation, then those that only the test has; inside a split the
    order is that of first occurrence. `events` have `rank`, `time` and the number, the row of `raw` where the id first
    stands.
    """
    first = engine.persist(events.group_by(number).agg(rank=nw.col("rank").min(), time=nw.col("time").min()))
    ids = raw.select(nw.col("row").alias(number), nw.col(external).alias("id"))
    found = first.join(ids, on=number, how="inner")
    return engine.persist(_with_index(found, order=["rank", "time", number]).select(number, "id", "index"))


def encode_sessions(events: Query, items: Query, operations: Query, engine: Engine) -> list[SessionTable]:
    """Return the tables of train, validation and test.

    Events have `item`, `action`, `time`, `row`, `rank`, `place` of the session, and `visitor` where earlier ones count;
    items and operations are from `index_ids`.
    """
    item = items.select("item", item_index=nw.col("index").cast(nw.Int32))
    operation = operations.select("action", operation_index=nw.col("index").cast(nw.Int16))
    joined = events.join(item, on="item", how="inner").join(operation, on="action", how="inner")
    rank = nw.col("rank").cast(nw.Int8)
    visitors = ["visitor"] if "visitor" in events.collect_schema().names() else []
    columns = joined.select("place", "time", "row", "item_index", "operation_index", *visitors, rank=rank)
    ordered = engine.ordered(columns, by=["place", "time", "row"])
    # One column after the other: beside the arrays themselves only one of them is in memory.
    bounds = np.searchsorted(_array(ordered, "rank"), np.arange(4))
    splits = [slice(int(begin), int(end)) for begin, end in pairwise(bounds)]
    items_, operations_, times, places = (
        [np.array(whole[rows]) for rows in splits]
        for whole in map(partial(_array, ordered), ("item_index", "operation_index", "time", "place"))
    )
    offsets = [np.append(np.flatnonzero(np.diff(place, prepend=-1)), len(place)).astype(np.int64) for place in places]
    tables = [SessionTable(*columns) for columns in zip(items_, operations_, offsets, times, strict=True)]
    if not visitors:
        return tables
    whole = _array(ordered, "visitor")
    owners = [whole[rows][table.offsets[:-1]] for rows, table in zip(splits, tables, strict=True)]
    earlier = earlier_items(tables, owners)
    return [replace(table, earlier=each) for table, each in zip(tables, earlier, strict=True)]


def encode_knowledge(
    attributes: Query, items: Vocabulary, engine: Engine, *, path: str | None
) -> tuple[KnowledgeGraph, dict[str, int]]:
    """Return the triples of the catalogue's items in order of first occurrence, and counts of what was left out."""
    numbers = {"item_id": list(items.ids), "item": np.arange(1, len(items) + 1)}
    catalogue = engine.table(pl.LazyFrame(numbers, schema_overrides={"item_id": pl.String}))
    filled = attributes.filter(~nw.col("value").is_null() & (nw.col("value") != ""))
    known = engine.persist(filled.join(catalogue, on="item_id", how="inner"))
    distinct = engine.persist(known.group_by("item", "relation", "value").agg(row=nw.col("row").min()))
    relations = distinct.group_by("relation").agg(row=nw.col("row").min())
    relations = engine.persist(_with_index(relations, order=["row", "relation"]))
    names = column_of(relations.sort("index"), "relation", engine)
    if wrong := [name for name in names if "=" in name]:
        raise DataError("a relation's name must not hold '='", path=path, column=wrong[0])
    number = relations.select("relation", nw.col("index").alias("relation_index"))
    numbered = distinct.join(number, on="relation", how="inner")
    values = numbered.group_by("relation_index", "relation", "value").agg(row=nw.col("row").min())
    values = engine.persist(_with_index(values, order=["relation_index", "row", "value"]))
    attribute = values.select("relation_index", "value", nw.col("index").alias("attribute"))
    triples = numbered.join(attribute, on=["relation_index", "value"], how="inner")
    columns = ["item", "relation_index", "attribute"]
    rows = engine.ordered(triples.select(columns), by=columns).collect()
    ids = values.sort("index").select(nw.concat_str([nw.col("relation"), nw.col("value")], separator="=").alias("id"))
    array = np.ascontiguousarray(rows.to_numpy().astype(np.int64).reshape(-1, 3))
    array[:, 2] += len(items)
    values_of = Vocabulary(column_of(ids, "id", engine), kind="attribute")
    graph = KnowledgeGraph(array, Vocabulary(names, kind="relation"), values_of, len(items))
    return graph, _left_out(attributes, filled, catalogue, graph, engine)


def _left_out(
    attributes: Query, filled: Query, catalogue: Query, graph: KnowledgeGraph, engine: Engine
) -> dict[str, int]:
    """Counts for the metadata: values that are empty, items unknown to the catalogue, items without any attribute."""
    rows, full = engine.count(attributes), engine.count(filled)
    named = engine.persist(attributes.select("item_id").unique("item_id"))
    found = engine.count(named.join(catalogue, on="item_id", how="inner"))
    described = len(np.unique(graph.triples[:, 0]))
    return {
        "rows": rows,
        "empty_values": rows - full,
        "unknown_items": engine.count(named) - found,
        "items_without_attributes": graph.num_items - described,
    }


def _with_index(rows: Query, *, order: list[str]) -> Query:
    indexed = rows.with_row_index("index", order_by=order)
    return indexed.with_columns(index=nw.col("index").cast(nw.Int64) + 1)


def column_of(query: Query, name: str, engine: Engine) -> list[str]:
    """Return a column of text in the order of the query."""
    values: list[str] = engine.fetch(query.select(name))[name].to_list()
    return values


def _array(table: pl.LazyFrame, name: str) -> NDArray[Any]:
    return table.select(name).collect()[name].to_numpy()

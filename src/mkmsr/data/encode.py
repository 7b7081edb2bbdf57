"""From external ids to indexes: vocabularies in a stable order, session arrays and knowledge triples."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessionise import Query, persist
from mkmsr.data.sessions import SessionTable
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import DataError

__all__ = ["encode_knowledge", "encode_sessions", "index_ids"]


def index_ids(events: Query, raw: Query, *, number: str, external: str) -> Query:
    """One row an id: its `number`, the external id as `id` and its `index` from 1.

    Ids of train come first, then those first seen in validation, then those that only the test has; inside a split the
    order is that of first occurrence.

    Args:
        events: Columns `rank`, `time` and the number column.
        raw: The log, with columns `row` and the external id; a number is the row where its id first stands.
        number: Name of the number column.
        external: Name of the id column.
    """
    first = persist(events.group_by(number).agg(rank=nw.col("rank").min(), time=nw.col("time").min()))
    ids = raw.select(nw.col("row").alias(number), nw.col(external).alias("id"))
    found = first.join(ids, on=number, how="inner")
    return persist(_with_index(found, order=["rank", "time", number]).select(number, "id", "index"))


def encode_sessions(events: Query, items: Query, operations: Query) -> list[SessionTable]:
    """The tables of train, validation and test.

    Args:
        events: Columns `item`, `action`, `session`, `time`, `row`, and `rank` and `place` of the session.
        items: From `index_ids`, numbered by `item`.
        operations: From `index_ids`, numbered by `action`.
    """
    item = items.select("item", nw.col("index").alias("item_index"))
    operation = operations.select("action", nw.col("index").alias("operation_index"))
    joined = events.join(item, on="item", how="inner").join(operation, on="action", how="inner")
    columns = ["rank", "place", "item_index", "operation_index", "time"]
    table = joined.sort("place", "time", "row").select(columns).collect(backend="polars")
    rank, place, item_index, operation_index, time = (table[name].to_numpy() for name in columns)
    tables = []
    for wanted in range(3):
        begin, end = np.searchsorted(rank, [wanted, wanted + 1])
        rows = slice(int(begin), int(end))
        offsets = np.append(np.flatnonzero(np.diff(place[rows], prepend=-1)), end - begin).astype(np.int64)
        tables.append(
            SessionTable(
                item_index[rows].astype(np.int32),
                operation_index[rows].astype(np.int16),
                offsets if end > begin else np.zeros(1, np.int64),
                time[rows].astype(np.int64),
            )
        )
    return tables


def encode_knowledge(
    attributes: Query, items: Vocabulary, *, path: str | None
) -> tuple[KnowledgeGraph, dict[str, int]]:
    """Triples of the catalogue's items, relations and attributes in order of first occurrence, and what was left out.

    Raises:
        DataError: A relation's name holds an equals sign, which divides relation and value in attribute ids.
    """
    catalogue = pl.LazyFrame(
        {"item_id": list(items.ids), "item": np.arange(1, len(items) + 1)}, schema_overrides={"item_id": pl.String}
    )
    filled = attributes.filter(~nw.col("value").is_null() & (nw.col("value") != ""))
    known = persist(filled.join(nw.from_native(catalogue), on="item_id", how="inner"))
    distinct = persist(known.group_by("item", "relation", "value").agg(row=nw.col("row").min()))
    relations = persist(
        _with_index(distinct.group_by("relation").agg(row=nw.col("row").min()), order=["row", "relation"])
    )
    names = _column(relations.sort("index"), "relation")
    if wrong := [name for name in names if "=" in name]:
        raise DataError("a relation's name must not hold '='", path=path, column=wrong[0])
    numbered = distinct.join(
        relations.select("relation", nw.col("index").alias("relation_index")), on="relation", how="inner"
    )
    values = numbered.group_by("relation_index", "relation", "value").agg(row=nw.col("row").min())
    values = persist(_with_index(values, order=["relation_index", "row", "value"]))
    attribute = values.select("relation_index", "value", nw.col("index").alias("attribute"))
    triples = numbered.join(attribute, on=["relation_index", "value"], how="inner")
    rows = triples.sort("item", "relation_index", "attribute").select("item", "relation_index", "attribute")
    ids = values.sort("index").select(nw.concat_str([nw.col("relation"), nw.col("value")], separator="=").alias("id"))
    array = _matrix(rows)
    array[:, 2] += len(items)
    graph = KnowledgeGraph(
        array, Vocabulary(names, kind="relation"), Vocabulary(_column(ids, "id"), kind="attribute"), len(items)
    )
    return graph, _left_out(attributes, filled, known, graph)


def _left_out(attributes: Query, filled: Query, known: Query, graph: KnowledgeGraph) -> dict[str, int]:
    """Counts for the metadata: values that are empty, items unknown to the catalogue, items without any attribute."""
    rows, full = _count(attributes), _count(filled)
    named = _count(attributes.select("item_id").unique("item_id"))
    found = _count(known.select("item_id").unique("item_id"))
    described = len(np.unique(graph.triples[:, 0]))
    return {
        "rows": rows,
        "empty_values": rows - full,
        "unknown_items": named - found,
        "items_without_attributes": graph.num_items - described,
    }


def _with_index(rows: Query, *, order: list[str]) -> Query:
    indexed = rows.with_row_index("index", order_by=order)
    return indexed.with_columns(index=nw.col("index").cast(nw.Int64) + 1)


def _count(query: Query) -> int:
    return int(query.select(nw.len()).collect(backend="polars").item())


def _column(query: Query, name: str) -> list[str]:
    values: list[str] = query.select(name).collect(backend="polars")[name].to_list()
    return values


def _matrix(query: Query) -> NDArray[np.int64]:
    frame: Any = query.collect(backend="polars")
    return np.ascontiguousarray(frame.to_numpy().astype(np.int64).reshape(-1, 3))

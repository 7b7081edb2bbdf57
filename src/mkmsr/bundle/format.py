"""The files of a bundle: their names, how they are written, and how they are read without trusting them.

`bundle.json` holds the SHA-256 of every other file and its own. A reader gets the very bytes whose digest was checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tabulate import tabulate

from mkmsr.config import to_toml
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.storage import Display, display_of, display_table
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import BundleError, DataError, MkmsrError
from mkmsr.models.base import ModelSizes
from mkmsr.models.entry import ModelEntry
from mkmsr.runtime.files import read_signed, read_verified, signed_json
from mkmsr.runtime.parquet import read_table

FORMAT_VERSION = 1
HEADER, WEIGHTS, CARD = "bundle.json", "weights.safetensors", "README.md"

_FORMAT = "mkmsr-bundle"
_ITEMS, _OPERATIONS, _ATTRIBUTES, _TRIPLES = "items.parquet", "operations.json", "attributes.parquet", "triples.parquet"
_REQUIRED = (WEIGHTS, CARD, _ITEMS, _OPERATIONS)
_KNOWLEDGE = (_ATTRIBUTES, _TRIPLES)
_DISPLAY = "display.parquet"

_CARD = """# {model} on {data[name]}

{entry.summary}. Source: {entry.source}.

## What it learnt from

- {data[sessions]:,} sessions, {data[events]:,} events ({data[fitted_on]})
- {sizes[num_items]:,} items, {sizes[num_operations]:,} operations, \
{sizes[num_relations]:,} relations, {sizes[num_attributes]:,} attributes
- prefixes of at most {longest} events; new items: {data[new_items]}
- data fingerprint `{data[fingerprint]}`

{quality}## Use

```python
from mkmsr import Recommender

recommender = Recommender.load("path/to/this/folder")
recommender.recommend([("item id", "operation")], k=20)
```

or `mkmsr recommend path/to/this/folder --session sessions.jsonl`.

## Limits

It ranks the items of its catalogue and no others; items it does not know are skipped. It reflects the log it
learnt from, with that log's habits and biases; measure it on newer sessions before relying on it.

## Settings

```toml
{settings}
```

Written by mkmsr {libraries[mkmsr]} with torch {libraries[torch]} and Python {libraries[python]}. \
`bundle.json` holds the SHA-256 of every file; loading verifies them.
"""


class _Data(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    max_session_events: int = Field(ge=2)


class _File(BaseModel):
    bytes: int
    sha256: str


class _Catalogue(BaseModel):
    """What changed in the catalogue after training, see `ModelBundle`."""

    added: tuple[str, ...] = ()
    retired: frozenset[str] = frozenset()
    unlearnt: dict[str, dict[str, tuple[str, ...]]] = {}


class Header(BaseModel):
    """What `bundle.json` says of a model and its files."""

    model_config = ConfigDict(strict=True)

    format_version: int
    model: str
    config: dict[str, Any]
    sizes: ModelSizes
    data: _Data
    metrics: dict[str, Any]
    libraries: dict[str, Any]
    files: dict[str, _File]
    catalogue: _Catalogue = _Catalogue()
    sha256: str


@dataclass(frozen=True)
class Vocabularies:
    """What the rows of a model stand for: ids in index order, triples about the items, and what is shown with them.

    `item_counts` [V] and `operation_counts` [O] are events in training; their entries 0 are padding.
    """

    items: Vocabulary
    operations: Vocabulary
    knowledge: KnowledgeGraph
    item_counts: NDArray[np.int64]
    operation_counts: NDArray[np.int64]
    display: Display = field(default_factory=dict, kw_only=True)


def write_vocabularies(folder: Path, names: Vocabularies) -> None:
    """Write ids, their counts in the sessions that the model learnt from, and item knowledge where there is any."""
    pl.DataFrame({"item": list(names.items.ids), "count": names.item_counts[1:]}).write_parquet(folder / _ITEMS)
    operations = [
        {"operation": each, "count": count}
        for each, count in zip(names.operations.ids, names.operation_counts[1:].tolist(), strict=True)
    ]
    relations = list(names.knowledge.relations.ids)
    text = json.dumps({"operations": operations, "relations": relations}, ensure_ascii=False, indent=1) + "\n"
    (folder / _OPERATIONS).write_text(text, encoding="utf-8")
    if len(names.knowledge.attributes) > 0:
        pl.DataFrame({"attribute": list(names.knowledge.attributes.ids)}).write_parquet(folder / _ATTRIBUTES)
        item, relation, entity = names.knowledge.triples.astype(np.int32).T
        columns = {"item": item, "relation": relation, "attribute": entity - names.knowledge.num_items}
        pl.DataFrame(columns).write_parquet(folder / _TRIPLES)
    if names.display:
        display_table(names.display).write_parquet(folder / _DISPLAY)


def write_header(folder: Path, header: Mapping[str, Any]) -> None:
    """Write `bundle.json`: the given entries, size and SHA-256 of every file in the folder, and its own SHA-256."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name != HEADER:
            content = path.read_bytes()
            files[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    named = {"format": _FORMAT, "format_version": FORMAT_VERSION, **header, "files": files}
    (folder / HEADER).write_text(signed_json(named), encoding="utf-8")


def model_card(header: Mapping[str, Any], entry: ModelEntry) -> str:
    """Return the text of a bundle's README.md from the entries of its `bundle.json`."""
    longest, settings = header["data"]["max_session_events"] - 1, to_toml(header["config"]).rstrip()
    quality = _quality(header["metrics"])
    return _CARD.format(**header, entry=entry, longest=longest, quality=quality, settings=settings)


def _quality(metrics: Mapping[str, Any]) -> str:
    """A table of the `name@k` metrics of evaluation documents, or of a plain mapping; nothing where there are none."""
    documents = {name: each for name, each in metrics.items() if isinstance(each, Mapping)} or {"metrics": metrics}
    splits = {name: each.get("metrics", each) for name, each in documents.items()}
    keys = sorted({key for each in splits.values() for key in each if "@" in key}, key=_metric_order)
    if not keys:
        return ""
    rows = [
        [name, *(100 * each[key] if key in each else None for key in keys)]
        for name, each in splits.items()
        if not each.keys().isdisjoint(keys)
    ]
    table = tabulate(rows, ["split", *keys], tablefmt="pipe", floatfmt=".2f")
    return f"## Measured quality (per cent, whole catalogue ranked)\n\n{table}\n\n"


def _metric_order(key: str) -> tuple[str, int]:
    name, _, length = key.partition("@")
    return name, int(length) if length.isdigit() else 0


def read_header(path: Path) -> Header:
    """Read `bundle.json`, which must be what its own SHA-256 says and have all that a bundle needs."""
    file = path / HEADER
    if not file.is_file():
        hint = f"; that of this run is {path / 'bundle'}" if (path / "bundle" / HEADER).is_file() else ""
        raise BundleError(f"not a bundle: there is no bundle.json in this folder{hint}", path=path)
    return read_signed(file, Header, form=_FORMAT, versions=(FORMAT_VERSION,), wrong=_wrong)


def _wrong(text: str, path: Path) -> BundleError:
    return BundleError(text, path=path)


def verified_files(path: Path, files: Mapping[str, _File]) -> Callable[[str], bytes]:
    """Return a reader of the bundle's files that gives their bytes only if they are what the header says."""
    for name in files:
        if name not in (*_REQUIRED, *_KNOWLEDGE, _DISPLAY):
            raise BundleError(f"lists a file that no bundle has: {name!r}", path=path / HEADER)
    for name in (*_REQUIRED, *(_KNOWLEDGE if _ATTRIBUTES in files else ())):
        if name not in files:
            raise BundleError(f"does not list {name}", path=path / HEADER)
        if not (path / name).is_file():
            raise BundleError("missing", path=path / name)

    def read(name: str) -> bytes:
        expected, size = files[name], (path / name).stat().st_size
        if size != expected.bytes:
            raise BundleError("of another size", path=path / name, expected=f"{expected.bytes} bytes", found=size)
        return read_verified(path / name, expected.sha256, _wrong)

    return read


def read_vocabularies(read: Callable[[str], bytes], header: Header, path: Path) -> Vocabularies:
    """Read ids, counts and item knowledge of a bundle; triples may name only rows that there are."""
    table = _read_table(read(_ITEMS), path / _ITEMS, {"item": pl.String(), "count": pl.Int64()})
    items, item_counts = _vocabulary(table["item"].to_list(), "item", path / _ITEMS), table["count"].to_numpy()
    operations, operation_counts, relations = _read_operations(read(_OPERATIONS), path / _OPERATIONS)
    knowledge = KnowledgeGraph(np.zeros((0, 3), np.int64), relations, Vocabulary([], kind="attribute"), len(items))
    if _ATTRIBUTES in header.files:
        knowledge = _read_knowledge(read(_ATTRIBUTES), read(_TRIPLES), relations, len(items), path)
    display: Display = {}
    if _DISPLAY in header.files:
        texts = dict.fromkeys(("item", "name", "value"), pl.String())
        display = display_of(_read_table(read(_DISPLAY), path / _DISPLAY, texts))
    counts = (np.concatenate([np.zeros(1, np.int64), each]) for each in (item_counts, operation_counts))
    return Vocabularies(items, operations, knowledge, *counts, display=display)


def _read_table(content: bytes, path: Path, columns: Mapping[str, Any]) -> pl.DataFrame:
    try:
        return read_table(content, columns)
    except DataError as error:
        raise BundleError(str(error), path=path) from None


def _vocabulary(ids: list[str], kind: str, path: Path) -> Vocabulary:
    try:
        return Vocabulary(ids, kind=kind)
    except MkmsrError as error:
        raise BundleError(str(error), path=path) from None


def _read_operations(content: bytes, path: Path) -> tuple[Vocabulary, NDArray[np.int64], Vocabulary]:
    try:
        values = json.loads(content)
        ids = [str(each["operation"]) for each in values["operations"]]
        counts = np.array([int(each["count"]) for each in values["operations"]], dtype=np.int64)
        relations = [str(each) for each in values["relations"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BundleError(f"not a list of operations and relations: {error}", path=path) from None
    return _vocabulary(ids, "operation", path), counts, _vocabulary(relations, "relation", path)


def _read_knowledge(
    attributes: bytes, triples: bytes, relations: Vocabulary, num_items: int, path: Path
) -> KnowledgeGraph:
    names = _read_table(attributes, path / _ATTRIBUTES, {"attribute": pl.String()})["attribute"].to_list()
    vocabulary = _vocabulary(names, "attribute", path / _ATTRIBUTES)
    integers = {"item": pl.Int32(), "relation": pl.Int32(), "attribute": pl.Int32()}
    rows = _read_table(triples, path / _TRIPLES, integers).to_numpy().astype(np.int64).reshape(-1, 3)
    limits = (num_items, len(relations), len(vocabulary))
    if len(rows) and (rows.min() < 1 or (rows.max(axis=0) > limits).any() or (np.diff(rows[:, 0]) < 0).any()):
        raise BundleError(
            "triples out of order or out of range",
            path=path / _TRIPLES,
            expected=f"indexes from 1 to {limits}",
            found=rows.max(axis=0).tolist(),
        )
    rows[:, 2] += num_items
    return KnowledgeGraph(rows, relations, vocabulary, num_items)

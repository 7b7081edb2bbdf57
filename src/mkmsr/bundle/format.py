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
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import SessionTable
from mkmsr.data.storage import Display, display_of, display_table
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import BundleError, DataError, MkmsrError, shown
from mkmsr.models.base import ModelSizes
from mkmsr.runtime.files import is_signed, signed_json
from mkmsr.runtime.parquet import read_table

FORMAT_VERSION = 1
HEADER, WEIGHTS, CARD = "bundle.json", "weights.safetensors", "README.md"

_FORMAT = "mkmsr-bundle"
_ITEMS, _OPERATIONS, _ATTRIBUTES, _TRIPLES = "items.parquet", "operations.json", "attributes.parquet", "triples.parquet"
_REQUIRED = (WEIGHTS, CARD, _ITEMS, _OPERATIONS)
_KNOWLEDGE = (_ATTRIBUTES, _TRIPLES)
_DISPLAY = "display.parquet"


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
    """What the rows of a model stand for.

    Args:
        items: Item ids in index order.
        operations: Operation ids in index order.
        knowledge: Triples about the items.
        item_counts: Events of each item in training; entry 0 is padding. Shape [V].
        operation_counts: The same for operations. Shape [O].
        display: What is shown with items and never learnt from, by item id.
    """

    items: Vocabulary
    operations: Vocabulary
    knowledge: KnowledgeGraph
    item_counts: NDArray[np.int64]
    operation_counts: NDArray[np.int64]
    display: Display = field(default_factory=dict, kw_only=True)

    @classmethod
    def of(cls, dataset: PreparedDataset, sessions: SessionTable) -> Vocabularies:
        """Return the vocabularies of a dataset, counted in the sessions that a model learnt from."""
        return cls(
            dataset.items,
            dataset.operations,
            dataset.knowledge,
            np.bincount(sessions.items, minlength=len(dataset.items) + 1).astype(np.int64),
            np.bincount(sessions.operations, minlength=len(dataset.operations) + 1).astype(np.int64),
            display=dataset.display,
        )


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
        _write_knowledge(folder, names.knowledge)
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


def read_header(path: Path) -> Header:
    """Read `bundle.json`, which must be what its own SHA-256 says and have all that a bundle needs."""
    file = path / HEADER
    if not file.is_file():
        hint = f"; that of this run is {path / 'bundle'}" if (path / "bundle" / HEADER).is_file() else ""
        raise BundleError(f"not a bundle: there is no bundle.json in this folder{hint}", path=path)
    content = file.read_bytes()
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"not JSON any more: {error}", path=file) from None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        found = header.get("format") if isinstance(header, dict) else type(header).__name__
        raise BundleError("of another format", path=file, expected=_FORMAT, found=found)
    if header.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            "another format version: use the release of mkmsr that wrote it, or train again",
            path=file,
            expected=FORMAT_VERSION,
            found=header.get("format_version"),
        )
    if not is_signed(content, header.get("sha256")):
        raise BundleError("altered after it was written: its text does not match its entry sha256", path=file)
    try:
        return Header.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        name, found = ".".join(map(str, first["loc"])), shown(first["input"])
        raise BundleError(f"entry {name!r} is wrong: {first['msg']}, found {found}", path=file) from None


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
        content = (path / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != expected.sha256:
            wanted = f"sha256 {expected.sha256}"
            raise BundleError("altered after it was written", path=path / name, expected=wanted, found=digest)
        return content

    return read


def read_vocabularies(read: Callable[[str], bytes], header: Header, path: Path) -> Vocabularies:
    """Read ids, counts and item knowledge of a bundle; triples may name only rows that there are."""
    items, item_counts = _read_items(read(_ITEMS), path / _ITEMS)
    operations, operation_counts, relations = _read_operations(read(_OPERATIONS), path / _OPERATIONS)
    knowledge = KnowledgeGraph(np.zeros((0, 3), np.int64), relations, Vocabulary([], kind="attribute"), len(items))
    if _ATTRIBUTES in header.files:
        knowledge = _read_knowledge(read(_ATTRIBUTES), read(_TRIPLES), relations, len(items), path)
    display: Display = {}
    if _DISPLAY in header.files:
        texts = dict.fromkeys(("item", "name", "value"), pl.String())
        display = display_of(_read_table(read(_DISPLAY), path / _DISPLAY, texts))
    return Vocabularies(items, operations, knowledge, item_counts, operation_counts, display=display)


def _write_knowledge(folder: Path, knowledge: KnowledgeGraph) -> None:
    pl.DataFrame({"attribute": list(knowledge.attributes.ids)}).write_parquet(folder / _ATTRIBUTES)
    item, relation, entity = knowledge.triples.T
    columns = {"item": item, "relation": relation, "attribute": entity - knowledge.num_items}
    pl.DataFrame({name: values.astype(np.int32) for name, values in columns.items()}).write_parquet(folder / _TRIPLES)


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


def _read_items(content: bytes, path: Path) -> tuple[Vocabulary, NDArray[np.int64]]:
    table = _read_table(content, path, {"item": pl.String(), "count": pl.Int64()})
    return _vocabulary(table["item"].to_list(), "item", path), _with_padding(table["count"].to_numpy())


def _read_operations(content: bytes, path: Path) -> tuple[Vocabulary, NDArray[np.int64], Vocabulary]:
    try:
        values = json.loads(content)
        ids = [str(each["operation"]) for each in values["operations"]]
        counts = np.array([int(each["count"]) for each in values["operations"]], dtype=np.int64)
        relations = [str(each) for each in values["relations"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BundleError(f"not a list of operations and relations: {error}", path=path) from None
    return _vocabulary(ids, "operation", path), _with_padding(counts), _vocabulary(relations, "relation", path)


def _with_padding(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), counts])


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

"""Saved models: one folder that holds everything a recommendation needs, and that is verified before it is used.

    bundle.json          format version, model, settings, sizes, data fingerprint, metrics, library versions and the
                         SHA-256 of every file (its own included)
    weights.safetensors  every tensor of the model, buffers too
    items.parquet        item ids in index order, and how often each occurs in the sessions that the model learnt from
    operations.json      the same for operations, and the names of the relations
    attributes.parquet   attribute ids in index order   (both only where there is item knowledge)
    triples.parquet      item, relation and attribute index of each triple
    README.md            a model card for people

A bundle is untrusted input: nothing in it is executed, only the names above are ever opened, every byte is checked
against its SHA-256, and sizes are compared before the weights are used.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from mkmsr.config import StrictModel
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import BundleError, MkmsrError
from mkmsr.files import atomic_folder
from mkmsr.model_card import model_card
from mkmsr.models import model_entry
from mkmsr.models.base import ModelSizes, SessionModel

__all__ = ["FORMAT_VERSION", "ModelBundle", "load_bundle", "save_bundle"]

FORMAT_VERSION = 1

_HEADER = "bundle.json"
_WEIGHTS, _ITEMS, _OPERATIONS, _CARD = "weights.safetensors", "items.parquet", "operations.json", "README.md"
_ATTRIBUTES, _TRIPLES = "attributes.parquet", "triples.parquet"
_REQUIRED = (_WEIGHTS, _ITEMS, _OPERATIONS, _CARD)
_OPTIONAL = (_ATTRIBUTES, _TRIPLES)
_SIZES = ("num_items", "num_operations", "num_attributes", "num_relations")
_LIBRARIES = ("mkmsr", "torch", "numpy", "polars", "safetensors")
_NO_DIGEST = "0" * 64

T = TypeVar("T")


@dataclass(frozen=True)
class ModelBundle:
    """A model with what is needed to use it.

    Args:
        name: The model's registered name.
        config: Its settings.
        model: The model, ready to score (evaluation mode).
        items: Item vocabulary, in the order of the model's rows.
        operations: Operation vocabulary.
        knowledge: What is known about the items.
        item_counts: Events of each item in the sessions that the model learnt from; entry 0 is padding. Shape [V].
        operation_counts: The same for operations. Shape [O].
        max_session_events: The longest session of training, target included; a prefix has one event fewer.
        metadata: The other entries of `bundle.json`: data, metrics, libraries.
    """

    name: str
    config: StrictModel
    model: SessionModel
    items: Vocabulary
    operations: Vocabulary
    knowledge: KnowledgeGraph
    item_counts: NDArray[np.int64]
    operation_counts: NDArray[np.int64]
    max_session_events: int
    metadata: dict[str, Any] = field(default_factory=dict)


def save_bundle(
    path: str | Path,
    model: SessionModel,
    *,
    name: str,
    config: StrictModel,
    dataset: PreparedDataset,
    metrics: Mapping[str, Any],
    refit: bool = False,
) -> Path:
    """Write a bundle; an older one at the same place is replaced only when the new one is complete.

    Args:
        path: The bundle's folder.
        model: The fitted model.
        name: Its registered name.
        config: Its settings.
        dataset: What it learnt from.
        metrics: Whatever is known about its quality, as JSON; stored and shown, never read back.
        refit: Whether it learnt from train and validation together.

    Raises:
        BundleError: Something else than a bundle is at that place, the model does not fit the dataset, or the folder
            cannot be written (a full disk, no permission).
    """
    path = Path(path)
    if path.exists() and not (path / _HEADER).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise BundleError("something else is here, and it is not overwritten; choose another folder", path=path)
    _check_sizes(model.sizes, dataset.items, dataset.operations, dataset.knowledge, path)
    sessions = dataset.fitting_sessions(refit=refit)
    data = {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "new_items": dataset.new_items,
        "max_session_events": dataset.max_session_events,
        "fitted_on": "train and validation" if refit else "train",
        "sessions": len(sessions),
        "events": sessions.num_events,
    }
    header: dict[str, Any] = {
        "format": "mkmsr-bundle",
        "format_version": FORMAT_VERSION,
        "model": name,
        "config": config.model_dump(mode="json"),
        "sizes": {key: getattr(model.sizes, key) for key in _SIZES},
        "data": data,
        "metrics": dict(metrics),
        "libraries": {"python": platform.python_version(), **{each: version(each) for each in _LIBRARIES}},
    }
    item_counts = np.bincount(sessions.items, minlength=len(dataset.items) + 1)
    operation_counts = np.bincount(sessions.operations, minlength=len(dataset.operations) + 1)
    try:
        with atomic_folder(path) as folder:
            _write(folder, header, model, dataset, item_counts, operation_counts)
    except OSError as error:
        raise BundleError(f"cannot write the bundle: {error.strerror or error}", path=path) from error
    return path


def load_bundle(path: str | Path, *, device: torch.device | str = "cpu") -> ModelBundle:
    """Read a bundle after checking it, byte for byte.

    Raises:
        BundleError: A file is missing or altered, or the bundle is of another format, model or size. The message
            names the file, what was expected and what was found.
    """
    path = Path(path)
    header = _read_header(path)
    read = _verified_files(path, header)
    items, item_counts = _read_items(read(_ITEMS), path / _ITEMS)
    operations, operation_counts, relations = _read_operations(read(_OPERATIONS), path / _OPERATIONS)
    knowledge = KnowledgeGraph(np.zeros((0, 3), np.int64), relations, Vocabulary([], kind="attribute"), len(items))
    if _ATTRIBUTES in header["files"]:
        knowledge = _read_knowledge(read(_ATTRIBUTES), read(_TRIPLES), relations, len(items), path)
    read(_CARD)
    sizes = _read_sizes(header, path)
    _check_sizes(sizes, items, operations, knowledge, path)
    config, model = _restore(header, sizes, read(_WEIGHTS), path)
    return ModelBundle(
        name=header["model"],
        config=config,
        model=model.to(device).eval(),
        items=items,
        operations=operations,
        knowledge=knowledge,
        item_counts=item_counts,
        operation_counts=operation_counts,
        max_session_events=int(_entry(header["data"], "max_session_events", int, path / _HEADER)),
        metadata={key: header[key] for key in ("data", "metrics", "libraries", "format_version")},
    )


def _write(
    folder: Path,
    header: dict[str, Any],
    model: SessionModel,
    dataset: PreparedDataset,
    item_counts: NDArray[np.int64],
    operation_counts: NDArray[np.int64],
) -> None:
    (folder / _WEIGHTS).write_bytes(safetensors.torch.save(_tensors(model)))
    pl.DataFrame({"item": list(dataset.items.ids), "count": item_counts[1:]}).write_parquet(folder / _ITEMS)
    operations = {
        "operations": [
            {"operation": each, "count": int(count)}
            for each, count in zip(dataset.operations.ids, operation_counts[1:], strict=True)
        ],
        "relations": list(dataset.knowledge.relations.ids),
    }
    (folder / _OPERATIONS).write_text(_json(operations), encoding="utf-8")
    if len(dataset.knowledge.attributes) > 0:
        _write_knowledge(folder, dataset.knowledge)
    (folder / _CARD).write_text(model_card(header, model_entry(header["model"])), encoding="utf-8")
    files = {each.name: _file_entry(each) for each in sorted(folder.iterdir())}
    (folder / _HEADER).write_text(_signed({**header, "files": files}), encoding="utf-8")


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor of a model on the CPU, each with memory of its own, as the file format wants it."""
    tensors: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in model.state_dict().items():
        plain = tensor.detach().cpu().contiguous()
        if plain.numel() and plain.untyped_storage().data_ptr() in places:
            plain = plain.clone()
        places.add(plain.untyped_storage().data_ptr())
        tensors[name] = plain
    return tensors


def _write_knowledge(folder: Path, knowledge: KnowledgeGraph) -> None:
    pl.DataFrame({"attribute": list(knowledge.attributes.ids)}).write_parquet(folder / _ATTRIBUTES)
    item, relation, entity = knowledge.triples.T
    columns = {"item": item, "relation": relation, "attribute": entity - knowledge.num_items}
    pl.DataFrame({name: values.astype(np.int32) for name, values in columns.items()}).write_parquet(folder / _TRIPLES)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _file_entry(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _signed(header: Mapping[str, Any]) -> str:
    """The header's text with its own SHA-256 inside: computed over the text in which zeros stand in its place."""
    text = _json({**header, "sha256": _NO_DIGEST})
    return text.replace(_NO_DIGEST, hashlib.sha256(text.encode()).hexdigest())


def _read_header(path: Path) -> dict[str, Any]:
    file = path / _HEADER
    if not file.is_file():
        raise BundleError("not a bundle: there is no bundle.json in this folder", path=path)
    content = file.read_bytes()
    try:
        header = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"not JSON any more: {error}", path=file) from None
    if not isinstance(header, dict) or header.get("format") != "mkmsr-bundle":
        found = header.get("format") if isinstance(header, dict) else type(header).__name__
        raise BundleError("of another format", path=file, expected="mkmsr-bundle", found=found)
    if header.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            "another format version: use the release of mkmsr that wrote it, or train again",
            path=file,
            expected=FORMAT_VERSION,
            found=header.get("format_version"),
        )
    digest = str(header.get("sha256"))
    found = hashlib.sha256(content.replace(digest.encode(), _NO_DIGEST.encode())).hexdigest()
    if len(digest) != len(_NO_DIGEST) or digest != found:
        raise BundleError("altered after it was written", path=file, expected=f"sha256 {digest}", found=found)
    for key in ("config", "sizes", "data", "metrics", "libraries", "files"):
        _entry(header, key, dict, file)
    _entry(header, "model", str, file)
    return header


def _verified_files(path: Path, header: Mapping[str, Any]) -> Callable[[str], bytes]:
    """A reader of the bundle's files that gives their bytes only if they are what the header says."""
    files = header["files"]
    for name in files:
        if name not in (*_REQUIRED, *_OPTIONAL):
            raise BundleError(f"lists a file that no bundle has: {name!r}", path=path / _HEADER)
    for name in (*_REQUIRED, *((_ATTRIBUTES, _TRIPLES) if _ATTRIBUTES in files else ())):
        if name not in files:
            raise BundleError(f"does not list {name}", path=path / _HEADER)
        if not (path / name).is_file():
            raise BundleError("missing", path=path / name)

    def read(name: str) -> bytes:
        expected = files[name]
        if not isinstance(expected, dict):
            raise BundleError(f"entry {name!r} should hold bytes and sha256", path=path / _HEADER, found=expected)
        size = (path / name).stat().st_size
        if size != expected.get("bytes"):
            raise BundleError(
                "of another size", path=path / name, expected=f"{expected.get('bytes')} bytes", found=size
            )
        content = (path / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != expected.get("sha256"):
            wanted = f"sha256 {expected.get('sha256')}"
            raise BundleError("altered after it was written", path=path / name, expected=wanted, found=digest)
        return content

    return read


def _entry(values: Mapping[str, Any], key: str, kind: type[T], path: Path) -> T:
    value = values.get(key)
    if not isinstance(value, kind):
        raise BundleError(f"entry {key!r} is wrong", path=path, expected=kind.__name__, found=repr(value))
    return value


def _read_table(content: bytes, path: Path, columns: Mapping[str, Any]) -> pl.DataFrame:
    try:
        table = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BundleError(f"not a Parquet file: {error}", path=path) from None
    found = dict(table.schema)
    if found != columns or any(table.null_count().row(0)):
        raise BundleError("other columns, or empty cells", path=path, expected=columns, found=found)
    return table


def _vocabulary(ids: list[str], kind: str, path: Path) -> Vocabulary:
    try:
        return Vocabulary(ids, kind=kind)
    except MkmsrError as error:
        raise BundleError(str(error), path=path) from None


def _read_items(content: bytes, path: Path) -> tuple[Vocabulary, NDArray[np.int64]]:
    table = _read_table(content, path, {"item": pl.String, "count": pl.Int64})
    return _vocabulary(table["item"].to_list(), "item", path), _with_padding(table["count"].to_numpy())


def _read_operations(content: bytes, path: Path) -> tuple[Vocabulary, NDArray[np.int64], Vocabulary]:
    try:
        values = json.loads(content)
        ids = [str(each["operation"]) for each in values["operations"]]
        counts = np.array([int(each["count"]) for each in values["operations"]], dtype=np.int64)
        relations = [str(each) for each in values["relations"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"not a list of operations and relations: {error}", path=path) from None
    return _vocabulary(ids, "operation", path), _with_padding(counts), _vocabulary(relations, "relation", path)


def _with_padding(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), counts])


def _read_knowledge(
    attributes: bytes, triples: bytes, relations: Vocabulary, num_items: int, path: Path
) -> KnowledgeGraph:
    names = _read_table(attributes, path / _ATTRIBUTES, {"attribute": pl.String})["attribute"].to_list()
    vocabulary = _vocabulary(names, "attribute", path / _ATTRIBUTES)
    integers = {"item": pl.Int32, "relation": pl.Int32, "attribute": pl.Int32}
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


def _read_sizes(header: Mapping[str, Any], path: Path) -> ModelSizes:
    return ModelSizes(**{key: _entry(header["sizes"], key, int, path / _HEADER) for key in _SIZES})


def _check_sizes(
    sizes: ModelSizes, items: Vocabulary, operations: Vocabulary, knowledge: KnowledgeGraph, path: Path
) -> None:
    """A model has rows for exactly what the vocabularies name; one without item knowledge may have none for it."""
    found = (len(items), len(operations), len(knowledge.attributes), len(knowledge.relations))
    for key, count in zip(_SIZES, found, strict=True):
        size = getattr(sizes, key)
        if size != count and not (size == 0 and key in ("num_attributes", "num_relations")):
            raise BundleError(f"the model's {key} differs from its vocabulary", path=path, expected=size, found=count)


def _restore(
    header: Mapping[str, Any], sizes: ModelSizes, weights: bytes, path: Path
) -> tuple[StrictModel, SessionModel]:
    """The settings and the model with its tensors, without touching torch's random state."""
    file = path / _WEIGHTS
    try:
        entry = model_entry(header["model"])
        config = entry.configure(header["config"])
        tensors = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise BundleError(f"not a safetensors file: {error}", path=file) from None
    except MkmsrError as error:
        raise BundleError(f"this release cannot build the model: {error}", path=path / _HEADER) from None
    with torch.device("meta"):
        _check_tensors(entry.build(config, sizes), tensors, file)
    with torch.random.fork_rng(devices=[]):
        model = entry.build(config, sizes)
    buffers = {name for name, _ in model.named_buffers()}
    for name in buffers & set(tensors):
        owner, _, buffer = name.rpartition(".")
        model.get_submodule(owner)._buffers[buffer] = tensors[name]
    model.load_state_dict(tensors)
    return config, model


def _check_tensors(model: SessionModel, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Compare names and shapes with a model that has no memory yet, so that a forged size cannot exhaust the machine.

    Only parameters have shapes known in advance: buffers hold what was read off the training log.
    """
    expected = model.state_dict()
    if set(tensors) != set(expected):
        difference = ", ".join(sorted(set(tensors) ^ set(expected)))
        raise BundleError(f"other tensors than this model has: {difference}", path=path)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if tensors[name].shape != parameter.shape:
            shapes = {"expected": tuple(parameter.shape), "found": tuple(tensors[name].shape)}
            raise BundleError(f"tensor {name} has another shape", path=path, **shapes)
        if not bool(tensors[name].isfinite().all()):
            raise BundleError(f"tensor {name} holds values that are not finite numbers", path=path)

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
against its SHA-256, sizes are compared before the weights are used, and no Parquet file is unpacked that would come to
far more than its size. Who forges all that can at worst make the reader of Parquet fail.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mkmsr.bundle.format import (
    CARD,
    HEADER,
    WEIGHTS,
    Header,
    Vocabularies,
    model_card,
    read_header,
    read_vocabularies,
    verified_files,
    write_header,
    write_vocabularies,
)
from mkmsr.config import StrictModel
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import BundleError, DataError, MkmsrError
from mkmsr.models.base import ModelSizes, SessionModel
from mkmsr.models.capabilities import ChecksBuffers
from mkmsr.models.registry import model_entry
from mkmsr.runtime.files import atomic_folder, may_replace, unshared

_FIRST_WEIGHTS = ("normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "kaiming_normal_", "kaiming_uniform_")
_LARGER, _SMALL = 2, 10_000_000
"""No tensor may have more numbers than so many times those of the file, and 40 MB."""
_OLD_SECONDS = 3600.0
"""After so long the file of shared weights is removed when another one is written."""
_LIBRARIES = ("mkmsr", "torch", "numpy", "polars", "safetensors")


@dataclass(frozen=True, kw_only=True)
class ModelBundle(Vocabularies):
    """A model with what is needed to use it: the vocabularies of its rows, and the following.

    Args:
        name: The model's registered name.
        config: Its settings.
        model: The model, ready to score (evaluation mode).
        max_session_events: The longest session of training, target included; a prefix has one event fewer.
        metadata: The other entries of `bundle.json`: data, metrics, libraries, its SHA-256.
        added: Items that came after training, oldest first; they stand at the end of `items`.
        retired: Items that must not be recommended any more; a session may still hold them.
        unlearnt: By relation and item, attribute values of added items that training never saw: only filters see them.
    """

    name: str
    config: StrictModel
    model: SessionModel
    max_session_events: int
    metadata: dict[str, Any] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    retired: frozenset[str] = frozenset()
    unlearnt: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


def new_bundle(
    model: SessionModel,
    *,
    name: str,
    config: StrictModel,
    dataset: PreparedDataset,
    metrics: Mapping[str, Any] | None = None,
    refit: bool = False,
    retired: Iterable[str] = (),
) -> ModelBundle:
    """Return a fitted model, by its registered name, with the names of what it learnt from.

    That is train of the dataset, or with `refit` train and validation together. Metrics are whatever is known about its
    quality, as JSON; stored and shown, never read back. Retired items must not be recommended; those that the dataset
    lacks are passed over.
    """
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
    return ModelBundle(
        dataset.items,
        dataset.operations,
        dataset.knowledge,
        np.bincount(sessions.items, minlength=len(dataset.items) + 1).astype(np.int64),
        np.bincount(sessions.operations, minlength=len(dataset.operations) + 1).astype(np.int64),
        display=dataset.display,
        name=name,
        config=config,
        model=model.eval(),
        max_session_events=dataset.max_session_events,
        metadata={"data": data, "metrics": dict(metrics or {})},
        retired=frozenset(each for each in retired if each in dataset.items),
    )


def save_bundle(path: str | Path, bundle: ModelBundle) -> Path:
    """Write a bundle; an older one at the same place is replaced only when the new one is complete.

    Something else there, a model that does not fit its names, or a folder that cannot be written raises BundleError.
    """
    path, model = Path(path), bundle.model
    _check_sizes(model.sizes, bundle, path)
    if not may_replace(path, HEADER):
        raise BundleError("something else is here, and it is not overwritten; choose another folder", path=path)
    header: dict[str, Any] = {
        "model": bundle.name,
        "config": bundle.config.model_dump(mode="json"),
        "sizes": asdict(model.sizes),
        "data": bundle.metadata["data"],
        "metrics": bundle.metadata["metrics"],
        "libraries": {"python": platform.python_version(), **{each: version(each) for each in _LIBRARIES}},
    }
    if bundle.added or bundle.retired or bundle.unlearnt:
        changes = {"added": list(bundle.added), "retired": sorted(bundle.retired), "unlearnt": bundle.unlearnt}
        header["catalogue"] = changes
    try:
        with atomic_folder(path) as folder:
            (folder / WEIGHTS).write_bytes(safetensors.torch.save(unshared(model.state_dict())))
            write_vocabularies(folder, bundle)
            (folder / CARD).write_text(model_card(header, model_entry(bundle.name)), encoding="utf-8")
            write_header(folder, header)
    except OSError as error:
        raise BundleError(f"cannot write the bundle: {error.strerror or error}", path=path) from error
    return path


def load_bundle(path: str | Path, *, device: torch.device | str = "cpu", share: Path | None = None) -> ModelBundle:
    """Read a bundle after checking it, byte for byte; one that is altered, or of another format, raises BundleError.

    With `share`, a folder, all processes that name it have the weights in memory once.
    """
    path = Path(path)
    header = read_header(path)
    read = verified_files(path, header.files)
    read(CARD)
    names, catalogue = read_vocabularies(read, header, path), header.catalogue
    _check_sizes(header.sizes, names, path)
    changed = [
        *catalogue.added,
        *catalogue.retired,
        *(each for values in catalogue.unlearnt.values() for each in values),
    ]
    if strangers := [item for item in changed if item not in names.items]:
        raise BundleError(f"its catalogue changed an item that it lacks: {strangers[0]!r}", path=path / HEADER)
    config, model = _restore(header, read(WEIGHTS), path, share)
    return ModelBundle(
        **vars(names),
        name=header.model,
        config=config,
        model=model.to(device).eval(),
        max_session_events=header.data.max_session_events,
        metadata=header.model_dump(include={"data", "metrics", "libraries", "format_version", "sha256"}),
        **dict(catalogue),
    )


def _check_sizes(sizes: ModelSizes, names: Vocabularies, path: Path) -> None:
    """A model has rows for exactly what the vocabularies name; one without item knowledge may have none for it."""
    found = (len(names.items), len(names.operations), len(names.knowledge.attributes), len(names.knowledge.relations))
    for (key, size), count in zip(asdict(sizes).items(), found, strict=True):
        if size != count and not (size == 0 and key in ("num_attributes", "num_relations")):
            raise BundleError(f"the model's {key} differs from its vocabulary", path=path, expected=size, found=count)


def _restore(header: Header, weights: bytes, path: Path, share: Path | None) -> tuple[StrictModel, SessionModel]:
    """The settings and the model with its tensors, without touching torch's random state."""
    file = path / WEIGHTS
    try:
        registered = model_entry(header.model)
        config = registered.configure(header.config)
        shared = None if share is None else share / header.files[WEIGHTS].sha256
        tensors = safetensors.torch.load(weights) if shared is None else _mapped(weights, shared)
    except SafetensorError as error:
        raise BundleError(f"not a safetensors file: {error}", path=file) from None
    except MkmsrError as error:
        advice = "use the release of mkmsr that wrote it, or train again"
        raise BundleError(f"this release cannot build the model: {error}; {advice}", path=path / HEADER) from None
    most = _LARGER * sum(each.numel() for each in tensors.values()) + _SMALL
    try:
        with torch.random.fork_rng(devices=[]), _Building(most):
            model = registered.build(config, header.sizes)
    except RuntimeError as error:
        raise BundleError(f"its model cannot be built: {error}", path=path / HEADER) from None
    known = model.state_dict()
    tensors = {key if key in known else registered.present_name(key): each for key, each in tensors.items()}
    tensors.pop("", None)
    _check_tensors(model, tensors, file)
    buffers = {name for name, _ in model.named_buffers()}
    for name in buffers & set(tensors):
        owner, _, buffer = name.rpartition(".")
        model.get_submodule(owner)._buffers[buffer] = tensors[name]
    model.load_state_dict(tensors, assign=share is not None)
    for part in model.modules():
        if isinstance(part, ChecksBuffers):
            try:
                part.check_buffers()
            except DataError as error:
                raise BundleError(f"buffers that do not fit each other: {error}", path=file) from None
    return config, model


def _mapped(weights: bytes, file: Path) -> dict[str, Tensor]:
    """The tensors of a file that all processes map, so that its pages are in memory once; it is named by its digest."""
    if not file.exists():
        for each in file.parent.iterdir():  # Who maps a file keeps it, whatever becomes of its name.
            if time.time() - each.stat().st_mtime > _OLD_SECONDS:
                each.unlink(missing_ok=True)
        part = file.with_name(f".{os.getpid()}-{file.name}")
        part.write_bytes(weights)
        with suppress(FileExistsError):  # Another process was faster: a file in its place would be a second copy.
            file.hardlink_to(part)
        part.unlink()
    return safetensors.torch.load_file(file)


class _Building(TorchFunctionMode):
    """Lets a model be built whose weights come from a file: without first weights, in memory for as much as it holds.

    Tensors that a forged size asks for are not written to, and so take no memory, before they are refused.
    """

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        named = named or {}
        if getattr(function, "__name__", "") in _FIRST_WEIGHTS:
            return named["tensor"] if "tensor" in named else arguments[0]
        result = function(*arguments, **named)
        if isinstance(result, Tensor) and result.numel() > self._most:
            raise RuntimeError(f"its settings ask for a tensor of {list(result.shape)}, more than its file holds")
        return result


def _check_tensors(model: SessionModel, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Compare names and shapes with those of the model.

    Only parameters have shapes known in advance: buffers hold what was read off the training log, see `ChecksBuffers`.
    """
    expected = model.state_dict()
    if set(tensors) != set(expected):
        differences = {"lacks": set(expected) - set(tensors), "has also": set(tensors) - set(expected)}
        named = "; ".join(f"{what} {', '.join(sorted(names))}" for what, names in differences.items() if names)
        advice = "use the release of mkmsr that wrote it, or train again"
        raise BundleError(f"other tensors than the model of this release ({named}): {advice}", path=path)
    for name, buffer in model.named_buffers():
        if name in tensors and tensors[name].dtype != buffer.dtype:
            kinds = {"expected": buffer.dtype, "found": tensors[name].dtype}
            raise BundleError(f"tensor {name} is of another type", path=path, **kinds)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if tensors[name].shape != parameter.shape:
            shapes = {"expected": tuple(parameter.shape), "found": tuple(tensors[name].shape)}
            raise BundleError(f"tensor {name} has another shape", path=path, **shapes)
        if not bool(tensors[name].isfinite().all()):
            raise BundleError(f"tensor {name} holds values that are not finite numbers", path=path)

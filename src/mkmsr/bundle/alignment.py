"""Saved models and newer data: evaluation in the indexes of a bundle, and training that goes on from one.

Rows of tables are found by external ids, so that vocabularies may grow, shrink and change their order. Which axis of
which tensor belongs to which vocabulary is read off the model itself: it is built once without memory, with sizes that
nothing else has, and an axis of such a size is that vocabulary's. So training goes on with every model that trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.config import StrictModel
from mkmsr.data.dataset import EvaluationSplit, PreparedDataset, SplitName
from mkmsr.data.sessions import EarlierItems, ExampleTable, offsets_of
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import ConfigError, EvaluationError
from mkmsr.models.base import ModelSizes, SessionModel
from mkmsr.models.capabilities import TakesOver
from mkmsr.models.registry import model_entry

_PROBE = ModelSizes(num_items=1_000_002, num_operations=10_006, num_attributes=3_000_016, num_relations=20_010)


def aligned_split(bundle: ModelBundle, dataset: PreparedDataset, split: SplitName) -> EvaluationSplit:
    """Return a split of the dataset as the bundle's model can rank it.

    With equal vocabularies it is the split itself. Otherwise events are mapped by external id, and candidates are the
    bundle's catalogue, so that a run on other data with the same items stays comparable to itself, not to runs whose
    catalogue differs. Of visitors' earlier items those that the bundle does not know are passed over, as a recommender
    does; any other id that the bundle does not know is an `EvaluationError`.
    """
    own = dataset.evaluation_split(split)
    sessions, earlier = own.examples.sessions, own.examples.sessions.earlier
    if bundle.items == dataset.items and bundle.operations == dataset.operations:
        return own
    items = _mapping(dataset.items, bundle.items, sessions.items)
    used = sessions.operations if earlier is None else np.concatenate([sessions.operations, earlier.operations])
    operations = _mapping(dataset.operations, bundle.operations, used)
    mapped = replace(
        sessions,
        items=items[sessions.items].astype(np.int32),
        operations=operations[sessions.operations].astype(np.int16),
        earlier=None if earlier is None else _known(earlier, items, operations),
    )
    seen = np.zeros(len(bundle.items) + 1, dtype=np.bool_)
    seen[items[own.seen]] = True
    seen[0] = False
    examples = ExampleTable.from_sessions(mapped, max_events=bundle.max_session_events)
    return EvaluationSplit(split, examples, seen)


def has_learnt_from(bundle: ModelBundle, dataset: PreparedDataset, split: SplitName) -> bool:
    """Return whether the model was fitted on the sessions of a split: on validation, after a refit on these data."""
    learnt = bundle.metadata["data"]
    refitted = (learnt.get("fitted_on"), learnt.get("fingerprint")) == ("train and validation", dataset.fingerprint)
    return refitted and split == "validation"


def _known(earlier: EarlierItems, items: NDArray[np.int64], operations: NDArray[np.int64]) -> EarlierItems:
    """The earlier items that have an index in the bundle, by that."""
    known = items[earlier.items] > 0
    return EarlierItems(
        items[earlier.items[known]].astype(np.int32),
        operations[earlier.operations[known]].astype(np.int16),
        offsets_of(known)[earlier.offsets],
    )


def _mapping(source: Vocabulary, target: Vocabulary, used: NDArray[np.integer]) -> NDArray[np.int64]:
    """Index in `target` of each index of `source`, 0 where there is none; every used one must have one."""
    mapping = _rows(source, target).numpy()
    unknown = np.unique(used[mapping[used] == 0])
    if len(unknown):
        raise EvaluationError(
            f"the model does not know {len(unknown):,} of the {len(np.unique(used)):,} {source.kind}s of these "
            f"sessions, for example {source.id(int(unknown[0]))!r}: evaluate it on the data that it was trained on, "
            "or train a model on this data"
        )
    return mapping


@dataclass(frozen=True)
class Continuation:
    """What a model took over: how many items of the new log the older model has, of all of them; likewise the others.

    `fresh_parameters` are those that the older model lacks, and that begin from fresh weights.
    """

    items: tuple[int, int]
    operations: tuple[int, int]
    attributes: tuple[int, int]
    fresh_parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What people are told of it."""
        shares = (("items", self.items), ("operations", self.operations), ("attributes", self.attributes))
        known = ", ".join(f"{found:,} of {number:,} {name}" for name, (found, number) in shares)
        fresh = f"; fresh weights for {', '.join(self.fresh_parameters)}" if self.fresh_parameters else ""
        return f"going on from the bundle, which knows {known}{fresh}"


def carry_over(
    model: SessionModel, config: StrictModel, dataset: PreparedDataset, earlier: ModelBundle
) -> Continuation:
    """Put the weights of an older model of the same settings into a new one, in place; return what was taken over.

    Rows of ids that the older one lacks keep their fresh weights.
    """
    if type(model) is not type(earlier.model):
        raise ConfigError(
            f"the bundle holds {earlier.name!r}, and training goes on with the same model", key="model.name"
        )
    rows = {
        "items": _rows(dataset.items, earlier.items),
        "operations": _rows(dataset.operations, earlier.operations),
        "attributes": _rows(dataset.knowledge.attributes, earlier.knowledge.attributes),
        "relations": _rows(dataset.knowledge.relations, earlier.knowledge.relations),
    }
    if not any((rows[name] > 0).any() for name in ("items", "attributes")):
        raise ConfigError(
            f"the bundle knows none of the {len(dataset.items):,} items of the data and none of their attributes; go "
            "on with a newer log of the same shop",
            key="from",
        )
    axes = _axes(earlier.name, config)
    old = dict(earlier.model.named_parameters())
    fresh = []
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in old:
                fresh.append(name)
            else:
                _take_over(name, parameter, old[name], axes[name], rows, earlier.model.sizes)
    if isinstance(model, TakesOver):
        model.take_over(earlier.model, rows["items"])
    shares = {
        name: (int((rows[name] > 0).sum()), len(rows[name]) - 1) for name in ("items", "operations", "attributes")
    }
    return Continuation(**shares, fresh_parameters=tuple(fresh))


def _rows(new: Vocabulary, old: Vocabulary) -> Tensor:
    """Row in the older tables of each index of the new vocabulary, 0 where there is none. Shape [ids + 1]."""
    return torch.from_numpy(np.concatenate([np.zeros(1, np.int64), old.indexes(new.ids, missing="zero")]))


def _axes(name: str, config: StrictModel) -> dict[str, list[tuple[str, ...]]]:
    """Which vocabularies each axis of each parameter runs over: none, one, or two for a table of pairs."""
    of_size: dict[int, tuple[str, ...]] = {
        _PROBE.num_items + 1: ("items",),
        _PROBE.num_operations + 1: ("operations",),
        _PROBE.num_attributes + 1: ("attributes",),
        _PROBE.num_relations + 1: ("relations",),
        (_PROBE.num_operations + 1) ** 2: ("operations", "operations"),
        (_PROBE.num_items + 1) * (_PROBE.num_operations + 1): ("items", "operations"),
    }
    with torch.device("meta"):
        probe = model_entry(name).build(config, _PROBE)
    return {name: [of_size.get(size, ()) for size in parameter.shape] for name, parameter in probe.named_parameters()}


def _take_over(
    name: str,
    parameter: Tensor,
    old: Tensor,
    axes: list[tuple[str, ...]],
    rows: Mapping[str, Tensor],
    old_sizes: ModelSizes,
) -> None:
    """Write the older values over a parameter wherever every axis has a row there."""
    value, taken = old.detach().to(parameter), torch.ones((), dtype=torch.bool)
    for axis, vocabularies in enumerate(axes):
        if not vocabularies:
            if old.shape[axis] != parameter.shape[axis]:
                raise ConfigError(
                    f"{name} has shape {tuple(old.shape)} in the bundle, and {tuple(parameter.shape)} by these "
                    "settings; go on with the settings of the bundle",
                    key="model",
                )
            continue
        source, known = _source(vocabularies, rows, old_sizes)
        value = value.index_select(axis, source.to(value.device))
        taken = taken & known.view([-1 if place == axis else 1 for place in range(old.dim())])
    parameter.copy_(torch.where(taken.to(parameter.device), value, parameter))


def _source(vocabularies: tuple[str, ...], rows: Mapping[str, Tensor], old_sizes: ModelSizes) -> tuple[Tensor, Tensor]:
    """For each place of an axis the place in the older tensor, and whether there is one; padding maps to padding."""
    source = torch.zeros(1, dtype=torch.int64)
    known = torch.ones(1, dtype=torch.bool)
    for name in vocabularies:
        own = rows[name]
        found = own > 0
        found[0] = True
        length = getattr(old_sizes, f"num_{name}") + 1
        source = (source[:, None] * length + own).flatten()
        known = (known[:, None] & found).flatten()
    return source, known

"""Evaluate a saved model on data prepared elsewhere: the split's events in the indexes of the bundle's vocabularies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.data.dataset import EvaluationSplit, PreparedDataset, SplitName
from mkmsr.data.sessions import EarlierItems, ExampleTable, SessionTable, offsets_of
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import EvaluationError


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
    mapped = SessionTable(
        items[sessions.items].astype(np.int32),
        operations[sessions.operations].astype(np.int16),
        sessions.offsets,
        sessions.times,
        None if earlier is None else _known(earlier, items, operations),
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
    mapping = np.concatenate([np.zeros(1, np.int64), target.indexes(source.ids, missing="zero")])
    unknown = np.unique(used[mapping[used] == 0])
    if len(unknown):
        raise EvaluationError(
            f"the model does not know {len(unknown):,} of the {len(np.unique(used)):,} {source.kind}s of these "
            f"sessions, for example {source.id(int(unknown[0]))!r}: evaluate it on the data that it was trained on, "
            "or train a model on this data"
        )
    return mapping

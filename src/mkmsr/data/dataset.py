"""PreparedDataset: vocabularies, item knowledge and the three splits of one log, where training starts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import MAX_SESSION_EVENTS, ExampleTable, SessionTable
from mkmsr.data.storage import Contents, Description, Display, content_fingerprint, load_contents, save_contents
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import DataError

NewItems = Literal["drop", "keep"]
SplitName = Literal["validation", "test"]


@dataclass(frozen=True)
class EvaluationSplit:
    """The examples that one evaluation ranks, and whether each item occurs in the sessions before them.

    `seen` is bool [V]; entry 0, which is padding, is False.
    """

    name: SplitName
    examples: ExampleTable
    seen: NDArray[np.bool_]


@dataclass(frozen=True, repr=False)
class PreparedDataset:
    """One prepared log.

    Args:
        name: For tables and reports.
        items: Item vocabulary, V-1 ids: every item of the training log first, then (with `new_items="keep"`) new ones.
        operations: Operation vocabulary, O-1 ids.
        knowledge: Triples about the items.
        train: The oldest sessions.
        validation: The newest sessions of the training log: choose settings and epochs on these.
        test: The newest sessions of all.
        new_items: Whether test events of items that the training log lacks were dropped or kept.
        max_session_events: Examples use the last so many events of a session.
        display: What is shown with items and never learnt from, such as a name and an image, by item id.
        metadata: Sources with checksums and the options of preparation, as saved in `dataset.json`.
    """

    name: str
    items: Vocabulary
    operations: Vocabulary
    knowledge: KnowledgeGraph
    train: SessionTable
    validation: SessionTable
    test: SessionTable
    new_items: NewItems = "drop"
    max_session_events: int = MAX_SESSION_EVENTS
    display: Display = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        tables = {"train": self.train, "validation": self.validation, "test": self.test}
        sessions = ", ".join(f"{split} {len(table):,}" for split, table in tables.items())
        sizes = f"{len(self.items):,} items, {len(self.operations):,} operations"
        relations = ", ".join(self.knowledge.relations.ids) or "none"
        return f"<{type(self).__name__} {self.name!r}: sessions {sessions}; {sizes}; relations {relations}>"

    def fitting_sessions(self, *, refit: bool = False) -> SessionTable:
        """The sessions to fit on: train, or for a refit train followed by validation."""
        return self.train.concatenate(self.validation) if refit else self.train

    def seen_before(self, split: SplitName) -> NDArray[np.bool_]:
        """Whether each item occurs in the sessions that precede a split. Shape [V], bool; entry 0 is False."""
        seen = np.zeros(len(self.items) + 1, dtype=np.bool_)
        seen[self.fitting_sessions(refit=split == "test").items] = True
        return seen

    def evaluation_sessions(self, split: SplitName) -> SessionTable:
        """The sessions of a split, with new items treated alike in both: dropped from the sessions, or kept.

        Validation sessions are stored whole, since a refit learns from them; with `new_items="drop"` their events of
        items that train lacks are left out here, which is what preparation did to the test sessions.
        """
        if split == "test" or self.new_items == "keep":
            return self.test if split == "test" else self.validation
        return self.validation.select(self.seen_before("validation")[self.validation.items])

    def evaluation_split(self, split: SplitName) -> EvaluationSplit:
        """The examples of the sessions above, and what was seen before them."""
        return EvaluationSplit(split, self.examples(self.evaluation_sessions(split)), self.seen_before(split))

    def examples(self, sessions: SessionTable) -> ExampleTable:
        """Every (prefix, next item) of some sessions, by this dataset's longest session."""
        return ExampleTable.from_sessions(sessions, max_events=self.max_session_events)

    def earlier(self, windows: int) -> PreparedDataset:
        """Return these data as they were so many validation spans ago, to choose settings once more without the test.

        The newest sessions of train, as many as validation has, become validation; what comes after them is gone. The
        catalogue stays. With 0 windows validation stays as it is; too short a train raises DataError.
        """
        size, whole = len(self.validation), self.fitting_sessions(refit=True)
        end = len(whole) - windows * size
        if end <= size:
            raise DataError(f"{len(self.train)} training sessions do not hold {windows} further spans of {size}")
        return replace(
            self, train=whole.rows(0, end - size), validation=whole.rows(end - size, end), test=SessionTable.empty()
        )

    def num_examples(self, sessions: SessionTable) -> int:
        """How many examples some sessions have, without making them."""
        lengths = np.minimum(sessions.lengths, self.max_session_events)
        return int(np.maximum(lengths - 1, 0).sum())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the contents that a model sees: equal for equal data, wherever it came from."""
        return content_fingerprint([self.new_items, self.max_session_events], self._contents)

    def save(self, path: str | Path) -> None:
        """Write a folder of JSON and Parquet with checksums; an old one is replaced whole or left untouched.

        Raises:
            DataError: Something else than a prepared dataset is at that place, or the folder cannot be written.
        """
        description = Description(
            name=self.name,
            new_items=self.new_items,
            max_session_events=self.max_session_events,
            fingerprint=self.fingerprint,
            counts=statistics(self),
            **{key: value for key, value in self.metadata.items() if key not in Description.model_fields},
        )
        save_contents(path, description, self._contents)

    @classmethod
    def load(cls, path: str | Path) -> PreparedDataset:
        """Read a folder that `save` wrote; a file that is missing, altered or of another format raises DataError."""
        description, contents = load_contents(path)
        items, operations, relations, attributes = contents.vocabularies
        train, validation, test = contents.splits
        dataset = cls(
            name=description.name,
            items=items,
            operations=operations,
            knowledge=KnowledgeGraph(contents.triples, relations, attributes, len(items)),
            train=train,
            validation=validation,
            test=test,
            new_items=description.new_items,
            max_session_events=description.max_session_events,
            display=contents.display,
            metadata=dict(description.model_extra or {}),
        )
        if dataset.fingerprint != description.fingerprint:
            raise DataError("contents do not match the fingerprint of its dataset.json; prepare it again", path=path)
        return dataset

    @property
    def _contents(self) -> Contents:
        vocabularies = (self.items, self.operations, self.knowledge.relations, self.knowledge.attributes)
        return Contents(vocabularies, self.knowledge.triples, (self.train, self.validation, self.test), self.display)


def statistics(dataset: PreparedDataset) -> dict[str, Any]:
    """Count what `mkmsr describe --json` prints: the paper's Table 1, and what is new in the test.

    Shares are 0..1, lengths in events. Train and validation are disjoint and count every prefix of their sessions;
    `train_and_validation` is what the paper calls training. New items are those of no session before the test.
    Returning sessions, counted where the data know visitors, are those whose visitor touched something in earlier ones.
    """
    train, validation, test = (_counts(dataset, table) for table in (dataset.train, dataset.validation, dataset.test))
    seen = dataset.seen_before("test")
    test["new_item_event_share"] = _new_share(dataset.test.items, seen)
    test["new_item_target_share"] = _new_share(dataset.examples(dataset.test).targets, seen)
    sessions, events = (sum(part[key] for part in (train, validation, test)) for key in ("sessions", "events"))
    return {
        "sessions": sessions,
        "events": events,
        "items": len(dataset.items),
        "operations": len(dataset.operations),
        "relations": len(dataset.knowledge.relations),
        "triples": len(dataset.knowledge),
        "train": train,
        "validation": validation,
        "test": test,
        "train_and_validation": {key: train[key] + validation[key] for key in train},
        "mean_session_length": events / sessions if sessions else 0.0,
        "mean_item_frequency": events / len(dataset.items) if len(dataset.items) else 0.0,
    }


def _counts(dataset: PreparedDataset, table: SessionTable) -> dict[str, Any]:
    counts = {"sessions": len(table), "events": table.num_events, "examples": dataset.num_examples(table)}
    if table.earlier is not None:
        counts["returning_sessions"] = int(np.count_nonzero(np.diff(table.earlier.offsets)))
    return counts


def _new_share(items: NDArray[np.integer], seen: NDArray[np.bool_]) -> float:
    return float((~seen[items]).mean()) if len(items) else 0.0

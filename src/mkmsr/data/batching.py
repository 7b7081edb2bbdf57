"""SessionBatch, the only thing that models receive, and the vectorised loaders that cut one from example tables.

A batch is ragged: the events of all prefixes stand one after the other, without padding. Dimension letters: B sessions
in the batch, P events of all prefixes together, L the longest prefix, V catalogue + 1, T triples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.session_graph import PrefixTree, SessionGraph, build_prefix_tree, build_session_graph
from mkmsr.data.sessions import EarlierItems, ExampleTable, offsets_of, ranges
from mkmsr.errors import DataError

Shuffle = Literal["examples", "sessions"]


@dataclass(frozen=True)
class _Movable:
    """Tensors that go to a device together."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device; itself, with all that it has derived, where it is there already."""
        own = {each.name: part for each in fields(self) if (part := getattr(self, each.name)) is not None}
        moved = {name: part.to(device) for name, part in own.items()}
        return self if all(moved[name] is part for name, part in own.items()) else replace(self, **moved)


@dataclass(frozen=True)
class _Rows(_Movable):
    """Items with an operation each, row after row; row `b` has the entries `offsets[b]:offsets[b + 1]`."""

    items: Tensor
    operations: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Tensor:
        """Entries of each row. Shape [B]."""
        return self.offsets.diff()

    @cached_property
    def rows(self) -> Tensor:
        """Row that each entry belongs to. Shape of `items`."""
        index = torch.arange(len(self), device=self.items.device)
        return torch.repeat_interleave(index, self.lengths, output_size=len(self.items))

    @cached_property
    def positions(self) -> Tensor:
        """Place of each entry in its row, from 0. Shape of `items`."""
        return torch.arange(len(self.items), device=self.items.device) - self.offsets[self.rows]


@dataclass(frozen=True)
class EarlierBatch(_Rows):
    """What the visitors of a batch's sessions touched before them, by session and then newest first.

    Items, distinct within a session, and the operation of the newest event on each are int64 [H]; offsets [B + 1].
    """

    def ranks_of(self, rows: Tensor, items: Tensor) -> Tensor:
        """Place of each item of `items` among those of the session in `rows`; -1 where it is not one. Shape [P]."""
        if len(self.items) == 0:
            return torch.full_like(items, -1)
        width = torch.maximum(self.items.max(), items.max()) + 1
        keys, order = (self.rows * width + self.items).sort()
        wanted = rows * width + items
        found = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return torch.where(keys[found] == wanted, self.positions[order[found]], -1)

    def part(self, begin: int, end: int) -> EarlierBatch:
        """Those of some sessions, one after another."""
        first, last = int(self.offsets[begin]), int(self.offsets[end])
        offsets = self.offsets[begin : end + 1] - first
        return EarlierBatch(self.items[first:last], self.operations[first:last], offsets)

    @classmethod
    def nothing(cls, sessions: int, device: torch.device) -> EarlierBatch:
        """Of so many sessions whose visitors are new, or not known."""
        none = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(none, none, torch.zeros(sessions + 1, dtype=torch.int64, device=device))

    def repeated(self, times: int) -> EarlierBatch:
        """Those of a batch of one session, for so many copies of it."""
        offsets = torch.arange(times + 1, device=self.items.device) * len(self.items)
        return EarlierBatch(self.items.repeat(times), self.operations.repeat(times), offsets)

    @classmethod
    def of_sessions(cls, earlier: EarlierItems, sessions: NDArray[np.integer]) -> EarlierBatch:
        """Those of some rows of a session table, [B]."""
        place, offsets = ranges(earlier.offsets[sessions], earlier.offsets[sessions + 1])
        return cls(
            items=torch.from_numpy(earlier.items[place].astype(np.int64)),
            operations=torch.from_numpy(earlier.operations[place].astype(np.int64)),
            offsets=torch.from_numpy(offsets),
        )


@dataclass(frozen=True)
class SessionBatch(_Rows):
    """Prefixes of sessions and, where known, what came next.

    Args:
        items: Item index of each event, oldest first, prefix after prefix. Shape [P], int64.
        operations: Operation index of each event. Shape [P], int64.
        offsets: Where each prefix begins, and P. Shape [B + 1], int64. No prefix is empty.
        targets: Item index of the next event; 0 where unknown. Shape [B], int64.
        target_operations: Operation index of the next event; 0 where unknown. Shape [B], int64.
        sessions: Row of the session table that each prefix was cut from, -1 where it comes from none. Shape [B], int64.
        wanted: Operation that the next event is asked to have, 0 for any; None is any for all. Shape [B], int64.
        earlier: What the visitors touched in earlier sessions; None where nobody says.
    """

    targets: Tensor
    target_operations: Tensor
    sessions: Tensor
    wanted: Tensor | None = None
    earlier: EarlierBatch | None = None

    @cached_property
    def last(self) -> Tensor:
        """Position of each prefix's newest event. Shape [B]."""
        return self.offsets[1:] - 1

    @cached_property
    def ages(self) -> Tensor:
        """Events of the prefix since each of its events, 0 for the newest. Shape [P]."""
        return self.last[self.rows] - torch.arange(len(self.items), device=self.items.device)

    @cached_property
    def earlier_ranks(self) -> Tensor:
        """Place of each event's item among the visitor's earlier ones, 0 for the newest; -1 where it is none. [P]."""
        return torch.full_like(self.items, -1) if self.earlier is None else self.earlier.ranks_of(self.rows, self.items)

    @cached_property
    def graph(self) -> SessionGraph:
        """The item-transition graph of every prefix."""
        return build_session_graph(self.items, self.rows)

    @cached_property
    def operation_tree(self) -> PrefixTree:
        """The distinct operation prefixes."""
        return build_prefix_tree(self.operations, self.offsets)

    def padded(self, values: Tensor, fill: float = 0) -> Tensor:
        """Per-event values [P, ...] as a rectangle [B, L, ...], padded at the end."""
        shape = (len(self), int(self.lengths.max()), *values.shape[1:])
        result = values.new_full(shape, fill)
        result[self.rows, self.positions] = values
        return result

    def part(self, rows: slice) -> SessionBatch:
        """The batch of some of its prefixes, one after another."""
        begin, end, _ = rows.indices(len(self))
        events = slice(int(self.offsets[begin]), int(self.offsets[end]))
        return SessionBatch(
            items=self.items[events],
            operations=self.operations[events],
            offsets=self.offsets[begin : end + 1] - self.offsets[begin],
            targets=self.targets[rows],
            target_operations=self.target_operations[rows],
            sessions=self.sessions[rows],
            wanted=None if self.wanted is None else self.wanted[rows],
            earlier=None if self.earlier is None else self.earlier.part(begin, end),
        )

    @classmethod
    def from_sequences(cls, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> SessionBatch:
        """A batch from (item indexes, operation indexes) pairs, one pair a session, oldest event first.

        An empty pair, or one that has not as many operations as items, raises DataError.
        """
        for row, (items, operations) in enumerate(sequences):
            if len(items) != len(operations) or len(items) == 0:
                raise DataError(
                    f"session {row} has {len(items)} items and {len(operations)} operations; "
                    "both must have one entry an event, and at least one event"
                )
        return cls.from_arrays(
            np.concatenate([np.asarray(items, np.int64) for items, _ in sequences]),
            np.concatenate([np.asarray(each, np.int64) for _, each in sequences]),
            np.array([len(items) for items, _ in sequences], dtype=np.int64),
        )

    @classmethod
    def from_arrays(
        cls, items: NDArray[np.int64], operations: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> SessionBatch:
        """A batch without targets from the events of its sessions, one after another, and how many each has, 1 or more.

        Shapes [P], [P] and [B].
        """
        unknown = np.zeros(len(lengths), np.int64)
        return cls(
            items=torch.from_numpy(items),
            operations=torch.from_numpy(operations),
            offsets=torch.from_numpy(offsets_of(lengths)),
            targets=torch.from_numpy(unknown),
            target_operations=torch.from_numpy(unknown.copy()),
            sessions=torch.from_numpy(unknown - 1),
        )


@dataclass(frozen=True)
class TripleBatch(_Movable):
    """Triples <item, relation, attribute> for the knowledge task: indexes from 1, each of shape [T], int64."""

    items: Tensor
    relations: Tensor
    attributes: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def part(self, rows: slice) -> TripleBatch:
        """Some of the triples."""
        return TripleBatch(self.items[rows], self.relations[rows], self.attributes[rows])


def collate(examples: ExampleTable, rows: NDArray[np.integer]) -> SessionBatch:
    """The batch of the given example rows, in the given order."""
    end = examples.end[rows]
    events, offsets = ranges(examples.begin[rows], end)
    table = examples.sessions
    earlier = None if table.earlier is None else EarlierBatch.of_sessions(table.earlier, examples.session[rows])
    return SessionBatch(
        items=torch.from_numpy(table.items[events].astype(np.int64)),
        operations=torch.from_numpy(table.operations[events].astype(np.int64)),
        offsets=torch.from_numpy(offsets),
        targets=torch.from_numpy(table.items[end].astype(np.int64)),
        target_operations=torch.from_numpy(table.operations[end].astype(np.int64)),
        sessions=torch.from_numpy(examples.session[rows].astype(np.int64)),
        earlier=earlier,
    )


def collate_triples(knowledge: KnowledgeGraph, rows: NDArray[np.integer]) -> TripleBatch:
    """The batch of the given rows of a knowledge graph's triples."""
    chosen = knowledge.triples[rows]
    return TripleBatch(
        items=torch.from_numpy(chosen[:, 0].copy()),
        relations=torch.from_numpy(chosen[:, 1].copy()),
        attributes=torch.from_numpy(chosen[:, 2] - knowledge.num_items),
    )


def epoch_order(examples: ExampleTable, shuffle: Shuffle, generator: np.random.Generator) -> NDArray[np.int64]:
    """The order in which an epoch visits the examples: shuffled one by one, or whole sessions at a time."""
    if shuffle == "examples":
        return generator.permutation(len(examples))
    place = generator.permutation(len(examples.sessions))
    return np.argsort(place[examples.session], kind="stable")


def session_batches(examples: ExampleTable, batch_size: int) -> Iterator[SessionBatch]:
    """Batches of at most `batch_size` examples, in table order."""
    order = np.arange(len(examples), dtype=np.int64)
    for begin in range(0, len(order), batch_size):
        yield collate(examples, order[begin : begin + batch_size])

"""Batches cut from an example table against literal loops."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from mkmsr.data.batching import SessionBatch, collate, collate_triples, epoch_order, session_batches
from mkmsr.data.sessions import ExampleTable
from mkmsr.errors import DataError
from mkmsr.models.base import TrainingData
from tests.conftest import earlier_batch


@pytest.fixture(scope="module")
def examples(small_training: TrainingData) -> ExampleTable:
    return small_training.examples


def prefixes(batch: SessionBatch) -> list[tuple[list[int], list[int]]]:
    bounds = zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True)
    return [(batch.items[begin:end].tolist(), batch.operations[begin:end].tolist()) for begin, end in bounds]


def test_a_batch_holds_the_chosen_prefixes_in_the_chosen_order(examples: ExampleTable) -> None:
    rows = np.array([5, 0, 41, 5])
    batch, table = collate(examples, rows), examples.sessions
    assert len(batch) == 4
    for place, row in enumerate(rows):
        begin, end = examples.begin[row], examples.end[row]
        assert prefixes(batch)[place] == (table.items[begin:end].tolist(), table.operations[begin:end].tolist())
        assert batch.targets[place] == table.items[end]
        assert batch.target_operations[place] == table.operations[end]
        assert batch.sessions[place] == examples.session[row]


def test_events_know_their_row_and_their_place(examples: ExampleTable) -> None:
    batch = collate(examples, np.arange(6, 20))
    lengths = [len(items) for items, _ in prefixes(batch)]
    assert batch.lengths.tolist() == lengths
    assert batch.rows.tolist() == [row for row, length in enumerate(lengths) for _ in range(length)]
    assert batch.positions.tolist() == [place for length in lengths for place in range(length)]
    assert batch.ages.tolist() == [age for length in lengths for age in reversed(range(length))]
    assert batch.items[batch.last].tolist() == [items[-1] for items, _ in prefixes(batch)]


def test_a_padded_rectangle_holds_each_prefix_at_its_start(examples: ExampleTable) -> None:
    batch = collate(examples, np.arange(6, 20))
    rectangle = batch.padded(batch.items)
    assert rectangle.shape == (14, int(batch.lengths.max()))
    for row, (items, _) in enumerate(prefixes(batch)):
        assert rectangle[row].tolist() == items + [0] * (rectangle.shape[1] - len(items))
    vectors = torch.randn(len(batch.items), 3)
    assert torch.equal(batch.padded(vectors, fill=-1.0)[batch.rows, batch.positions], vectors)


def test_an_epoch_of_batches_visits_every_example_once(examples: ExampleTable) -> None:
    batches = list(session_batches(examples, 32))
    assert [len(batch) for batch in batches[:-1]] == [32] * (len(batches) - 1)
    assert torch.cat([batch.targets for batch in batches]).tolist() == examples.targets.tolist()
    assert sum(len(batch) for batch in batches) == len(examples)


@pytest.mark.parametrize("shuffle", ["examples", "sessions"])
def test_an_epoch_order_is_a_permutation_that_its_seed_decides(examples: ExampleTable, shuffle: str) -> None:
    order = epoch_order(examples, shuffle, np.random.default_rng(3))  # type: ignore[arg-type]
    again = epoch_order(examples, shuffle, np.random.default_rng(3))  # type: ignore[arg-type]
    other = epoch_order(examples, shuffle, np.random.default_rng(4))  # type: ignore[arg-type]
    assert sorted(order.tolist()) == list(range(len(examples)))
    assert order.tolist() == again.tolist()
    assert order.tolist() != other.tolist()


def test_shuffled_sessions_stay_whole_and_in_order(examples: ExampleTable) -> None:
    order = epoch_order(examples, "sessions", np.random.default_rng(0))
    visited = examples.session[order]
    runs = 1 + np.count_nonzero(visited[1:] != visited[:-1])
    assert runs == len(set(examples.session.tolist()))
    within = visited[1:] == visited[:-1]
    assert (np.diff(order)[within] == 1).all()


def test_triples_lose_the_offset_of_the_entity_space(small_training: TrainingData) -> None:
    knowledge = small_training.knowledge
    rows = np.array([4, 0])
    triples = collate_triples(knowledge, rows)
    assert len(triples) == 2
    for place, row in enumerate(rows):
        item, relation, entity = knowledge.triples[row].tolist()
        assert triples.items[place] == item
        assert triples.relations[place] == relation
        assert triples.attributes[place] == entity - knowledge.num_items
    assert collate_triples(knowledge, np.arange(len(knowledge))).attributes.min() == 1


def test_a_batch_moves_as_a_whole(examples: ExampleTable) -> None:
    batch = collate(examples, np.arange(3))
    assert batch.to("meta").wanted is None
    batch = replace(batch, wanted=batch.target_operations, earlier=earlier_batch([[(1, 1)], [], []]))
    moved = batch.to("meta")
    tensors = [getattr(part, each.name) for part in (moved, moved.earlier) for each in fields(part)]
    assert {each.device.type for each in tensors if isinstance(each, torch.Tensor)} == {"meta"}
    assert len(moved) == 3


def test_a_batch_that_is_there_already_does_not_move_and_keeps_what_it_derived(examples: ExampleTable) -> None:
    batch = collate(examples, np.arange(3))
    assert batch.to("cpu") is batch
    known = replace(batch, earlier=earlier_batch([[(1, 1)], [], []]))
    assert known.to("cpu") is known


def test_a_batch_of_bare_sequences_has_no_targets() -> None:
    batch = SessionBatch.from_sequences([([3, 3], [1, 2]), ([5], [1])])
    assert prefixes(batch) == [([3, 3], [1, 2]), ([5], [1])]
    assert batch.targets.tolist() == [0, 0]
    assert batch.target_operations.tolist() == [0, 0]
    assert batch.sessions.tolist() == [-1, -1]


@pytest.mark.parametrize("sequence", [([], []), ([1, 2], [1])])
def test_a_sequence_that_is_empty_or_uneven_is_named(sequence: tuple[list[int], list[int]]) -> None:
    with pytest.raises(DataError, match=r"session 1 has \d items and \d operations"):
        SessionBatch.from_sequences([([1], [1]), sequence])

"""The vectorised session graph and prefix tree against dense matrices and sets written out by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mkmsr.data import session_graph
from mkmsr.data.batching import SessionBatch
from mkmsr.data.session_graph import SessionGraph, build_prefix_tree, build_session_graph

sequences = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=9), min_size=1, max_size=7)


def flat(sessions: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values, rows and offsets of some sessions."""
    lengths = torch.tensor([len(session) for session in sessions])
    values = torch.tensor([value for session in sessions for value in session])
    rows = torch.repeat_interleave(torch.arange(len(sessions)), lengths)
    return values, rows, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])


def dense(graph: SessionGraph) -> tuple[np.ndarray, np.ndarray]:
    """The in and out adjacency that the edge list stands for: row = receiving node, weights of recurring edges add."""
    incoming, outgoing = np.zeros((2, graph.num_nodes, graph.num_nodes))
    for matrix, (sender, receiver, weight) in ((incoming, graph.incoming), (outgoing, graph.outgoing)):
        np.add.at(matrix, (receiver.numpy(), sender.numpy()), weight.numpy())
    return incoming, outgoing


def literal_adjacency(session: list[int]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Distinct values in ascending order, and counts of transitions divided by the in-degree and by the out-degree."""
    nodes = sorted(set(session))
    counts = np.zeros((len(nodes), len(nodes)))
    for before, after in pairwise(session):
        counts[nodes.index(before), nodes.index(after)] += 1
    incoming, outgoing = np.zeros_like(counts), np.zeros_like(counts)
    for node in range(len(nodes)):
        if counts[:, node].sum() > 0:
            incoming[node] = counts[:, node] / counts[:, node].sum()
        if counts[node].sum() > 0:
            outgoing[node] = counts[node] / counts[node].sum()
    return nodes, incoming, outgoing


def test_a_recurring_transition_counts_as_often_as_it_occurs() -> None:
    values, rows, _ = flat([[5, 8, 5, 8, 9, 8]])
    graph = build_session_graph(values, rows)
    incoming, outgoing = dense(graph)
    assert graph.distinct.tolist() == [5, 8, 9]
    assert graph.alias.tolist() == [0, 1, 0, 1, 2, 1]
    np.testing.assert_allclose(incoming, [[0, 1, 0], [2 / 3, 0, 1 / 3], [0, 1, 0]], rtol=1e-6)
    np.testing.assert_allclose(outgoing, [[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]], rtol=1e-6)


def test_an_item_after_itself_is_a_loop() -> None:
    values, rows, _ = flat([[4, 4, 4]])
    incoming, outgoing = dense(build_session_graph(values, rows))
    assert incoming.tolist() == [[1.0]]
    assert outgoing.tolist() == [[1.0]]


def test_no_transition_crosses_from_one_session_to_the_next() -> None:
    values, rows, _ = flat([[1], [1], [2]])
    graph = build_session_graph(values, rows)
    assert len(graph.incoming.sender) == len(graph.outgoing.sender) == 0
    assert graph.num_nodes == 3
    assert graph.distinct.tolist() == [1, 2]


@given(sequences)
def test_the_graph_of_a_batch_is_the_block_diagonal_of_the_literal_matrices(sessions: list[list[int]]) -> None:
    values, rows, _ = flat(sessions)
    graph = build_session_graph(values, rows)
    incoming, outgoing = dense(graph)
    start, node_values = 0, graph.distinct[graph.node_value]
    expected_in, expected_out = np.zeros_like(incoming), np.zeros_like(outgoing)
    for row, session in enumerate(sessions):
        nodes, literal_in, literal_out = literal_adjacency(session)
        block = slice(start, start + len(nodes))
        assert node_values[block].tolist() == nodes
        assert (graph.node_row[block] == row).all()
        expected_in[block, block], expected_out[block, block] = literal_in, literal_out
        start += len(nodes)
    assert start == graph.num_nodes
    np.testing.assert_allclose(incoming, expected_in, rtol=1e-6)
    np.testing.assert_allclose(outgoing, expected_out, rtol=1e-6)


@given(sequences)
def test_every_event_finds_its_own_value_and_session(sessions: list[list[int]]) -> None:
    values, rows, _ = flat(sessions)
    graph = build_session_graph(values, rows)
    assert graph.distinct[graph.node_value][graph.alias].tolist() == values.tolist()
    assert graph.node_row[graph.alias].tolist() == rows.tolist()
    assert graph.distinct.tolist() == sorted(set(values.tolist()))


@given(sequences)
def test_a_session_has_the_same_graph_alone_and_in_a_batch(sessions: list[list[int]]) -> None:
    values, rows, _ = flat(sessions)
    graph = build_session_graph(values, rows)
    for row, session in enumerate(sessions):
        alone = build_session_graph(*flat([session])[:2])
        nodes = torch.nonzero(graph.node_row == row).flatten()
        for messages, expected in ((graph.incoming, alone.incoming), (graph.outgoing, alone.outgoing)):
            mine = graph.node_row[messages.receiver] == row
            assert (messages.sender[mine] - nodes[0]).tolist() == expected.sender.tolist()
            assert (messages.receiver[mine] - nodes[0]).tolist() == expected.receiver.tolist()
            assert messages.weight[mine].tolist() == expected.weight.tolist()


@given(sequences)
def test_a_tree_node_is_a_distinct_prefix(sessions: list[list[int]]) -> None:
    values, _, offsets = flat(sessions)
    tree = build_prefix_tree(values, offsets)
    prefixes = [{tuple(s[:n]) for s in sessions if len(s) >= n} for n in range(1, 1 + max(map(len, sessions)))]
    assert tree.level_sizes == tuple(len(level) for level in prefixes)
    assert len(tree.value) == len(tree.parent) == sum(tree.level_sizes)
    assert not tree.parent[: tree.level_sizes[0]].any()


@given(sequences)
def test_walking_up_from_an_event_spells_its_prefix(sessions: list[list[int]]) -> None:
    values, _, offsets = flat(sessions)
    tree = build_prefix_tree(values, offsets)
    starts = np.cumsum([0, *tree.level_sizes])
    position = 0
    for session in sessions:
        for end in range(1, len(session) + 1):
            node, spelt = int(tree.alias[position]), []
            for level in range(end - 1, -1, -1):
                assert starts[level] <= node < starts[level + 1]
                spelt.append(int(tree.value[node]))
                node = int(starts[level - 1] + tree.parent[node])
            assert spelt[::-1] == session[:end]
            position += 1


def test_a_tree_of_equal_sessions_is_one_path() -> None:
    values, _, offsets = flat([[2, 1, 2]] * 5)
    tree = build_prefix_tree(values, offsets)
    assert tree.level_sizes == (1, 1, 1)
    assert tree.value.tolist() == [2, 1, 2]
    assert tree.alias.tolist() == [0, 1, 2] * 5


def test_an_empty_batch_has_an_empty_graph_and_an_empty_tree() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    assert build_session_graph(nothing, nothing).num_nodes == 0
    assert build_prefix_tree(nothing, torch.zeros(1, dtype=torch.int64)).level_sizes == ()


def test_a_batch_builds_its_graph_and_its_tree_once() -> None:
    batch = SessionBatch.from_sequences([([3, 4, 3], [1, 1, 2]), ([4], [1])])
    assert batch.graph is batch.graph
    assert batch.operation_tree is batch.operation_tree
    assert batch.graph.distinct[batch.graph.node_value].tolist() == [3, 4, 4]
    assert batch.operation_tree.level_sizes == (1, 1, 1)


@pytest.mark.parametrize(
    ("sessions", "level_sizes"),
    [
        ([[first, second] for first in range(7) for second in range(7)], (7, 49)),
        ([[value] for value in range(49)], (49,)),
    ],
)
def test_prefixes_that_share_a_number_are_told_apart(
    sessions: list[list[int]], level_sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 49 prefixes some share one of 512 numbers nine times out of ten; another salt then gives other numbers."""
    values, _, offsets = flat(sessions)
    build, trees = session_graph._tree_by_hashes, []
    monkeypatch.setattr(session_graph, "MOST_HASH_BITS", 9)
    monkeypatch.setattr(session_graph, "_tree_by_hashes", lambda *each: trees.append(build(*each)) or trees[-1])
    tree = build_prefix_tree(values, offsets)
    assert trees[0] is None
    assert tree.level_sizes == level_sizes
    assert tree.value[tree.alias].tolist() == values.tolist()


def test_sessions_longer_than_a_number_can_say_have_their_tree() -> None:
    length = 2**15 + 1
    tree = build_prefix_tree(torch.ones(2 * length, dtype=torch.int64), torch.tensor([0, length, 2 * length]))
    assert tree.level_sizes == (1,) * length
    assert torch.equal(tree.alias, torch.arange(length).repeat(2))

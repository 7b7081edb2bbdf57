"""The GRU on a tree of prefixes against torch.nn.GRU on every sequence of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mkmsr.data.session_graph import build_prefix_tree
from mkmsr.layers.fast.tree_gru import TreeGRU
from tests.oracles import gru

sequences = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=6)


def torch_gru(layer: TreeGRU, input_dim: int) -> torch.nn.GRU:
    """torch.nn.GRU with the same weights."""
    plain = torch.nn.GRU(input_dim, layer.dim).to(layer.from_state.weight.dtype)
    names = {"weight_ih_l0": layer.from_input.weight, "bias_ih_l0": layer.from_input.bias}
    names |= {"weight_hh_l0": layer.from_state.weight, "bias_hh_l0": layer.from_state.bias}
    plain.load_state_dict({name: value.detach().clone() for name, value in names.items()})
    return plain


def run(layer: TreeGRU, table: torch.Tensor, sessions: list[list[int]]) -> torch.Tensor:
    """One state an event. Shape [P, D]."""
    values = torch.tensor([value for session in sessions for value in session])
    lengths = torch.tensor([len(session) for session in sessions])
    tree = build_prefix_tree(values, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))
    states: torch.Tensor = layer(table, tree.value, tree.parent, tree.level_sizes)
    return states[tree.alias]


@settings(deadline=None, max_examples=50)
@given(sequences)
def test_every_event_gets_the_state_of_the_plain_gru(sessions: list[list[int]]) -> None:
    torch.manual_seed(0)
    layer, table = TreeGRU(3, 4).double(), torch.randn(4, 3, dtype=torch.float64)
    plain = torch_gru(layer, 3)
    expected = torch.cat([plain(table[torch.tensor(session)])[0] for session in sessions])
    assert torch.allclose(run(layer, table, sessions), expected, atol=1e-12)


def test_every_event_gets_what_the_formulae_give() -> None:
    torch.manual_seed(2)
    layer, table = TreeGRU(3, 4).double(), torch.randn(4, 3, dtype=torch.float64)
    sessions = [[0, 1, 1], [3], [0, 1, 2, 2]]
    expected = np.concatenate([gru(layer, table.numpy(), session) for session in sessions])
    np.testing.assert_allclose(run(layer, table, sessions).detach().numpy(), expected, rtol=1e-10)


def test_gradients_are_those_of_the_plain_gru() -> None:
    torch.manual_seed(1)
    sessions = [[0, 0, 1, 2], [0, 0, 1], [0, 0, 1, 3], [2], [0, 1]]
    layer = TreeGRU(3, 4).double()
    plain = torch_gru(layer, 3)
    mine, theirs = (torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3).requires_grad_() for _ in range(2))
    weights = torch.randn(sum(map(len, sessions)), 4, dtype=torch.float64)
    (run(layer, mine, sessions) * weights).sum().backward()
    (torch.cat([plain(theirs[torch.tensor(session)])[0] for session in sessions]) * weights).sum().backward()
    pairs = [(mine, theirs), (layer.from_input.weight, plain.weight_ih_l0), (layer.from_input.bias, plain.bias_ih_l0)]
    pairs += [(layer.from_state.weight, plain.weight_hh_l0), (layer.from_state.bias, plain.bias_hh_l0)]
    for own, other in pairs:
        assert own.grad is not None
        assert other.grad is not None
        assert torch.allclose(own.grad, other.grad, atol=1e-12)


def test_sequences_that_begin_alike_share_their_states() -> None:
    layer, table = TreeGRU(3, 4), torch.randn(4, 3)
    states = run(layer, table, [[1, 2, 0], [1, 2, 3]])
    assert torch.equal(states[:2], states[3:5])
    assert not torch.allclose(states[2], states[5])


def test_an_operation_that_recurs_gets_another_vector() -> None:
    layer, table = TreeGRU(3, 4), torch.randn(4, 3)
    first, second = run(layer, table, [[1, 1]])
    assert not torch.allclose(first, second)


def test_level_sizes_that_do_not_cover_the_nodes_are_an_error() -> None:
    with pytest.raises(RuntimeError):
        TreeGRU(2, 2)(torch.zeros(2, 2), torch.tensor([0, 1]), torch.tensor([0, 0]), (1,))


@torch.no_grad()
def test_one_sequence_has_the_states_of_a_tree_of_two() -> None:
    torch.manual_seed(3)
    gru, inputs = TreeGRU(5, 4), torch.randn(6, 5)
    value = torch.tensor([1, 2, 1, 5])
    alone = gru(inputs, value, torch.zeros_like(value), (1, 1, 1, 1))
    both = gru(inputs, torch.tensor([1, 3, 2, 1, 5]), torch.tensor([0, 0, 0, 0, 0]), (2, 1, 1, 1))
    torch.testing.assert_close(alone, both[[0, 2, 3, 4]])

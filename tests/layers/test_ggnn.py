"""The ragged GGNN against the formulae on dense adjacency matrices, one session at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mkmsr.data.session_graph import Messages, SessionGraph, build_session_graph
from mkmsr.layers.ggnn import GGNN, Aggregation, Gate
from tests.oracles import ggnn as literal

DIM = 5
SESSIONS = [[3, 1, 3, 1, 2], [2], [4, 4, 4], [1, 2, 3, 4, 1, 2], [3, 3, 1], [2, 1]]


def graph_of(sessions: list[list[int]]) -> SessionGraph:
    lengths = torch.tensor([len(session) for session in sessions])
    values = torch.tensor([value for session in sessions for value in session])
    return build_session_graph(values, torch.repeat_interleave(torch.arange(len(sessions)), lengths))


def exactly(messages: Messages) -> Messages:
    """With weights of 64 bits."""
    return messages._replace(weight=messages.weight.double())


def run(layer: GGNN, table: torch.Tensor, sessions: list[list[int]]) -> torch.Tensor:
    """One vector an event. Shape [P, D]."""
    graph = graph_of(sessions)
    states: torch.Tensor = layer(table[graph.distinct], graph.node_value, graph.incoming, graph.outgoing)
    return states[graph.alias]


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize("gate", ["slides", "gru"])
@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_every_event_gets_what_the_formulae_give(aggregation: Aggregation, gate: Gate, steps: int) -> None:
    torch.manual_seed(steps)
    layer = GGNN(DIM, steps=steps, aggregation=aggregation, gate=gate).double()
    table = torch.randn(5, DIM, dtype=torch.float64)
    found = run(layer, table, SESSIONS).detach().numpy()
    expected = np.concatenate([literal(layer, table.numpy(), session) for session in SESSIONS])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("gate", ["slides", "gru"])
@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_gradients_are_those_of_finite_differences(aggregation: Aggregation, gate: Gate) -> None:
    torch.manual_seed(0)
    layer = GGNN(2, steps=2, aggregation=aggregation, gate=gate).double()
    table = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def states(vectors: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        graph = graph_of([[0, 1, 0, 2], [3], [2, 3]])
        arguments = (vectors[graph.distinct], graph.node_value, exactly(graph.incoming), exactly(graph.outgoing))
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), arguments)

    assert torch.autograd.gradcheck(states, (table, *layer.parameters()))


def test_no_steps_leave_the_item_vectors_as_they_are() -> None:
    table = torch.randn(5, DIM)
    found = run(GGNN(DIM, steps=0), table, SESSIONS)
    assert torch.equal(found, table[torch.tensor([item for session in SESSIONS for item in session])])


def test_the_direction_of_a_transition_matters_only_where_the_directions_have_weights_of_their_own() -> None:
    table = torch.randn(3, DIM)
    for aggregation, alike in (("sum", True), ("concat", False)):
        layer = GGNN(DIM, aggregation=aggregation)  # type: ignore[arg-type]
        forwards, backwards = run(layer, table, [[1, 2]]), run(layer, table, [[2, 1]]).flip(0)
        assert torch.allclose(forwards, backwards, atol=1e-6) == alike


def test_a_step_reaches_one_transition_further() -> None:
    torch.manual_seed(0)
    table = torch.randn(5, DIM)
    changed = table.clone()
    changed[4] += 1
    for steps in (1, 2, 3):
        layer = GGNN(DIM, steps=steps)
        moved = (run(layer, table, [[1, 2, 3, 4]]) != run(layer, changed, [[1, 2, 3, 4]])).any(1)
        assert moved.tolist() == [4 - place <= steps for place in (1, 2, 3, 4)]

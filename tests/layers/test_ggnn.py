"""The ragged GGNN against the formulae of one session at a time, on dense adjacency matrices."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from mkmsr.data.session_graph import SessionGraph, build_session_graph
from mkmsr.layers.ggnn import GGNN, Aggregation, Gate, Transitions

DIM = 5
SESSIONS = [[3, 1, 3, 1, 2], [2], [4, 4, 4], [1, 2, 3, 4, 1, 2], [3, 3, 1], [2, 1]]


def graph_of(sessions: list[list[int]]) -> SessionGraph:
    lengths = torch.tensor([len(session) for session in sessions])
    values = torch.tensor([value for session in sessions for value in session])
    return build_session_graph(values, torch.repeat_interleave(torch.arange(len(sessions)), lengths))


def run(layer: GGNN, table: torch.Tensor, sessions: list[list[int]]) -> torch.Tensor:
    """One vector an event. Shape [P, D]."""
    graph = graph_of(sessions)
    transitions = Transitions(graph.source, graph.destination, graph.in_weight, graph.out_weight)
    states: torch.Tensor = layer(table[graph.distinct], graph.node_value, transitions)
    return states[graph.alias]


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def adjacency(session: list[int]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Nodes, A+ (row v: where v was reached from) and A- (row v: where v led to), counts divided by the degree."""
    nodes = list(dict.fromkeys(session))
    counts = np.zeros((len(nodes), len(nodes)))
    for before, after in pairwise(session):
        counts[nodes.index(before), nodes.index(after)] += 1
    incoming = np.array([column / max(column.sum(), 1) for column in counts.T])
    outgoing = np.array([row / max(row.sum(), 1) for row in counts])
    return nodes, incoming, outgoing


def literal(layer: GGNN, table: np.ndarray, session: list[int]) -> np.ndarray:
    """The formulae, node by node; weights are read out of the layer. One vector an event."""
    weights = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    nodes, incoming, outgoing = adjacency(session)
    zero = np.zeros(3 * DIM)
    w_ar, w_az, w_ac = np.split(weights["from_message.weight"], 3)
    w_hr, w_hz, w_hc = np.split(weights["from_state.weight"], 3)
    b_ar, b_az, b_ac = np.split(weights.get("from_message.bias", zero), 3)
    b_hr, b_hz, b_hc = np.split(weights.get("from_state.bias", zero), 3)
    h = [table[node] for node in nodes]
    for _ in range(layer.steps):
        new = []
        for v in range(len(nodes)):
            if layer.aggregation == "sum":
                a = sum((incoming[v, u] + outgoing[v, u]) * h[u] for u in range(len(nodes)))
            else:
                arrived = [weights["message_in.weight"] @ each + weights["message_in.bias"] for each in h]
                left = [weights["message_out.weight"] @ each + weights["message_out.bias"] for each in h]
                a = np.concatenate(
                    [
                        sum(incoming[v, u] * arrived[u] for u in range(len(nodes))),
                        sum(outgoing[v, u] * left[u] for u in range(len(nodes))),
                    ]
                )
            a = a + weights["message_bias"]
            z = sigmoid(w_az @ a + b_az + w_hz @ h[v] + b_hz)
            r = sigmoid(w_ar @ a + b_ar + w_hr @ h[v] + b_hr)
            if layer.gate == "slides":
                c = np.tanh(w_ac @ a + w_hc @ (r * h[v]))
                new.append((1 - z) * h[v] + z * c)
            else:
                c = np.tanh(w_ac @ a + b_ac + r * (w_hc @ h[v] + b_hc))
                new.append(z * h[v] + (1 - z) * c)
        h = new
    return np.array([h[nodes.index(item)] for item in session])


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
        transitions = Transitions(graph.source, graph.destination, graph.in_weight.double(), graph.out_weight.double())
        arguments = (vectors[graph.distinct], graph.node_value, transitions)
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

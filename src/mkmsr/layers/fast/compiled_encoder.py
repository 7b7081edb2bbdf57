"""MKM-SR's network as loops that Numba compiles, session by session: for a few sessions, and without training.

As array operations a batch is some 150 calls, most of whose time is that of calling them.
Dimension letters: B sessions, P events of all sessions, E events of one, N its distinct items, D embedding size,
O operations + 1, V catalogue + 1, M parts of a micro-behaviour times D.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mkmsr.layers.attention import SoftAttention
from mkmsr.layers.fast.compiled import compiled
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.ggnn import GGNN

Array = Any
"""Of NumPy; element types are Numba's business."""


class CompiledEncoder:
    """Session vectors from a graph network over items, a GRU over operations, and soft attention.

    Args:
        ggnn: With aggregation "concat" and gate "gru".
        readout: The attention.
        operations: Vectors of operations [O, D], and what reads them; None where operations do not count.
    """

    def __init__(self, ggnn: GGNN, readout: SoftAttention, operations: tuple[Tensor, TreeGRU] | None):
        assert ggnn.aggregation == "concat"
        assert ggnn.gate == "gru"
        dim, of_message = ggnn.dim, ggnn.from_message
        along, against = of_message.weight[:, :dim], of_message.weight[:, dim:]
        of_node = [along @ ggnn.message_in.weight, against @ ggnn.message_out.weight, ggnn.from_state.weight]
        node_bias = [along @ ggnn.message_in.bias, against @ ggnn.message_out.bias, ggnn.from_state.bias]
        inputs, of_state, state_bias = torch.zeros(0, 3 * dim), torch.zeros(dim, 3 * dim), torch.zeros(3 * dim)
        if operations is not None:
            table_OD, gru = operations
            inputs, of_state, state_bias = gru.from_input(table_OD), gru.from_state.weight.T, gru.from_state.bias
        arrays = [
            torch.cat(of_node).T,
            torch.cat(node_bias),
            of_message(ggnn.message_bias),
            inputs,
            of_state,
            state_bias,
            readout.of_last.weight.T,
            readout.of_last.bias,
            readout.of_each.weight.T,
            readout.weight,
            readout.combine.weight.T,
            torch.zeros(dim),
        ]
        self._weights = _Weights(*(each.detach().contiguous().numpy() for each in arrays))
        self._steps = ggnn.steps

    def __call__(self, vectors_VD: Tensor, items: Tensor, operations: Tensor, offsets: Tensor) -> Tensor:
        """Return session vectors, [B, D].

        Args:
            vectors_VD: Of all items.
            items: Item of each event, session after session. Shape [P].
            operations: Its operation. Shape [P].
            offsets: Where each session begins, and P. Shape [B + 1].
        """
        sessions_BD = vectors_VD.new_empty(len(offsets) - 1, vectors_VD.shape[1])
        arrays = [each.numpy() for each in (vectors_VD, items, operations, offsets, sessions_BD)]
        _encode(self._weights, self._steps, *arrays)
        return sessions_BD


class _Weights(NamedTuple):
    """Maps are [inputs, outputs], so that loops run over outputs that lie side by side."""

    of_node: Array
    """What a node sends along, against, and to itself: [D, 9D]."""
    node_bias: Array
    message_bias: Array
    of_operation: Array
    """The GRU's gates by operation, [O, 3D]; no row where operations do not count."""
    of_state: Array
    state_bias: Array
    of_last: Array
    last_bias: Array
    of_each: Array
    attention: Array
    combine: Array
    zeros: Array


# Loops below stand where NumPy's array operations would do: compiling one of those takes up to a second.


@compiled
def _encode(
    weights: _Weights, steps: int, vectors: Array, items: Array, operations: Array, offsets: Array, sessions: Array
) -> None:
    """Write the vector of each session, [B, D]."""
    dim, width = sessions.shape[1], len(weights.of_last)
    given, hidden = np.empty(dim, np.float32), np.empty(dim, np.float32)
    for b in range(len(sessions)):
        begin, end = offsets[b], offsets[b + 1]
        events, both = np.zeros((end - begin, width), np.float32), np.zeros(2 * width, np.float32)
        _read_items(weights, steps, vectors, items[begin:end], events)
        if width > dim:
            _read_operations(weights, operations[begin:end], events[:, dim:])
        for d in range(width):
            both[d] = events[-1, d]
        _map(events[-1], weights.of_last, weights.last_bias, given)
        for place in range(end - begin):
            _map(events[place], weights.of_each, given, hidden)
            alpha = np.float32(0)
            for d in range(dim):
                alpha += weights.attention[d] * _sigmoid(hidden[d])
            for d in range(width):
                both[width + d] += alpha * events[place, d]
        _map(both, weights.combine, weights.zeros, sessions[b])


@compiled
def _read_items(weights: _Weights, steps: int, vectors: Array, items: Array, events: Array) -> None:
    """Write the state of each event's item to the first columns of `events` [E, M], see `GGNN`."""
    length, dim = len(items), vectors.shape[1]
    node, distinct = nodes(items)
    count = len(distinct)
    leaving, arriving = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for place in range(1, length):
        leaving[node[place - 1]] += 1
        arriving[node[place]] += 1
    states, sent = np.empty((count, dim), np.float32), np.empty((count, 9 * dim), np.float32)
    gates = np.empty((count, 3 * dim), np.float32)
    for n in range(count):
        for d in range(dim):
            states[n, d] = vectors[distinct[n], d]
    for _ in range(steps):
        for n in range(count):
            _map(states[n], weights.of_node, weights.node_bias, sent[n])
            for d in range(3 * dim):
                gates[n, d] = weights.message_bias[d]
        for place in range(1, length):
            before, after = node[place - 1], node[place]
            to_after, to_before = 1 / arriving[after], 1 / leaving[before]
            for d in range(3 * dim):
                gates[after, d] += to_after * sent[before, d]
                gates[before, d] += to_before * sent[after, 3 * dim + d]
        for n in range(count):
            _gru_step(gates[n], sent[n, 6 * dim :], states[n])
    for place in range(length):
        for d in range(dim):
            events[place, d] = states[node[place], d]


@compiled
def nodes(items: Array) -> tuple[Array, Array]:
    """The place of each event's item among the distinct ones, [E], and these, [N]."""
    node, distinct, count = np.empty(len(items), np.int64), np.empty(len(items), np.int64), 0
    for place in range(len(items)):
        distinct[count], n = items[place], 0
        while distinct[n] != items[place]:
            n += 1
        count += n == count
        node[place] = n
    return node, distinct[:count]


@compiled
def _read_operations(weights: _Weights, operations: Array, events: Array) -> None:
    """Write the GRU's state after each operation to `events` [E, D]."""
    dim = events.shape[1]
    state, from_state = np.zeros(dim, np.float32), np.empty(3 * dim, np.float32)
    for place in range(len(operations)):
        _map(state, weights.of_state, weights.state_bias, from_state)
        _gru_step(weights.of_operation[operations[place]], from_state, state)
        for d in range(dim):
            events[place, d] = state[d]


@compiled
def _gru_step(given: Array, from_state: Array, state: Array) -> None:
    """One step of a GRU in place, in PyTorch's order of gates: reset, update, new."""
    dim = len(state)
    for d in range(dim):
        reset = _sigmoid(given[d] + from_state[d])
        update = _sigmoid(given[dim + d] + from_state[dim + d])
        new = math.tanh(given[2 * dim + d] + reset * from_state[2 * dim + d])
        state[d] = new + update * (state[d] - new)


@compiled
def _sigmoid(value: Any) -> Any:
    return np.float32(1) / (np.float32(1) + math.exp(-value))


@compiled
def _map(values: Array, weight: Array, bias: Array, sums: Array) -> None:
    """Set sums to a bias and the product of a vector and a matrix.

    Four rows at a time: sums are read and written a quarter as often.
    """
    for j in range(len(sums)):
        sums[j] = bias[j]
    whole = len(values) // 4 * 4
    for k in range(0, whole, 4):
        a, b, c, d = values[k], values[k + 1], values[k + 2], values[k + 3]
        for j in range(len(sums)):
            sums[j] += a * weight[k, j] + b * weight[k + 1, j] + c * weight[k + 2, j] + d * weight[k + 3, j]
    for k in range(whole, len(values)):
        for j in range(len(sums)):
            sums[j] += values[k] * weight[k, j]

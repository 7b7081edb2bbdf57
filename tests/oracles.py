"""The formulae of MKM-SR, one session and one vector at a time, in NumPy: slow, dense and literal.

Source: the MKM-SR talk, "Encoding Session Information"; where the authors' code departs, as `docs/model.md` says.
Weights come as the named parameters of a layer; everything else is written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from torch import nn

from mkmsr.layers.attention import SoftAttention
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.ggnn import GGNN


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def weights_of(layer: nn.Module) -> dict[str, np.ndarray]:
    """A layer's parameters by name."""
    return {name: value.detach().numpy() for name, value in layer.named_parameters()}


def adjacency(session: Sequence[int]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Nodes in the order of their first event, A+ and A-.

    Row v of A+ is where v was reached from, row v of A- where v led to: counts of transitions, divided by the in-degree
    and by the out-degree of v.
    """
    nodes = list(dict.fromkeys(session))
    counts = np.zeros((len(nodes), len(nodes)))
    for before, after in pairwise(session):
        counts[nodes.index(before), nodes.index(after)] += 1
    incoming = np.array([column / max(column.sum(), 1) for column in counts.T])
    outgoing = np.array([row / max(row.sum(), 1) for row in counts])
    return nodes, incoming, outgoing


def ggnn(layer: GGNN, table: np.ndarray, session: Sequence[int]) -> np.ndarray:
    """H steps over one session's graph, node by node. One vector an event: [L, D]."""
    weights, dim = weights_of(layer), layer.dim
    nodes, incoming, outgoing = adjacency(session)
    zero = np.zeros(3 * dim)
    w_ar, w_az, w_ac = np.split(weights["from_message.weight"], 3)
    w_hr, w_hz, w_hc = np.split(weights["from_state.weight"], 3)
    b_ar, b_az, b_ac = np.split(weights.get("from_message.bias", zero), 3)
    b_hr, b_hz, b_hc = np.split(weights.get("from_state.bias", zero), 3)
    h = [table[node] for node in nodes]
    everyone = range(len(nodes))
    for _ in range(layer.steps):
        new = []
        for v in everyone:
            if layer.aggregation == "sum":
                a = sum((incoming[v, u] + outgoing[v, u]) * h[u] for u in everyone)
            else:
                arrived = [weights["message_in.weight"] @ each + weights["message_in.bias"] for each in h]
                left = [weights["message_out.weight"] @ each + weights["message_out.bias"] for each in h]
                before = sum(incoming[v, u] * arrived[u] for u in everyone)
                after = sum(outgoing[v, u] * left[u] for u in everyone)
                a = np.concatenate([before, after])
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


def gru(layer: TreeGRU, table: np.ndarray, session: Sequence[int]) -> np.ndarray:
    """The state after each event of one sequence: [L, D]."""
    weights, states, h = weights_of(layer), [], np.zeros(layer.dim)
    for value in session:
        r_x, z_x, n_x = np.split(weights["from_input.weight"] @ table[value] + weights["from_input.bias"], 3)
        r_h, z_h, n_h = np.split(weights["from_state.weight"] @ h + weights["from_state.bias"], 3)
        r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
        n = np.tanh(n_x + r * n_h)
        h = (1 - z) * n + z * h
        states.append(h)
    return np.array(states)


def attention(layer: SoftAttention, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """alpha of each micro-behaviour of one session, [L], and the session's vector s, [D]."""
    weights, m_last = weights_of(layer), m[-1]
    alphas, pooled = [], np.zeros_like(m_last)
    for m_t in m:
        inner = weights["of_last.weight"] @ m_last + weights["of_each.weight"] @ m_t + weights["of_last.bias"]
        alphas.append(weights["weight"] @ sigmoid(inner))
        pooled = pooled + alphas[-1] * m_t
    return np.array(alphas), weights["combine.weight"] @ np.concatenate([m_last, pooled])

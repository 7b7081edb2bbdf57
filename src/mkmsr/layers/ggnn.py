"""Gated graph neural network over the ragged transition graphs of a batch.

Dimension letters: S input states, N nodes, M messages, D embedding size.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Aggregation = Literal["sum", "concat"]
Gate = Literal["slides", "gru"]


Messages = tuple[Tensor, Tensor, Tensor]
"""One way along the transitions: the node that is heard, the node that hears, and 1 / number of messages to it, each of
shape [M]. A transition that recurs stands as often as it occurs."""


class GGNN(nn.Module):
    """H gated steps over session graphs.

    With A+ and A- the in and out adjacency, rows divided by the degree, one step is

        a = (A+ + A-) h + b                                        aggregation "sum"
        a = [A+ (h W_in + b_in) ; A- (h W_out + b_out)] + b        aggregation "concat"
        z = sigmoid(W_az a + W_hz h)     r = sigmoid(W_ar a + W_hr h)
        c = tanh(W_ac a + W_hc (r * h))          h' = (1 - z) * h + z * c               gate "slides"
        c = tanh(W_ac a + r * (W_hc h + b_hc))   h' = z * h + (1 - z) * c               gate "gru", with biases

    The two gates are one family: swapping z and 1 - z only renames the gate.

    Maps of states are applied once per *input state* and then summed over transitions; in the first step a state is a
    distinct item of the whole batch, of which there are fewer than nodes.

    Shapes:
        states [S, D], state_of_node [N], messages between N nodes -> [N, D].

    Source: Li et al., Gated Graph Sequence Neural Networks, ICLR 2016; "sum" and "slides" as in the MKM-SR talk,
    "concat" and "gru" as in SR-GNN (Wu et al., AAAI 2019).
    """

    def __init__(self, dim: int, *, steps: int = 1, aggregation: Aggregation = "concat", gate: Gate = "gru"):
        super().__init__()
        self.dim, self.steps, self.aggregation, self.gate = dim, steps, aggregation, gate
        width = dim if aggregation == "sum" else 2 * dim
        if aggregation == "concat":
            self.message_in = nn.Linear(dim, dim)
            self.message_out = nn.Linear(dim, dim)
        self.message_bias = nn.Parameter(torch.empty(width))
        biased = gate == "gru"
        self.from_message = nn.Linear(width, 3 * dim, bias=biased)  # rows: reset, update, candidate
        self.from_state = nn.Linear(dim, 3 * dim, bias=biased)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every weight from U(-1/sqrt(D), 1/sqrt(D))."""
        bound = 1 / math.sqrt(self.dim)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, states: Tensor, state_of_node: Tensor, incoming: Messages, outgoing: Messages) -> Tensor:
        """Return the node states after H steps. Shape [N, D].

        Nodes begin with `states` [S, D], node by node as `state_of_node` [N] says; messages go along transitions, A+,
        and against them, A-.
        """
        for _ in range(self.steps):
            states = self._step(states, state_of_node, incoming, outgoing)
            state_of_node = torch.arange(len(states), device=states.device)
        return states if self.steps else states.index_select(0, state_of_node)

    def _step(self, states: Tensor, state_of_node: Tensor, incoming: Messages, outgoing: Messages) -> Tensor:
        reset_a, update_a, candidate_a = self._messages(states, state_of_node, incoming, outgoing).chunk(3, dim=1)
        h_ND = states.index_select(0, state_of_node)
        if self.gate == "gru":
            from_state = self.from_state(states).index_select(0, state_of_node)
            reset_h, update_h, candidate_h = from_state.chunk(3, dim=1)
            r, z = torch.sigmoid(reset_a + reset_h), torch.sigmoid(update_a + update_h)
            return torch.lerp(torch.tanh(candidate_a + r * candidate_h), h_ND, z)
        gates_weight, candidate_weight = torch.split(self.from_state.weight, [2 * self.dim, self.dim])
        reset_h, update_h = F.linear(states, gates_weight).index_select(0, state_of_node).chunk(2, dim=1)
        r, z = torch.sigmoid(reset_a + reset_h), torch.sigmoid(update_a + update_h)
        candidate = torch.tanh(candidate_a + F.linear(r * h_ND, candidate_weight))
        return torch.lerp(h_ND, candidate, z)

    def _messages(self, states: Tensor, state_of_node: Tensor, incoming: Messages, outgoing: Messages) -> Tensor:
        """Return W_a a for the three gates. Shape [N, 3D]."""
        weight = self.from_message.weight
        if self.aggregation == "sum":
            along = against = F.linear(states, weight)
        else:
            along = F.linear(self.message_in(states), weight[:, : self.dim])
            against = F.linear(self.message_out(states), weight[:, self.dim :])
        gates = F.linear(self.message_bias, weight, self.from_message.bias).expand(len(state_of_node), -1)
        for sent, (sender, receiver, share) in ((along, incoming), (against, outgoing)):
            gates = gates.index_add(0, receiver, sent.index_select(0, state_of_node[sender]) * share[:, None])
        return gates

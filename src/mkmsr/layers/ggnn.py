"""Gated graph neural network over the ragged transition graphs of a batch.

Dimension letters: S input states, N nodes, M transitions, D embedding size.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.layers.gates import gate_derivatives

__all__ = ["GGNN", "Aggregation", "Gate", "Transitions"]

Aggregation = Literal["sum", "concat"]
Gate = Literal["slides", "gru"]


class Transitions(NamedTuple):
    """The edges of a batch of graphs; one that recurs stands as often as it occurs.

    Args:
        source: Node that each transition leaves. Shape [M].
        destination: Node that each transition enters. Shape [M].
        in_weight: 1 / in-degree of the destination. Shape [M].
        out_weight: 1 / out-degree of the source. Shape [M].
    """

    source: Tensor
    destination: Tensor
    in_weight: Tensor
    out_weight: Tensor


class GGNN(nn.Module):
    r"""H gated steps over session graphs.

    With A+ and A- the in and out adjacency, rows divided by the degree, one step is

        a = (A+ + A-) h + b                                        aggregation "sum"
        a = [A+ (h W_in + b_in) ; A- (h W_out + b_out)] + b        aggregation "concat"
        z = sigmoid(W_az a + W_hz h)     r = sigmoid(W_ar a + W_hr h)
        c = tanh(W_ac a + W_hc (r * h))          h' = (1 - z) * h + z * c               gate "slides"
        c = tanh(W_ac a + r * (W_hc h + b_hc))   h' = z * h + (1 - z) * c               gate "gru", with biases

    The two gates are one family: swapping z and 1 - z only renames the gate.

    The maps W are linear, so they are applied once per *input state* and the products are summed over transitions
    afterwards. In the first step a state is a distinct item of the whole batch, however many sessions share it.

    Args:
        dim: D.
        steps: H.
        aggregation: How the in and out messages meet.
        gate: Order of the gate and whether there are biases.

    Shapes:
        states [S, D], state_of_node [N], transitions over N nodes -> [N, D].

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

    def forward(self, states: Tensor, state_of_node: Tensor, transitions: Transitions) -> Tensor:
        """Node states after H steps. Shape [N, D]."""
        for _ in range(self.steps):
            gates_N3D = self._gates_from_messages(states, state_of_node, transitions)
            states = self._update(states, state_of_node, gates_N3D)
            state_of_node = torch.arange(len(states), device=states.device)
        return states if self.steps else states.index_select(0, state_of_node)

    def _gates_from_messages(self, states: Tensor, state_of_node: Tensor, transitions: Transitions) -> Tensor:
        """W_a a for the three gates: maps per state first, then sums over transitions. Shape [N, 3D]."""
        source, destination, in_weight, out_weight = transitions
        weight = self.from_message.weight
        if self.aggregation == "sum":
            along = against = F.linear(states, weight)
        else:
            along = F.linear(self.message_in(states), weight[:, : self.dim])
            against = F.linear(self.message_out(states), weight[:, self.dim :])
        gates = F.linear(self.message_bias, weight, self.from_message.bias).expand(len(state_of_node), -1)
        incoming = along.index_select(0, state_of_node[source]) * in_weight[:, None]
        outgoing = against.index_select(0, state_of_node[destination]) * out_weight[:, None]
        return gates.index_add(0, destination, incoming).index_add_(0, source, outgoing)

    def _update(self, states: Tensor, state_of_node: Tensor, gates_N3D: Tensor) -> Tensor:
        if self.gate == "gru":
            return _gated_update(gates_N3D, self.from_state(states), states, state_of_node)
        h_ND = states.index_select(0, state_of_node)
        reset_a, update_a, candidate_a = gates_N3D.chunk(3, dim=1)
        gates_weight, candidate_weight = torch.split(self.from_state.weight, [2 * self.dim, self.dim])
        reset_h, update_h = F.linear(states, gates_weight).index_select(0, state_of_node).chunk(2, dim=1)
        r, z = torch.sigmoid(reset_a + reset_h), torch.sigmoid(update_a + update_h)
        candidate = torch.tanh(candidate_a + F.linear(r * h_ND, candidate_weight))
        return h_ND + z * (candidate - h_ND)


def _gated_update(gates_N3D: Tensor, maps_S3D: Tensor, states_SD: Tensor, state_of_node: Tensor) -> Tensor:
    """The gate "gru", from the gates' parts by messages and by states, W_h h. Shape [N, D]."""
    if not torch.is_grad_enabled():
        return _update_gates(gates_N3D, maps_S3D, states_SD, state_of_node)[-1]
    result: Tensor = _GatedUpdate.apply(gates_N3D, maps_S3D, states_SD, state_of_node)  # type: ignore[no-untyped-call]
    return result


def _update_gates(
    gates_N3D: Tensor, maps_S3D: Tensor, states_SD: Tensor, state_of_node: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """r, z and W_hc h + b_hc side by side [N, 3D]; candidates, states before and after, each [N, D]."""
    dim = states_SD.shape[1]
    gates, before = maps_S3D.index_select(0, state_of_node), states_SD.index_select(0, state_of_node)
    gates[:, : 2 * dim].add_(gates_N3D[:, : 2 * dim]).sigmoid_()
    reset, update, of_state = gates.chunk(3, dim=1)
    candidate = torch.addcmul(gates_N3D[:, 2 * dim :], reset, of_state).tanh_()
    return gates, candidate, before, torch.lerp(candidate, before, update)


class _GatedUpdate(torch.autograd.Function):
    """`_update_gates` with its backward pass by hand: fewer passes over [N, 3D] arrays."""

    @staticmethod
    def forward(ctx: Any, gates_N3D: Tensor, maps_S3D: Tensor, states_SD: Tensor, state_of_node: Tensor) -> Tensor:
        gates, candidate, before, after = _update_gates(gates_N3D, maps_S3D, states_SD, state_of_node)
        ctx.save_for_backward(state_of_node, gates, candidate, before)
        ctx.num_states = len(states_SD)
        return after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        state_of_node, gates, candidate, before = ctx.saved_tensors
        of_after, dim = gradients[0], before.shape[1]
        of_gates = torch.cat(gate_derivatives(gates, candidate, before), dim=1)
        of_gates.view(-1, 3, dim).mul_(of_after[:, None])
        reset, update, _ = gates.chunk(3, dim=1)
        of_maps = of_gates.clone()
        of_maps[:, 2 * dim :].mul_(reset)
        summed_maps = of_maps.new_zeros(ctx.num_states, 3 * dim).index_add_(0, state_of_node, of_maps)
        summed_states = of_after.new_zeros(ctx.num_states, dim).index_add_(0, state_of_node, of_after * update)
        return of_gates, summed_maps, summed_states, None

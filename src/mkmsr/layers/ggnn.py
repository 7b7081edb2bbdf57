"""Gated graph neural network over the ragged transition graphs of a batch.

Dimension letters: S input states, N nodes, M transitions, D embedding size.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.layers.gates import gate_derivatives, tanh_
from mkmsr.layers.products import padded_rows, product

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

    Maps of maps are multiplied out: with "gru", a step gathers A+ h and A- h side by side and applies one matrix to
    them and one to h, see `_GatedStep`. With "slides", whose candidate needs r first, maps are applied once per *input
    state* and summed over transitions; in the first step a state is a distinct item of the whole batch.

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
            if self.gate == "gru":
                states = _gated_step(states, state_of_node, transitions, self._maps())
            else:
                states = self._step_of_the_slides(states, state_of_node, transitions)
            state_of_node = torch.arange(len(states), device=states.device)
        return states if self.steps else states.index_select(0, state_of_node)

    def _maps(self) -> _Maps:
        """The maps of the gates "gru", with those of the messages multiplied out.

        Rows of A+ and A- sum to 1, or to 0 at a node that nothing enters or leaves: there b_in or b_out do not count.
        """
        of_message, of_state = self.from_message, self.from_state
        if self.aggregation == "sum":
            heard = torch.cat([of_message.weight, of_message.weight, torch.zeros_like(of_message.weight[:, :2])], dim=1)
        else:
            gates_in, gates_out = torch.split(of_message.weight, self.dim, dim=1)
            ways = ((gates_in, self.message_in), (gates_out, self.message_out))
            maps = [gates @ way.weight for gates, way in ways]
            heard = torch.cat([*maps, *((gates @ way.bias)[:, None] for gates, way in ways)], dim=1)
        always = F.linear(self.message_bias, of_message.weight, of_message.bias)
        return _Maps(heard, always, of_state.weight, of_state.bias)

    def _step_of_the_slides(self, states: Tensor, state_of_node: Tensor, transitions: Transitions) -> Tensor:
        reset_a, update_a, candidate_a = self._messages(states, state_of_node, transitions).chunk(3, dim=1)
        h_ND = states.index_select(0, state_of_node)
        gates_weight, candidate_weight = torch.split(self.from_state.weight, [2 * self.dim, self.dim])
        reset_h, update_h = F.linear(states, gates_weight).index_select(0, state_of_node).chunk(2, dim=1)
        r, z = torch.sigmoid(reset_a + reset_h), torch.sigmoid(update_a + update_h)
        candidate = torch.tanh(candidate_a + F.linear(r * h_ND, candidate_weight))
        return h_ND + z * (candidate - h_ND)

    def _messages(self, states: Tensor, state_of_node: Tensor, transitions: Transitions) -> Tensor:
        """W_a a for the three gates. Shape [N, 3D]."""
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


class _Maps(NamedTuple):
    """What stands inside of the three gates "gru" (reset, update, candidate) by what a node hears, and by its state.

    Args:
        heard: Of [A+ h, A- h, row sums of A+, row sums of A-]. Shape [3D, 2D + 2].
        heard_bias: Shape [3D].
        state: W_h. Shape [3D, D].
        state_bias: Shape [3D].
    """

    heard: Tensor
    heard_bias: Tensor
    state: Tensor
    state_bias: Tensor


def _gated_step(states: Tensor, state_of_node: Tensor, transitions: Transitions, maps: _Maps) -> Tensor:
    """A step with the gate "gru". Shape [N, D]."""
    if not torch.is_grad_enabled():
        return _step(states, state_of_node, transitions, maps)[-1]
    result: Tensor = _GatedStep.apply(states, state_of_node, *transitions, *maps)  # type: ignore[no-untyped-call]
    return result


def _step(
    states_SD: Tensor, state_of_node: Tensor, transitions: Transitions, maps: _Maps
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """h [N', D] and what nodes hear [N', 2D + 2]; r, z and W_hc h + b_hc side by side [N, 3D]; c and h', each [N, D].

    N' is N filled up with rows of zeros.
    """
    source, destination, in_weight, out_weight = transitions
    nodes, dim = len(state_of_node), states_SD.shape[1]
    before = states_SD.new_zeros(padded_rows(nodes), dim)
    h_ND = torch.index_select(states_SD, 0, state_of_node, out=before[:nodes])
    heard = before.new_zeros(len(before), 2 * dim + 2)
    entered, left = torch.zeros_like(h_ND), torch.zeros_like(h_ND)
    entered.index_add_(0, destination, h_ND.index_select(0, source).mul_(in_weight[:, None]))
    left.index_add_(0, source, h_ND.index_select(0, destination).mul_(out_weight[:, None]))
    sums = in_weight.new_zeros(2, nodes)
    sums[0].index_add_(0, destination, in_weight)
    sums[1].index_add_(0, source, out_weight)
    torch.cat([entered, left, sums.T.to(heard)], dim=1, out=heard[:nodes])
    gates = product(before, maps.state.T)[:nodes].add_(maps.state_bias)
    by_heard = product(heard, maps.heard.T)[:nodes].add_(maps.heard_bias)
    gates[:, : 2 * dim].add_(by_heard[:, : 2 * dim]).sigmoid_()
    reset, update, of_state = gates.chunk(3, dim=1)
    candidate = tanh_(torch.addcmul(by_heard[:, 2 * dim :], reset, of_state))
    return before, heard, gates, candidate, torch.lerp(candidate, h_ND, update)


class _GatedStep(torch.autograd.Function):
    """`_step` with its backward pass by hand.

    With y the sums inside the gates by what is heard, and x those by the state: d heard = dy M, dM = dy' heard, and
    likewise for the state; d heard goes back along the transitions, and dh' z past the gates.
    """

    @staticmethod
    def forward(ctx: Any, states_SD: Tensor, state_of_node: Tensor, *transitions_and_maps: Tensor) -> Tensor:
        transitions, maps = Transitions(*transitions_and_maps[:4]), _Maps(*transitions_and_maps[4:])
        before, heard, gates, candidate, after = _step(states_SD, state_of_node, transitions, maps)
        ctx.save_for_backward(state_of_node, *transitions, maps.heard, maps.state, before, heard, gates, candidate)
        ctx.num_states = len(states_SD)
        return after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        state_of_node, source, destination, in_weight, out_weight, *rest = ctx.saved_tensors
        heard_map, state_map, before, heard, gates, candidate = rest
        of_after, (nodes, dim) = gradients[0], candidate.shape
        by_reset, by_update, by_new = gate_derivatives(gates, candidate, before[:nodes])
        by_heard, by_state = gates.new_zeros(2, len(before), 3 * dim)
        torch.cat([by_reset, by_update, by_new], dim=1, out=by_heard[:nodes])
        by_heard[:nodes].view(nodes, 3, dim).mul_(of_after[:, None])
        by_state.copy_(by_heard)
        by_state[:nodes, 2 * dim :].mul_(gates[:, :dim])
        of_h = product(by_state, state_map)[:nodes].addcmul_(of_after, gates[:, dim : 2 * dim])
        of_entered, of_left = product(by_heard, heard_map)[:nodes, : 2 * dim].chunk(2, dim=1)
        of_h.index_add_(0, source, of_entered.index_select(0, destination).mul_(in_weight[:, None]))
        of_h.index_add_(0, destination, of_left.index_select(0, source).mul_(out_weight[:, None]))
        of_states = of_h.new_zeros(ctx.num_states, dim).index_add_(0, state_of_node, of_h)
        of_maps = (product(by_heard.T, heard), by_heard.sum(0), product(by_state.T, before), by_state.sum(0))
        return of_states, *[None] * 5, *of_maps

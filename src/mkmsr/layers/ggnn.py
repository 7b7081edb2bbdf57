"""Gated graph neural network over the ragged transition graphs of a batch.

Dimension letters: S input states, N nodes, M messages, D embedding size.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.layers.gates import gate_derivatives, tanh_
from mkmsr.layers.products import padded_rows, product

__all__ = ["GGNN", "Aggregation", "Gate", "Messages"]

Aggregation = Literal["sum", "concat"]
Gate = Literal["slides", "gru"]


Messages = tuple[Tensor, Tensor, Tensor]
"""One way along the transitions: the node that is heard, the node that hears, and 1 / number of messages to it, each of
shape [M]. A transition that recurs stands as often as it occurs."""


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
    them and one to h, see `_step`. With "slides", whose candidate needs r first, maps are applied once per *input
    state* and summed over transitions; in the first step a state is a distinct item of the whole batch.

    Args:
        dim: D.
        steps: H.
        aggregation: How the in and out messages meet.
        gate: Order of the gate and whether there are biases.

    Shapes:
        states [S, D], state_of_node [N], messages between N nodes -> [N', D], where N' is N or somewhat more.

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
        """Node states after H steps. Shape [N', D]: the rows below N, if there are any, mean nothing.

        Args:
            states: What nodes begin with. Shape [S, D].
            state_of_node: Shape [N].
            incoming: Along transitions, A+.
            outgoing: Against them, A-.
        """
        for _ in range(self.steps):
            if self.gate == "gru":
                states = _gated_step(states, state_of_node, incoming, outgoing, self._maps())
            else:
                states = self._step_of_the_slides(states, state_of_node, incoming, outgoing)
            state_of_node = torch.arange(len(states), device=states.device)
        return states if self.steps else states.index_select(0, state_of_node)

    def _maps(self) -> _Maps:
        """The weights of the gates "gru" with the messages' own maps put in front, which "sum" does not have."""
        width, (gates_in, gates_out) = self.dim, self._gates_by_way()
        if self.aggregation == "sum":
            nothing = self.message_bias.new_zeros(width, 1)
            one = torch.cat([torch.eye(width, dtype=nothing.dtype, device=nothing.device), nothing], dim=1)
            way_in, way_out = (torch.cat([one, bias], dim=1) for bias in (self.message_bias[:, None], nothing))
        else:
            biases = torch.split(self.message_bias[:, None], width)
            messages = (self.message_in, self.message_out)
            way_in, way_out = (
                torch.cat([each.weight, each.bias[:, None], bias], dim=1)
                for each, bias in zip(messages, biases, strict=True)
            )
        of_state = self.from_state
        return _Maps(gates_in, gates_out, way_in, way_out, self.from_message.bias, of_state.weight, of_state.bias)

    def _gates_by_way(self) -> tuple[Tensor, Tensor]:
        """What the gates do with in and out messages. Shape [3D, D] each."""
        weight = self.from_message.weight
        if self.aggregation == "sum":
            return weight, weight
        gates_in, gates_out = torch.split(weight, self.dim, dim=1)
        return gates_in, gates_out

    def _step_of_the_slides(
        self, states: Tensor, state_of_node: Tensor, incoming: Messages, outgoing: Messages
    ) -> Tensor:
        reset_a, update_a, candidate_a = self._messages(states, state_of_node, incoming, outgoing).chunk(3, dim=1)
        h_ND = states.index_select(0, state_of_node)
        gates_weight, candidate_weight = torch.split(self.from_state.weight, [2 * self.dim, self.dim])
        reset_h, update_h = F.linear(states, gates_weight).index_select(0, state_of_node).chunk(2, dim=1)
        r, z = torch.sigmoid(reset_a + reset_h), torch.sigmoid(update_a + update_h)
        candidate = torch.tanh(candidate_a + F.linear(r * h_ND, candidate_weight))
        return h_ND + z * (candidate - h_ND)

    def _messages(self, states: Tensor, state_of_node: Tensor, incoming: Messages, outgoing: Messages) -> Tensor:
        """W_a a for the three gates. Shape [N, 3D]."""
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


class _Maps(NamedTuple):
    """The weights of a step with the gate "gru" (gates: reset, update, candidate).

    Args:
        gates_in: Of the gates, by a + b of the in-transitions. Shape [3D, D].
        gates_out: By that of the out-transitions. Shape [3D, D].
        way_in: W_in, b_in and the first half of b side by side. Shape [D, D + 2].
        way_out: W_out, b_out and the other half. Shape [D, D + 2].
        bias: Of the gates, by messages. Shape [3D].
        state: W_h. Shape [3D, D].
        state_bias: Shape [3D].
    """

    gates_in: Tensor
    gates_out: Tensor
    way_in: Tensor
    way_out: Tensor
    bias: Tensor
    state: Tensor
    state_bias: Tensor


def _gated_step(states: Tensor, state_of_node: Tensor, incoming: Messages, outgoing: Messages, maps: _Maps) -> Tensor:
    """A step with the gate "gru". Shape [N', D]."""
    if not torch.is_grad_enabled():
        return _step(states, state_of_node, incoming, outgoing, maps).after
    result: Tensor = _GatedStep.apply(states, state_of_node, incoming, outgoing, *maps)  # type: ignore[no-untyped-call]
    return result


class _Step(NamedTuple):
    """What a step computes for N nodes, filled up with rows of zeros to N'.

    Args:
        heard_map: From what is heard to the sums inside the gates. Shape [3D, 2D + 4].
        before: h. Shape [N', D].
        heard: A+ h, its row sums and 1, then the same of A-. Shape [N', 2D + 4].
        gates: r, z and W_hc h + b_hc side by side. Shape [N', 3D].
        candidate: c. Shape [N', D].
        after: h'. Shape [N', D].
    """

    heard_map: Tensor
    before: Tensor
    heard: Tensor
    gates: Tensor
    candidate: Tensor
    after: Tensor


def _step(states_SD: Tensor, state_of_node: Tensor, incoming: Messages, outgoing: Messages, maps: _Maps) -> _Step:
    """Rows of A+ and A- sum to 1, or to 0 at a node that nothing enters or leaves: there b_in or b_out do not count."""
    nodes, dim = len(state_of_node), states_SD.shape[1]
    before = states_SD.new_zeros(padded_rows(nodes), dim)
    torch.index_select(states_SD, 0, state_of_node, out=before[:nodes])
    heard = _heard(before, nodes, incoming, outgoing)
    heard_map = torch.cat([product(maps.gates_in, maps.way_in), product(maps.gates_out, maps.way_out)], dim=1)
    gates = product(before, maps.state.T).add_(maps.state_bias)
    by_heard = product(heard, heard_map.T).add_(maps.bias)
    gates[:, : 2 * dim].add_(by_heard[:, : 2 * dim]).sigmoid_()
    reset, update, of_state = gates.chunk(3, dim=1)
    candidate = tanh_(torch.addcmul(by_heard[:, 2 * dim :], reset, of_state))
    return _Step(heard_map, before, heard, gates, candidate, torch.lerp(candidate, before, update))


def _heard(before: Tensor, nodes: int, incoming: Messages, outgoing: Messages) -> Tensor:
    dim = before.shape[1]
    columns, ones = [], before.new_ones(nodes, 1)
    for sender, receiver, weight in (incoming, outgoing):
        sums, total = before.new_zeros(nodes, dim), before.new_zeros(nodes)
        sums.index_add_(0, receiver, before.index_select(0, sender).mul_(weight[:, None]))
        total.index_add_(0, receiver, weight.to(total))
        columns += [sums, total[:, None], ones]
    heard = before.new_zeros(len(before), 2 * dim + 4)
    torch.cat(columns, dim=1, out=heard[:nodes])
    return heard


class _GatedStep(torch.autograd.Function):
    """`_step` with its backward pass by hand.

    With y the sums inside the gates by what is heard, and x those by the state: d heard = dy M, dM = dy' heard, and
    likewise for the state; d heard goes back along the transitions, and dh' z past the gates. M itself is a product.
    """

    @staticmethod
    def forward(
        ctx: Any, states_SD: Tensor, state_of_node: Tensor, incoming: Messages, outgoing: Messages, *given: Tensor
    ) -> Tensor:
        maps = _Maps(*given)
        step = _step(states_SD, state_of_node, incoming, outgoing, maps)
        ctx.save_for_backward(state_of_node, *incoming, *outgoing, *maps, *step[:-1])
        ctx.num_states = len(states_SD)
        return step.after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        state_of_node, *rest = ctx.saved_tensors
        incoming, outgoing, maps = rest[:3], rest[3:6], _Maps(*rest[6:13])
        heard_map, before, heard, gates, candidate = rest[13:]
        of_after, (nodes, dim) = gradients[0], (len(state_of_node), before.shape[1])
        by_reset, by_update, by_new = gate_derivatives(gates, candidate, before)
        by_heard = torch.cat([by_reset, by_update, by_new], dim=1)
        by_heard.view(-1, 3, dim).mul_(of_after[:, None])
        by_state = by_heard.clone()
        by_state[:, 2 * dim :].mul_(gates[:, :dim])
        of_h = product(by_state, maps.state).addcmul_(of_after, gates[:, dim : 2 * dim])
        of_ways = torch.split(product(by_heard, heard_map), dim + 2, dim=1)
        for of_heard, (sender, receiver, weight) in zip(of_ways, (incoming, outgoing), strict=True):
            of_h.index_add_(0, sender, of_heard[:, :dim].index_select(0, receiver).mul_(weight[:, None]))
        of_states = of_h.new_zeros(ctx.num_states, dim).index_add_(0, state_of_node, of_h[:nodes])
        of_map_in, of_map_out = torch.split(product(by_heard.T, heard), dim + 2, dim=1)
        of_gates = (product(of_map_in, maps.way_in.T), product(of_map_out, maps.way_out.T))
        of_messages = (product(maps.gates_in.T, of_map_in), product(maps.gates_out.T, of_map_out))
        of_state_map = (product(by_state.T, before), by_state.sum(0))
        return of_states, None, None, None, *of_gates, *of_messages, by_heard.sum(0), *of_state_map

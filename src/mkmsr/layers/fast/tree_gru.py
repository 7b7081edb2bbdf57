"""A GRU over many sequences that share prefixes: run once per distinct prefix.

Dimension letters: S distinct values, Q tree nodes, D state size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class TreeGRU(nn.Module):
    """The states of `torch.nn.GRU`, one layer, zero start, computed on a tree of prefixes.

    A GRU is causal: the state after a prefix depends on that prefix alone. Sequences that begin alike share those
    states, and the input half of the gates is computed once per distinct value.

    Shapes:
        inputs [S, input_dim], value [Q], parent [Q] (index within the level before) -> [Q, D].

    Source: Cho et al., EMNLP 2014, in PyTorch's order of gates: reset, update, new.
    """

    def __init__(self, input_dim: int, dim: int):
        super().__init__()
        self.dim = dim
        self.from_input = nn.Linear(input_dim, 3 * dim)
        self.from_state = nn.Linear(dim, 3 * dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every weight from U(-1/sqrt(D), 1/sqrt(D))."""
        bound = 1 / math.sqrt(self.dim)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, inputs: Tensor, value: Tensor, parent: Tensor, level_sizes: Sequence[int]) -> Tensor:
        """The state after each tree node's prefix. Shape [Q, D]."""
        if 0 < len(value) == len(level_sizes) and not torch.is_grad_enabled():  # One sequence: PyTorch's own loop.
            return self._chain(inputs[value])
        gates_S3D, state = self.from_input(inputs), self.from_state
        # The row of each node's parent in a table that has the root in row 0 and the nodes after it.
        begins = [0, *itertools.accumulate(level_sizes[:-1], initial=1)][: len(level_sizes)]
        of_level = torch.tensor([begins, list(level_sizes)], device=parent.device)
        row = parent + torch.repeat_interleave(of_level[0], of_level[1], output_size=len(parent))
        if not torch.is_grad_enabled():
            return _unroll(gates_S3D, state.weight, state.bias, value, row, level_sizes)[0][1:]
        states: Tensor = _Unroll.apply(  # type: ignore[no-untyped-call]
            gates_S3D, state.weight, state.bias, value, row, level_sizes
        )
        return states

    def _chain(self, inputs_QD: Tensor) -> Tensor:
        """The state after each of some inputs. Shape [Q, D]."""
        given, state = self.from_input, self.from_state
        weights = [given.weight, state.weight, given.bias, state.bias]
        start = inputs_QD.new_zeros(1, 1, state.in_features)
        states_Q1D: Tensor = torch.gru(inputs_QD[:, None], start, weights, True, 1, 0.0, False, False, False)[0]
        return states_Q1D[:, 0]


def _unroll(
    gates_in_S3D: Tensor, weight: Tensor, bias: Tensor, value: Tensor, row: Tensor, level_sizes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """States with the root's in row 0 [Q + 1, D]; reset, update and W_hn h + b_hn [Q, 3D]; new [Q, D].

    A level has few nodes, so that its time is that of calling each operation: those that can wait for all levels at
    once stand outside of the loop.
    """
    dim, sizes = weight.shape[1], list(level_sizes)
    start_S3D = torch.cat(
        [gates_in_S3D[:, : 2 * dim] + bias[: 2 * dim], bias[2 * dim :].expand(len(gates_in_S3D), -1)], 1
    )
    gates_Q3D, new_QD = start_S3D.index_select(0, value), gates_in_S3D[:, 2 * dim :].index_select(0, value)
    states = gates_Q3D.new_empty(len(value) + 1, dim)
    states[0] = 0
    reset_QD, update_QD, new_state_QD = gates_Q3D.chunk(3, dim=1)
    for row_q, gates, reset_update, reset, update, new_state, new, state in zip(
        torch.split(row, sizes),
        torch.split(gates_Q3D, sizes),
        torch.split(gates_Q3D[:, : 2 * dim], sizes),
        torch.split(reset_QD, sizes),
        torch.split(update_QD, sizes),
        torch.split(new_state_QD, sizes),
        torch.split(new_QD, sizes),
        torch.split(states[1:], sizes),
        strict=True,
    ):
        before = states.index_select(0, row_q)
        gates.addmm_(before, weight.T)
        reset_update.sigmoid_()
        new.addcmul_(reset, new_state).tanh_()
        torch.lerp(new, before, update, out=state)
    return states, gates_Q3D, new_QD


class _Unroll(torch.autograd.Function):
    """`_unroll` with a backward pass of three operations a level, where automatic differentiation takes thirty."""

    @staticmethod
    def forward(
        ctx: Any,
        gates_in_S3D: Tensor,
        weight: Tensor,
        bias: Tensor,
        value: Tensor,
        row: Tensor,
        level_sizes: Sequence[int],
    ) -> Tensor:
        states, gates, new = _unroll(gates_in_S3D, weight, bias, value, row, level_sizes)
        ctx.save_for_backward(weight, value, row, states, gates, new)
        ctx.num_values, ctx.level_sizes = len(gates_in_S3D), list(level_sizes)
        return states[1:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The state's derivative by each gate does not depend on the gradient, so it is taken for all nodes at once.

            h' = (1 - z) n + z h,    n = tanh(a + r m),    r = sigmoid(..),    z = sigmoid(..)

        By the sums inside of r and z, and by a; the one by m is the last times r.
        """
        weight, value, row, states, gates, new = ctx.saved_tensors
        dim = weight.shape[1]
        reset, update, from_state = gates.chunk(3, dim=1)
        keep = 1 - update
        by_new = (1 - new * new).mul_(keep)
        by_update = (states.index_select(0, row) - new).mul_(update).mul_(keep)
        by_reset = (1 - reset).mul_(reset).mul_(from_state).mul_(by_new)
        # What a node hands to its parent: through W_hr h, W_hz h, W_hn h and directly.
        factors_Q4D = torch.stack([by_reset, by_update, by_new * reset, update], dim=1)
        received = gates.new_zeros(len(value) + 1, 4 * dim)
        received[1:, 3 * dim :] = gradients[0]
        of_states = torch.empty_like(new)
        levels = zip(
            torch.split(row, ctx.level_sizes),
            torch.split(factors_Q4D, ctx.level_sizes),
            torch.split(received[1:, : 3 * dim], ctx.level_sizes),
            torch.split(received[1:, 3 * dim :], ctx.level_sizes),
            torch.split(of_states, ctx.level_sizes),
            strict=True,
        )
        for row_q, factors, of_gates, direct, of_state in reversed(list(levels)):
            torch.addmm(direct, of_gates, weight, out=of_state)
            received.index_add_(0, row_q, (factors * of_state[:, None]).flatten(1))
        of_gates = received[:, : 3 * dim]
        of_inputs = torch.stack([by_reset, by_update, by_new], dim=1).mul_(of_states[:, None]).flatten(1)
        of_gates_in = of_inputs.new_zeros(ctx.num_values, 3 * dim).index_add_(0, value, of_inputs)
        return of_gates_in, of_gates.T @ states, of_gates.sum(0), None, None, None

"""A GRU over many sequences that share prefixes: run once per distinct prefix.

Dimension letters: S distinct values, Q tree nodes, D state size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["TreeGRU"]


class TreeGRU(nn.Module):
    """The states of `torch.nn.GRU`, one layer, zero start, computed on a tree of prefixes.

    A GRU is causal: the state after a prefix depends on that prefix alone. Sequences that begin alike share those
    states, and the input half of the gates is computed once per distinct value.

    Args:
        input_dim: Size of a value's vector.
        dim: D.

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
        gates_S3D = self.from_input(inputs)
        levels = []
        state = inputs.new_zeros(1, self.dim)
        for value_q, parent_q in zip(
            torch.split(value, list(level_sizes)), torch.split(parent, list(level_sizes)), strict=True
        ):
            gates_in, gates_state = gates_S3D[value_q], self.from_state(state)[parent_q]
            reset_update = torch.sigmoid(gates_in[:, : 2 * self.dim] + gates_state[:, : 2 * self.dim])
            reset, update = reset_update.chunk(2, dim=1)
            new = torch.tanh(gates_in[:, 2 * self.dim :] + reset * gates_state[:, 2 * self.dim :])
            state = new + update * (state[parent_q] - new)
            levels.append(state)
        return torch.cat(levels)

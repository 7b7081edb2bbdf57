"""Soft attention that turns a session's micro-behaviours into one vector.

Dimension letters: B sessions, P events, S rows of a part's table, D embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mkmsr.layers.products import padded_rows, product

__all__ = ["Part", "SoftAttention"]


class Part(NamedTuple):
    """One half of the micro-behaviour vectors: event p has the vector `table[alias[p]]`.

    Args:
        table: Distinct vectors. Shape [S, D].
        alias: Row of each event. Shape [P].
    """

    table: Tensor
    alias: Tensor


class SoftAttention(nn.Module):
    """Session vectors from micro-behaviours m_t = part_1 (+) part_2 (+) ...

        alpha_t = beta' sigmoid(W1 m_L + W2 m_t + b)
        s_g = sum_t alpha_t m_t
        s = W3 [m_L ; s_g]

    alpha is not normalised. As every map is linear in m_t, each is applied to the rows of the parts' tables, and only
    its results are spread over the events.

    Args:
        part_dims: Vector size of each part.
        dim: Size of s and of the attention's hidden layer.

    Source: MKM-SR, "Generating Session Representations"; the same readout as SR-GNN.
    """

    def __init__(self, part_dims: Sequence[int], dim: int):
        super().__init__()
        self.part_dims, self.dim = list(part_dims), dim
        width = sum(part_dims)
        self.of_last = nn.Linear(width, dim)
        self.of_each = nn.Linear(width, dim, bias=False)
        self.weight = nn.Parameter(torch.empty(dim))
        self.combine = nn.Linear(2 * width, dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every weight from U(-1/sqrt(D), 1/sqrt(D))."""
        bound = 1 / math.sqrt(self.dim)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def start_at_last_event(self) -> None:
        """Move W3 near the map that returns the newest event's first part: a third of its noise, plus an identity."""
        with torch.no_grad():
            self.combine.weight /= 3
            self.combine.weight[:, : self.dim] += torch.eye(self.dim, self.part_dims[0])

    def weights(self, parts: Sequence[Part], rows: Tensor, last: Tensor) -> Tensor:
        """alpha of each event. `rows` [P] is the session of each event, `last` [B] each session's newest. Shape [P]."""
        hidden_BD = self.of_last(_vectors(parts, last))
        hidden_PD = hidden_BD.index_select(0, rows)
        for part, map_part in zip(parts, torch.split(self.of_each.weight, self.part_dims, dim=1), strict=True):
            hidden_PD = hidden_PD + (part.table @ map_part.T).index_select(0, part.alias)
        return torch.sigmoid(hidden_PD) @ self.weight

    def forward(self, parts: Sequence[Part], rows: Tensor, last: Tensor) -> Tensor:
        """s of each session. Shape [B, D]."""
        maps = _Maps(self.of_last.weight, self.of_last.bias, self.of_each.weight, self.weight, self.combine.weight)
        tables, aliases = zip(*parts, strict=True)
        s_BD: Tensor = _Readout.apply(rows, last, maps, aliases, *maps, *tables)  # type: ignore[no-untyped-call]
        return s_BD


class _Maps(NamedTuple):
    """The weights of `SoftAttention`: W1, b, W2, beta and W3."""

    of_last: Tensor
    bias: Tensor
    of_each: Tensor
    weight: Tensor
    combine: Tensor


class _Readout(torch.autograd.Function):
    """`SoftAttention` with both passes by hand, in half as many operations.

    P' is P filled up with rows of zeros. M is the size of a whole micro-behaviour vector.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, last: Tensor, maps: _Maps, aliases: Sequence[Tensor], *given: Tensor) -> Tensor:
        tables = given[len(maps) :]
        events, sessions = len(rows), len(last)
        m_PM = given[0].new_zeros(padded_rows(events), maps.of_each.shape[1])
        gathered = [table.index_select(0, alias) for table, alias in zip(tables, aliases, strict=True)]
        torch.cat(gathered, dim=1, out=m_PM[:events])
        newest_BM = m_PM.index_select(0, last)
        hidden_BD = product(newest_BM, maps.of_last.T).add_(maps.bias)
        gate_PD = product(m_PM, maps.of_each.T)
        gate_PD[:events].add_(hidden_BD.index_select(0, rows)).sigmoid_()
        alpha_P1 = torch.mv(gate_PD[:events], maps.weight)[:, None]
        pooled_BM = _sums(m_PM[:events] * alpha_P1, rows, sessions)
        both_B2M = torch.cat([newest_BM, pooled_BM], dim=1)
        ctx.save_for_backward(rows, last, *maps, *aliases, m_PM, gate_PD, alpha_P1, both_B2M)
        ctx.table_sizes = [table.shape for table in tables]
        return product(both_B2M, maps.combine.T)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (rows, last), maps, rest = ctx.saved_tensors[:2], _Maps(*ctx.saved_tensors[2:7]), ctx.saved_tensors[7:]
        *aliases, m_PM, gate_PD, alpha_P1, both_B2M = rest
        (of_s_BD,), events, (sessions, width) = gradients, len(rows), (len(last), m_PM.shape[1])
        of_newest_BM, of_pooled_BM = torch.split(product(of_s_BD, maps.combine), width, dim=1)
        of_pooled_PM = of_pooled_BM.index_select(0, rows)
        of_alpha_P = torch.linalg.vecdot(of_pooled_PM, m_PM[:events])
        of_weight = torch.mv(gate_PD[:events].T, of_alpha_P)
        gate = gate_PD[:events]
        of_gate_PD = torch.zeros_like(gate_PD)  # By what stands inside the sigmoid.
        of_gate_PD[:events].addcmul_(gate, 1 - gate).mul_(of_alpha_P[:, None]).mul_(maps.weight)
        of_hidden_BD = _sums(of_gate_PD[:events], rows, sessions)
        of_newest_BM = product(of_hidden_BD, maps.of_last).add_(of_newest_BM)
        of_m_PM = product(of_gate_PD, maps.of_each)[:events].addcmul_(of_pooled_PM, alpha_P1)
        of_m_PM.index_add_(0, last, of_newest_BM)
        of_maps = (
            product(of_hidden_BD.T, both_B2M[:, :width]),
            of_hidden_BD.sum(0),
            product(of_gate_PD.T, m_PM),
            of_weight,
            product(of_s_BD.T, both_B2M),
        )
        of_tables, begin = [], 0
        for alias, (size, dim) in zip(aliases, ctx.table_sizes, strict=True):
            of_tables.append(_sums(of_m_PM[:, begin : begin + dim], alias, size))
            begin += dim
        return None, None, None, None, *of_maps, *of_tables


def _vectors(parts: Sequence[Part], positions: Tensor) -> Tensor:
    """The whole micro-behaviour vectors of some events."""
    return torch.cat([part.table.index_select(0, part.alias.index_select(0, positions)) for part in parts], dim=1)


def _sums(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    return values.new_zeros(num_rows, values.shape[1]).index_add_(0, rows, values)

"""Soft attention that turns a session's micro-behaviours into one vector.

Dimension letters: B sessions, P events, S rows of a part's table, D embedding size, M size of a
micro-behaviour vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mkmsr.layers.products import filled_up, product

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
        hidden_BD = self.of_last(self._events(parts, last))
        hidden_PD = hidden_BD.index_select(0, rows)
        for part, map_part in zip(parts, torch.split(self.of_each.weight, self.part_dims, dim=1), strict=True):
            hidden_PD = hidden_PD + (part.table @ map_part.T).index_select(0, part.alias)
        return torch.sigmoid(hidden_PD) @ self.weight

    def forward(self, parts: Sequence[Part], rows: Tensor, last: Tensor) -> Tensor:
        """s of each session. Shape [B, D]."""
        newest_BM = self._events(parts, last)
        tables, aliases = zip(*parts, strict=True)
        arguments = (self.of_last(newest_BM), self.of_each.weight, self.weight, rows, *tables, *aliases)
        if torch.is_grad_enabled():
            pooled_BM: Tensor = _Pooled.apply(*arguments)  # type: ignore[no-untyped-call]
        else:
            pooled_BM = _pool(*arguments)[0]
        s_BD: Tensor = self.combine(torch.cat([newest_BM, pooled_BM], dim=1))
        return s_BD

    @staticmethod
    def _events(parts: Sequence[Part], positions: Tensor) -> Tensor:
        """The whole micro-behaviour vectors of some events."""
        return torch.cat([part.table.index_select(0, part.alias[positions]) for part in parts], dim=1)


def _pool(
    hidden_BD: Tensor, of_each: Tensor, weight: Tensor, rows: Tensor, *tables_and_aliases: Tensor
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """s_g [B, M], alpha [P], what is inside of beta' (..) [P, D], and each part's vectors of the events [P, its size].

    `hidden_BD` is W1 m_L + b; then come W2, beta, the session of each event, the parts' tables and their aliases.
    """
    parts = _parts(tables_and_aliases)
    hidden_PD = hidden_BD.index_select(0, rows)
    maps = torch.split(of_each, [part.table.shape[1] for part in parts], dim=1)
    for part, map_part in zip(parts, maps, strict=True):
        table = filled_up(part.table)
        hidden_PD += product(table, map_part.T).index_select(0, part.alias)
    alpha_P = hidden_PD.sigmoid_() @ weight
    events = [part.table.index_select(0, part.alias) for part in parts]
    sums = [
        each.new_zeros(len(hidden_BD), each.shape[1]).index_add_(0, rows, each * alpha_P[:, None]) for each in events
    ]
    return torch.cat(sums, dim=1), alpha_P, hidden_PD, events


class _Pooled(torch.autograd.Function):
    """`_pool` with its backward pass by hand.

    With S = sigmoid(..): d alpha_t = m_t . d s_g, d beta = sum_t d alpha_t S_t, dx_t = d alpha_t beta S_t (1 - S_t),
    and m_t gets alpha_t d s_g + W2' dx_t, whose second part is taken once per row of a part's table.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_BD: Tensor, of_each: Tensor, weight: Tensor, rows: Tensor, *tables_and_aliases: Tensor
    ) -> Tensor:
        pooled, alpha_P, shares_PD, events = _pool(hidden_BD, of_each, weight, rows, *tables_and_aliases)
        ctx.save_for_backward(of_each, weight, rows, alpha_P, shares_PD, *events, *tables_and_aliases)
        ctx.num_parts = len(events)
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_each, weight, rows, alpha_P, shares_PD, *rest = ctx.saved_tensors
        events, parts = rest[: ctx.num_parts], _parts(rest[ctx.num_parts :])
        sizes = [part.table.shape[1] for part in parts]
        of_sums = [each.index_select(0, rows) for each in torch.split(gradients[0], sizes, dim=1)]
        of_alpha_P = torch.stack([(one * each).sum(1) for one, each in zip(of_sums, events, strict=True)]).sum(0)
        of_hidden_PD = (1 - shares_PD).mul_(shares_PD).mul_(weight).mul_(of_alpha_P[:, None])
        of_maps, of_tables = [], []
        for part, map_part, of_sum in zip(parts, torch.split(of_each, sizes, dim=1), of_sums, strict=True):
            table, height = filled_up(part.table), len(part.table)
            of_mapped = table.new_zeros(len(table), len(weight)).index_add_(0, part.alias, of_hidden_PD)
            of_maps.append(product(of_mapped.T, table))
            of_table = product(of_mapped, map_part)[:height]
            of_tables.append(of_table.index_add_(0, part.alias, of_sum.mul_(alpha_P[:, None])))
        of_hidden_BD = weight.new_zeros(len(gradients[0]), len(weight)).index_add_(0, rows, of_hidden_PD)
        return of_hidden_BD, torch.cat(of_maps, 1), of_alpha_P @ shares_PD, None, *of_tables, *[None] * len(parts)


def _parts(tables_and_aliases: Sequence[Tensor]) -> list[Part]:
    half = len(tables_and_aliases) // 2
    return [Part(*pair) for pair in zip(tables_and_aliases[:half], tables_and_aliases[half:], strict=True)]

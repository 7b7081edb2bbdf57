"""Soft attention that turns a session's micro-behaviours into one vector.

Dimension letters: B sessions, P events, S rows of a part's table, D embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
        s_BD: Tensor = _Readout.apply(rows, last, *maps, *aliases, *tables)  # type: ignore[no-untyped-call]
        return s_BD


class _Maps(NamedTuple):
    """The weights of `SoftAttention`: W1, b, W2, beta and W3."""

    of_last: Tensor
    bias: Tensor
    of_each: Tensor
    weight: Tensor
    combine: Tensor


def _vectors(parts: Sequence[Part], positions: Tensor) -> Tensor:
    """The whole micro-behaviour vectors of some events."""
    return torch.cat([part.table.index_select(0, part.alias.index_select(0, positions)) for part in parts], dim=1)


class _Readout(torch.autograd.Function):
    """`SoftAttention` with both passes by hand: half as many operations, and the products by `products.product`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, last: Tensor, *maps_aliases_tables: Tensor) -> Tensor:
        maps, rest = _Maps(*maps_aliases_tables[:5]), maps_aliases_tables[5:]
        parts = [
            Part(table, alias) for alias, table in zip(rest[: len(rest) // 2], rest[len(rest) // 2 :], strict=True)
        ]
        newest_BM = _vectors(parts, last)
        hidden_PD = product(newest_BM, maps.of_last.T).add_(maps.bias).index_select(0, rows)
        for part, of_part in zip(parts, _by_part(maps.of_each, parts), strict=True):
            hidden_PD += _product_for(part.table)(part.table, of_part.T).index_select(0, part.alias)
        gate_PD = hidden_PD.sigmoid_()
        alpha_P1 = (gate_PD @ maps.weight)[:, None]
        pooled = [_sums(part.table.index_select(0, part.alias).mul_(alpha_P1), rows, len(last)) for part in parts]
        both_B2M = torch.cat([newest_BM, *pooled], dim=1)
        ctx.save_for_backward(rows, last, *maps_aliases_tables, gate_PD, alpha_P1, both_B2M)
        return product(both_B2M, maps.combine.T)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, last, *rest, gate_PD, alpha_P1, both_B2M = ctx.saved_tensors
        maps, rest = _Maps(*rest[:5]), rest[5:]
        parts = [
            Part(table, alias) for alias, table in zip(rest[: len(rest) // 2], rest[len(rest) // 2 :], strict=True)
        ]
        width = both_B2M.shape[1] // 2
        of_newest_BM, of_pooled_BM = torch.split(product(gradients[0], maps.combine), width, dim=1)
        of_events = [each.index_select(0, rows) for each in _by_part(of_pooled_BM, parts)]
        of_alpha_P = sum(
            torch.linalg.vecdot(each, part.table.index_select(0, part.alias))
            for each, part in zip(of_events, parts, strict=True)
        )
        assert isinstance(of_alpha_P, Tensor)
        of_weight = of_alpha_P @ gate_PD
        of_hidden_PD = torch.ops.aten.sigmoid_backward(torch.outer(of_alpha_P, maps.weight), gate_PD)
        of_hidden_BD = _sums(of_hidden_PD, rows, len(last))
        of_newest_BM = product(of_hidden_BD, maps.of_last).add_(of_newest_BM)
        of_tables, of_each = [], []
        for part, of_part, of_event, of_newest in zip(
            parts, _by_part(maps.of_each, parts), of_events, _by_part(of_newest_BM, parts), strict=True
        ):
            of_rows_SD, multiply = _sums(of_hidden_PD, part.alias, len(part.table)), _product_for(part.table)
            of_each.append(multiply(of_rows_SD.T, part.table))
            of_table = multiply(of_rows_SD, of_part)
            of_table.index_add_(0, part.alias, of_event.mul_(alpha_P1))
            of_tables.append(of_table.index_add_(0, part.alias.index_select(0, last), of_newest))
        of_maps = (
            product(of_hidden_BD.T, both_B2M[:, :width]),
            of_hidden_BD.sum(0),
            torch.cat(of_each, dim=1),
            of_weight,
            product(gradients[0].T, both_B2M),
        )
        return None, None, *of_maps, *[None] * len(parts), *of_tables


def _by_part(vectors: Tensor, parts: Sequence[Part]) -> Sequence[Tensor]:
    """Columns of whole vectors, part by part."""
    return torch.split(vectors, [part.table.shape[1] for part in parts], dim=1)


def _sums(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    return values.new_zeros(num_rows, values.shape[1]).index_add_(0, rows, values)


def _product_for(table: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """How products over the rows of a table are taken: by oneDNN only if their number is one that comes back."""
    return product if padded_rows(len(table)) == len(table) else torch.mm

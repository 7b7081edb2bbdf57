"""Soft attention that turns a session's micro-behaviours into one vector.

Dimension letters: B sessions, P events, S rows of a part's table, D embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mkmsr.layers.segments import segment_sum


class Part(NamedTuple):
    """One half of the micro-behaviour vectors: event p has the vector `table[alias[p]]`; shapes [S, D] and [P]."""

    table: Tensor
    alias: Tensor


class SoftAttention(nn.Module):
    """Session vectors of size D from micro-behaviours m_t = part_1 (+) part_2 (+) ..., of `part_dims`.

        alpha_t = beta' sigmoid(W1 m_L + W2 m_t + b)
        s_g = sum_t alpha_t m_t
        s = W3 [m_L ; s_g]

    alpha is not normalised. As every map is linear in m_t, each is applied to the rows of the parts' tables, and only
    its results are spread over the events.

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
        """Return s of each session. Shape [B, D]."""
        m_PM = torch.cat([part.table.index_select(0, part.alias) for part in parts], dim=1)
        alpha_P1 = self.weights(parts, rows, last)[:, None]
        pooled_BM = segment_sum(alpha_P1 * m_PM, rows, len(last))
        s_BD: Tensor = self.combine(torch.cat([m_PM.index_select(0, last), pooled_BM], dim=1))
        return s_BD


def _vectors(parts: Sequence[Part], positions: Tensor) -> Tensor:
    """The whole micro-behaviour vectors of some events."""
    return torch.cat([part.table.index_select(0, part.alias.index_select(0, positions)) for part in parts], dim=1)

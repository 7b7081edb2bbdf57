"""COMPASS's encoder: MKM-SR's network of micro-behaviours, and what an operation that is asked for changes.

Dimension letters: B sessions, P events, U distinct items of the batch, N graph nodes, D embedding size, O operations
+ 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.attention import Part, SoftAttention
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.ggnn import GGNN

_HIDDEN_SHARE = 0.5
"""Share of training examples whose operation is hidden, so that one model answers with and without it."""


class EventEncoder(nn.Module):
    """A vector for each event and each session, from the vectors of items and, where they count, from operations.

    Source: MKM-SR (Meng et al., SIGIR 2020).
    """

    def __init__(self, num_operations: int, dim: int, dropout: float):
        super().__init__()
        self.dim, self.dropout, self.uses_operations = dim, dropout, num_operations > 0
        self.item_ggnn = GGNN(dim)
        part_dims = [dim]
        if self.uses_operations:
            self.operations = nn.Embedding(num_operations + 1, dim, padding_idx=0)
            self.operation_gru = TreeGRU(dim, dim)
            part_dims.append(dim)
        self.readout = SoftAttention(part_dims, dim)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights from U(-1/sqrt(D), 1/sqrt(D)); the readout starts near the newest item."""
        bound = 1 / math.sqrt(self.dim)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        self.readout.start_at_last_event()
        if self.uses_operations:
            self.operations.weight[0].zero_()

    def micro_behaviours(self, batch: SessionBatch, vectors_UD: Tensor) -> list[Part]:
        """Return the parts of each event's micro-behaviour, given the vectors of the batch's distinct items."""
        graph = batch.graph
        entering_UD = F.dropout(vectors_UD, self.dropout, self.training)
        states_ND = self.item_ggnn(entering_UD, graph.node_value, graph.incoming, graph.outgoing)
        parts = [Part(states_ND, graph.alias)]
        if self.uses_operations:
            tree = batch.operation_tree
            states = self.operation_gru(self.operations.weight, tree.value, tree.parent, tree.level_sizes)
            parts.append(Part(states, tree.alias))
        return parts

    def forward(self, batch: SessionBatch, parts: list[Part]) -> Tensor:
        """Return the vector of each session from its micro-behaviours. Shape [B, D]."""
        session_BD: Tensor = self.readout(parts, batch.rows, batch.last)
        return session_BD


class WantedOperation(nn.Module):
    """What an operation that is asked for does to session vectors; nothing at all where any will do (0).

        s' = (1 + scale[o]) * s + shift[o]

    The scale lets one session vector hold several continuations and an operation choose among them; a shift alone
    could only prefer the same items in every session. Copies and gates have tables of their own.
    """

    def __init__(self, num_operations: int, dim: int):
        super().__init__()
        self.scale = nn.Embedding(num_operations + 1, dim, padding_idx=0)
        self.shift = nn.Embedding(num_operations + 1, dim, padding_idx=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All zero: a model begins as if no operation were ever asked for."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def masked(self, operations: Tensor) -> Tensor:
        """Return the same operations [B], a random share of them replaced by 0."""
        return operations * (torch.rand(operations.shape, device=operations.device) >= _HIDDEN_SHARE)

    def forward(self, sessions: Tensor, wanted: Tensor) -> Tensor:
        """Return session vectors [B, D] for the operations wanted [B]."""
        changed: Tensor = (1 + self.scale(wanted)) * sessions + self.shift(wanted)
        return changed

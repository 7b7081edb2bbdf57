"""COMPASS's encoder: MKM-SR's network of micro-behaviours.

Dimension letters: B sessions, P events, U distinct items of the batch, N graph nodes, D embedding size, O operations
+ 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.attention import Part, SoftAttention
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.ggnn import GGNN

__all__ = ["EventEncoder"]


class EventEncoder(nn.Module):
    """A vector for each event and each session, from the vectors of items and, where they count, from operations.

    Args:
        num_operations: O - 1; 0 where operations do not count.
        dim: D.
        dropout: Share of components dropped from item vectors in training.

    Source: MKM-SR (Meng et al., SIGIR 2020).
    """

    def __init__(self, num_operations: int, dim: int, dropout: float):
        super().__init__()
        self.dropout, self.uses_operations = dropout, num_operations > 0
        self.item_ggnn = GGNN(dim)
        part_dims = [dim]
        if self.uses_operations:
            self.operations = nn.Embedding(num_operations + 1, dim, padding_idx=0)
            self.operation_gru = TreeGRU(dim, dim)
            part_dims.append(dim)
        self.readout = SoftAttention(part_dims, dim)
        self.width = sum(part_dims)
        """Size of a micro-behaviour."""

    @torch.no_grad()
    def set_starts(self) -> None:
        """Set what does not start with the numbers that the model has drawn for it."""
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

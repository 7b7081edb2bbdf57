"""COMPASS's encoder: MKM-SR's network of micro-behaviours, and a direct path from the vectors of a session's items.

Dimension letters: B sessions, P events, U distinct items of the batch, N graph nodes, D embedding size, O operations
+ 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.attention import Part, SoftAttention
from mkmsr.layers.fast.shared_table import unit_rows
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.ggnn import GGNN
from mkmsr.layers.segments import segment_sum
from mkmsr.models.compass.config import CompassConfig

__all__ = ["EventEncoder", "RecentItems"]


class EventEncoder(nn.Module):
    """A vector for each session, from the vectors of its items and, where they count, from its operations.

    Args:
        config: Which parts there are.
        num_operations: O - 1.

    Source: MKM-SR (Meng et al., SIGIR 2020), and `RecentItems`.
    """

    def __init__(self, config: CompassConfig, num_operations: int):
        super().__init__()
        dim = config.dim
        self.dropout, self.uses_operations = config.dropout, config.operations
        self.item_ggnn = GGNN(dim)
        part_dims = [dim]
        if config.operations:
            self.operations = nn.Embedding(num_operations + 1, dim, padding_idx=0)
            self.operation_gru = TreeGRU(dim, dim)
            part_dims.append(dim)
        self.readout = SoftAttention(part_dims, dim)
        self.recent = RecentItems(num_operations if config.operations else 0) if config.explore.recent_items else None
        self.width = sum(part_dims)
        """Size of a micro-behaviour."""

    @torch.no_grad()
    def set_starts(self) -> None:
        """Set what does not start with the numbers that the model has drawn for it."""
        self.readout.start_at_last_event()
        if self.recent is not None:
            self.recent.reset_parameters()
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

    def forward(self, batch: SessionBatch, parts: list[Part], vectors_UD: Tensor) -> Tensor:
        """Return the vector of each session, from its micro-behaviours and its items. Shape [B, D]."""
        session_BD: Tensor = self.readout(parts, batch.rows, batch.last)
        if self.recent is None:
            return session_BD
        graph = batch.graph
        items_PD = F.dropout(vectors_UD[graph.node_value[graph.alias]], self.dropout, self.training)
        recent_BD: Tensor = self.recent(session_BD, items_PD, self.counted(batch), batch.ages, batch.rows)
        return recent_BD

    def attention(self, batch: SessionBatch, vectors_UD: Tensor) -> Tensor:
        """Return how much the readout weighs each event, not normalised. Shape [P]."""
        return self.readout.weights(self.micro_behaviours(batch, vectors_UD), batch.rows, batch.last)

    def counted(self, batch: SessionBatch) -> Tensor:
        """Return the operations [P], all 0 where they do not count."""
        return batch.operations if self.uses_operations else torch.zeros_like(batch.operations)


class RecentItems(nn.Module):
    """Adds to a session's vector what its items are, the newest most of all.

        s' = s / |s| + w r / |r|,    r = sum over events t of age[L - t] operation[o_t] x_t / |x_t|

    The sum has little to learn, and needs no encoder that has seen its items.

    Args:
        num_operations: O - 1; 0 where operations do not count.
        ages: Ages told apart, the last event has 0; older events share the last one.

    Source: this project; a decay by age is what neighbour models weigh a prefix with.
    """

    def __init__(self, num_operations: int, *, ages: int = 28):
        super().__init__()
        self.age = nn.Parameter(torch.empty(ages))
        self.operation = nn.Parameter(torch.empty(num_operations + 1))
        self.weight = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Ages fall to 1/e in two events, operations are alike, and r weighs half as much as s."""
        with torch.no_grad():
            self.age.copy_(torch.exp(-torch.arange(len(self.age)) / 2))
            self.operation.fill_(1.0)
            self.weight.fill_(0.5)

    def forward(self, session: Tensor, items: Tensor, operations: Tensor, ages: Tensor, rows: Tensor) -> Tensor:
        """s [B, D], x [P, D], operations, ages and rows (session of each event) [P] -> [B, D]."""
        weights_P = self.age[ages.clamp(max=len(self.age) - 1)] * self.operation[operations]
        recent_BD = segment_sum(weights_P[:, None] * unit_rows(items), rows, len(session))
        return unit_rows(session) + self.weight * unit_rows(recent_BD)

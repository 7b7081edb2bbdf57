"""A micro-behaviour network after EMBSR: a graph network whose messages know the operations, and attention that knows
the relation between any two of them.

Dimension letters: B sessions, P events, K visits (runs of events on one item), N nodes, U distinct items, D embedding
size, O operations + 1.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch
from mkmsr.data.session_graph import build_prefix_tree
from mkmsr.layers.fast.shared_table import table_rows
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.segments import segment_softmax, segment_sum
from mkmsr.models.base import ModelSizes
from mkmsr.models.entry import ModelEntry
from mkmsr.models.item_network import ITEM_NETWORK_SPACE, ITEM_NETWORK_TRAINING, ItemNetwork, ItemNetworkConfig


class EMBSRConfig(ItemNetworkConfig):
    """Settings of the network after EMBSR."""

    scorer: Literal["dot", "cosine"] = "cosine"
    """As in the paper, normalised, with a scale."""
    scale: Annotated[float, Field(gt=0, le=1000)] = 12.0
    """Where the cosine's learnt scale starts. Source: the paper, where it is fixed."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of components dropped from item vectors that enter the graph, in training.
    Chosen on the validation split of Demo."""
    session_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of components dropped from session vectors, in training. Chosen likewise."""


class Visits(NamedTuple):
    """Runs of events of one session on one item.

    Args:
        of_event: Visit of each event. Shape [P].
        offsets: First event of each visit, and P. Shape [K + 1].
        last: Newest event of each visit. Shape [K].
        source: Visit that each transition leaves; it enters the next one. Shape [M].
    """

    of_event: Tensor
    offsets: Tensor
    last: Tensor
    source: Tensor


class EMBSR(ItemNetwork):
    """Items, operations and their pairwise relations.

    A visit k is a run of events on one item, g_k the state of a GRU over its operations. Each node of the item graph
    hears from the visits before and after its own, the mean of each, and is updated by a gated cell:

        a_n = [mean W_in [x_j ; g_j] over visits j before ; mean W_out [x_j ; g_j] over visits j after]
        v_n = GRU(a_n, x_n)        m_t = v_{n(t)} + o_t

    The newest event L attends to all events; the vectors r depend on both operations:

        alpha = softmax_t((W_q m_L) . (W_k m_t + r^k_{L,t}) / sqrt(D))
        z = m_L + sum_t alpha_t (W_v m_t + r^v_{L,t})        z = z + W_2 relu(W_1 z)
        s = beta * z + (1 - beta) * v_L        beta = sigmoid(W_b [z ; v_L])

    Source: Yuan et al., Micro-Behavior Encoding for Session-based Recommendation, ICDE 2022.

    Differs: no star node and no highway around the graph; messages are averaged, not weighed by attention; only the
    newest event asks; no position vectors; the scale is learnt.
    """

    def __init__(self, config: EMBSRConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        dim, num_operations = config.dim, sizes.num_operations + 1
        self.operations = nn.Embedding(num_operations, dim, padding_idx=0)
        self.visit_gru = TreeGRU(dim, dim)
        self.item_before = nn.Linear(dim, dim)
        self.item_after = nn.Linear(dim, dim)
        self.visit_before = nn.Linear(dim, dim, bias=False)
        self.visit_after = nn.Linear(dim, dim, bias=False)
        self.cell = nn.GRUCell(2 * dim, dim)
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.relation_keys = nn.Embedding(num_operations**2, dim)
        self.relation_values = nn.Embedding(num_operations**2, dim)
        self.widen, self.narrow = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.gate = nn.Linear(2 * dim, dim)
        self.reset_parameters()

    def session_vectors(self, batch: SessionBatch) -> Tensor:
        v_ND = self.item_states(batch)
        node_of_event = batch.graph.alias
        m_PD = v_ND[node_of_event] + self.operations(batch.operations)
        z_BD = self.attend(m_PD, batch)
        last_BD = v_ND[node_of_event[batch.last]]
        beta_BD = torch.sigmoid(self.gate(torch.cat([z_BD, last_BD], dim=1)))
        return self.drop_session(last_BD + beta_BD * (z_BD - last_BD))

    def item_states(self, batch: SessionBatch) -> Tensor:
        """v of each node of the batch's item graphs. Shape [N, D]."""
        graph, visits = batch.graph, find_visits(batch)
        x_UD = self.drop_items(table_rows(self.items, graph.distinct))
        tree = build_prefix_tree(batch.operations, visits.offsets)
        g_QD = self.visit_gru(self.operations.weight, tree.value, tree.parent, tree.level_sizes)
        node_of_visit, state_of_visit = graph.alias[visits.last], tree.alias[visits.last]
        item_of_visit = graph.node_value[node_of_visit]
        before, after = visits.source, visits.source + 1

        def messages(of_item: nn.Linear, of_visit: nn.Linear, sender: Tensor, receiver: Tensor) -> Tensor:
            sent = of_item(x_UD)[item_of_visit[sender]] + of_visit(g_QD)[state_of_visit[sender]]
            node = node_of_visit[receiver]
            count = torch.bincount(node, minlength=graph.num_nodes).clamp(min=1)
            return segment_sum(sent, node, graph.num_nodes) / count[:, None]

        heard_before = messages(self.item_before, self.visit_before, before, after)
        heard_after = messages(self.item_after, self.visit_after, after, before)
        v_ND: Tensor = self.cell(torch.cat([heard_before, heard_after], dim=1), x_UD[graph.node_value])
        return v_ND

    def attend(self, m_PD: Tensor, batch: SessionBatch) -> Tensor:
        """z of each prefix. Shape [B, D]."""
        newest_BD = m_PD[batch.last]
        newest_operation_P = batch.operations[batch.last][batch.rows]
        relation_P = newest_operation_P * (self.sizes.num_operations + 1) + batch.operations
        keys_PD = self.key(m_PD) + self.relation_keys(relation_P)
        logits_P = (self.query(newest_BD)[batch.rows] * keys_PD).sum(1) / math.sqrt(m_PD.shape[1])
        alpha_P = segment_softmax(logits_P, batch.rows, len(batch))
        values_PD = self.value(m_PD) + self.relation_values(relation_P)
        z_BD = newest_BD + segment_sum(alpha_P[:, None] * values_PD, batch.rows, len(batch))
        return z_BD + self.drop_session(self.narrow(F.relu(self.widen(z_BD))))


def find_visits(batch: SessionBatch) -> Visits:
    """The visits of all prefixes, in order."""
    begins = torch.ones(len(batch.items), dtype=torch.bool, device=batch.items.device)
    begins[1:] = (batch.items[1:] != batch.items[:-1]) | (batch.rows[1:] != batch.rows[:-1])
    first = begins.nonzero()[:, 0]
    offsets = torch.cat([first, first.new_full((1,), len(batch.items))])
    row = batch.rows[first]
    source = (row[1:] == row[:-1]).nonzero()[:, 0]
    return Visits(begins.cumsum(0) - 1, offsets, offsets[1:] - 1, source)


ENTRY = ModelEntry(
    config=EMBSRConfig,
    model=EMBSR,
    summary="items, operations and relations between operations: graph network and attention",
    source="after Yuan et al., ICDE 2022",
    training=ITEM_NETWORK_TRAINING,
    space=ITEM_NETWORK_SPACE,
)

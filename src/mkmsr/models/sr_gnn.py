"""SR-GNN: a gated graph network over the session's item transitions, read out by soft attention.

Dimension letters: B sessions, N graph nodes, U distinct items, D embedding size.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.attention import Part, SoftAttention
from mkmsr.layers.fast.shared_table import rows_and_table, table_rows
from mkmsr.layers.ggnn import GGNN
from mkmsr.models.base import ModelSizes
from mkmsr.models.entry import Choice, ModelEntry
from mkmsr.models.item_network import ITEM_NETWORK_SPACE, ITEM_NETWORK_TRAINING, ItemNetwork, ItemNetworkConfig


class SRGNNConfig(ItemNetworkConfig):
    """Settings of SR-GNN."""

    steps: Annotated[int, Field(ge=0, le=16)] = 1
    """Steps of the graph network. Source: the authors' code."""


class SRGNN(ItemNetwork):
    """SR-GNN.

        v = GGNN(x, in and out transitions)
        alpha_t = q' sigmoid(W1 v_L + W2 v_t + c)
        s = W3 [v_L ; sum_t alpha_t v_t]
        score(j) = s . x_j

    Source: Wu et al., Session-based Recommendation with Graph Neural Networks, AAAI 2019.

    Differs: the order of the GRU gate and its biases follow the authors' code, not the paper; transitions that recur
    add up before rows are divided by the degree, as in both. Biases start at zero, where that code draws them.
    """

    def __init__(self, config: SRGNNConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        self.ggnn = GGNN(config.dim, steps=config.steps, aggregation="concat", gate="gru")
        self.readout = SoftAttention([config.dim], config.dim)
        self.reset_parameters()

    def session_vectors(self, batch: SessionBatch, entering: Tensor | None = None) -> Tensor:
        """What the network makes of each prefix, [B, D].

        `entering` are the vectors of the batch's distinct items [U, D], where they have been taken from the table.
        """
        graph = batch.graph
        x_UD = table_rows(self.items, graph.distinct) if entering is None else entering
        v_ND = self.ggnn(self.drop_items(x_UD), graph.node_value, graph.incoming, graph.outgoing)
        return self.drop_session(self.readout([Part(v_ND, graph.alias)], batch.rows, batch.last))

    def both_sides(self, batch: SessionBatch) -> tuple[Tensor, Tensor]:
        entering_UD, table_VD = rows_and_table(self.items.weight, batch.graph.distinct)
        return self.scaled(self.session_vectors(batch, entering_UD)), self.matched(table_VD)


ENTRY = ModelEntry(
    config=SRGNNConfig,
    model=SRGNN,
    summary="a graph network over item transitions",
    source="Wu et al., AAAI 2019",
    training=ITEM_NETWORK_TRAINING,
    space={**ITEM_NETWORK_SPACE, "model.steps": Choice((1, 2))},
)

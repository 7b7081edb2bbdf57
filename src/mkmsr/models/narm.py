"""NARM: a GRU whose last state stands for the session's course, and attention over its states for its main purpose.

Dimension letters: B sessions, P events, Q distinct prefixes, U distinct items, D embedding size.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.session_graph import build_prefix_tree
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.segments import segment_sum
from mkmsr.models.base import ModelSizes
from mkmsr.models.entry import ModelEntry
from mkmsr.models.item_network import ITEM_NETWORK_SPACE, ITEM_NETWORK_TRAINING, ItemNetwork, ItemNetworkConfig


class NARMConfig(ItemNetworkConfig):
    """Settings of NARM."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Of item vectors before the GRU. Source: the paper."""
    session_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Of c before the bilinear score. Source: the paper."""


class NARM(ItemNetwork):
    """NARM.

        h_t = GRU(x_t, h_{t-1})
        alpha_t = v' sigmoid(A1 h_L + A2 h_t)
        c = [h_L ; sum_t alpha_t h_t]
        score(j) = x_j' B c

    alpha is not normalised. B is applied to c, so that the score is an inner product with the item's own vector.

    Source: Li et al., Neural Attentive Session-based Recommendation, CIKM 2017.

    Differs: the paper names two GRUs (global and local encoder); one serves both, as in its authors' code. Item vectors
    and states have the same size D (there 50 and 100). An item dropped out is dropped alike in all sessions of a batch.
    """

    def __init__(self, config: NARMConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        dim = config.dim
        self.gru = TreeGRU(dim, dim)
        self.of_last = nn.Linear(dim, dim, bias=False)
        self.of_each = nn.Linear(dim, dim, bias=False)
        self.attention = nn.Parameter(torch.empty(dim))
        self.bilinear = nn.Linear(2 * dim, dim, bias=False)
        self.reset_parameters()

    def session_vectors(self, batch: SessionBatch) -> Tensor:
        x_UD, row_of_event = self.distinct_items(batch)
        tree = build_prefix_tree(row_of_event, batch.offsets)
        h_QD = self.gru(x_UD, tree.value, tree.parent, tree.level_sizes)
        h_PD, last_BD = h_QD[tree.alias], h_QD[tree.alias[batch.last]]
        hidden_PD = self.of_last(last_BD)[batch.rows] + self.of_each(h_QD)[tree.alias]
        alpha_P = torch.sigmoid(hidden_PD) @ self.attention
        local_BD = segment_sum(alpha_P[:, None] * h_PD, batch.rows, len(batch))
        s_BD: Tensor = self.bilinear(self.drop_session(torch.cat([last_BD, local_BD], dim=1)))
        return s_BD


ENTRY = ModelEntry(
    config=NARMConfig,
    model=NARM,
    summary="a GRU and attention over its states",
    source="Li et al., CIKM 2017",
    training=ITEM_NETWORK_TRAINING,
    space=ITEM_NETWORK_SPACE,
)

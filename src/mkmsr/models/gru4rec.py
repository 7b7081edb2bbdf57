"""GRU4REC: a GRU over the items of a session.

Dimension letters: B sessions, D embedding size, V catalogue + 1.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.session_graph import build_prefix_tree
from mkmsr.layers.tree_gru import TreeGRU
from mkmsr.models.base import ModelSizes
from mkmsr.models.item_network import ItemNetwork, ItemNetworkConfig

__all__ = ["GRU4Rec", "GRU4RecConfig", "WellMadeGRU4RecConfig"]


class GRU4RecConfig(ItemNetworkConfig):
    """Settings of GRU4REC. The loss, BPR or cross-entropy, is a setting of training."""

    tied: bool = False
    """Whether the score uses the item vectors that enter the GRU, or a table of its own."""


class WellMadeGRU4RecConfig(GRU4RecConfig):
    """Settings of GRU4REC in its well-made form; the defaults were chosen on the validation split of Demo."""

    tied: bool = True
    """One item table on both sides."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of components dropped from item vectors before the GRU, in training."""
    session_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of components dropped from the state after the prefix, in training."""


class GRU4Rec(ItemNetwork):
    """GRU4REC: the state after the prefix, scored against item vectors.

        h_t = GRU(x_t, h_{t-1})        score(j) = h_L . y_j

    Source: Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016; losses and tied
    vectors from Hidasi and Karatzoglou, Recurrent Neural Networks with Top-k Gains, CIKM 2018.

    Differs: whole prefixes with gradients through all steps, where the papers run sessions side by side and cut the
    gradient after one step; with `training.shuffle = "sessions"` the states of a session are computed once for all of
    its prefixes, as there. Items enter through vectors of size D, not one-hot. No output bias.

    The well-made form is the papers' best and what their authors' later code does: one item table, BPR-max or sampled
    cross-entropy with correction against popular negatives and the batch's own targets, Adagrad, dropout.
    """

    def __init__(self, config: GRU4RecConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        self.config = config
        self.gru = TreeGRU(config.dim, config.dim)
        if not config.tied:
            self.outputs = nn.Embedding(sizes.num_items + 1, config.dim, padding_idx=0)
        self.reset_parameters()

    def session_vectors(self, batch: SessionBatch) -> Tensor:
        x_UD, row_of_event = self.distinct_items(batch)
        tree = build_prefix_tree(row_of_event, batch.offsets)
        h_QD = self.gru(x_UD, tree.value, tree.parent, tree.level_sizes)
        return self.drop_session(h_QD[tree.alias[batch.last]])

    def output_table(self) -> Tensor:
        return self.items.weight if self.config.tied else self.outputs.weight

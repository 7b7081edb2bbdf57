"""GRU4REC: a GRU over the items of a session.

Dimension letters: B sessions, D embedding size, V catalogue + 1.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.session_graph import build_prefix_tree
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.models.base import ModelSizes
from mkmsr.models.entry import SAMPLED_LOSSES, Choice, ModelEntry, Range, one_cycle
from mkmsr.models.item_network import ITEM_NETWORK_SPACE, ITEM_NETWORK_TRAINING, ItemNetwork, ItemNetworkConfig


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


BPR_ENTRY = ModelEntry(
    config=GRU4RecConfig,
    model=GRU4Rec,
    summary="a GRU over items, BPR, as the paper compares it",
    source="Hidasi et al., ICLR 2016",
    preset={"tied": False},
    training={"loss.session": "bpr", "shuffle": "sessions", **one_cycle(20, 0.005)},
    space={**ITEM_NETWORK_SPACE, **SAMPLED_LOSSES},
)
CROSS_ENTROPY_ENTRY = ModelEntry(
    config=GRU4RecConfig,
    model=GRU4Rec,
    summary="a GRU over items, cross-entropy, as the paper compares it",
    source="Hidasi et al., ICLR 2016",
    preset={"tied": False},
    training=ITEM_NETWORK_TRAINING,
    space=ITEM_NETWORK_SPACE,
)
WELL_MADE_ENTRY = ModelEntry(
    config=WellMadeGRU4RecConfig,
    model=GRU4Rec,
    summary="a GRU over items, well made: tied vectors, BPR-max against a sample, Adagrad, whole sessions in a batch",
    source="Hidasi and Karatzoglou, CIKM 2018",
    preset={"tied": True},
    training={
        "loss.session": "bpr-max",
        "loss.negatives.number": 1024,
        "optimiser.name": "adagrad",
        "optimiser.learning_rate": 0.05,
        "optimiser.touched_rows": True,
        "batch_size": 256,
        "shuffle": "sessions",
    },
    space={
        **SAMPLED_LOSSES,
        "training.loss.session": Choice(("sampled-cross-entropy", "bpr-max")),
        "training.loss.score_penalty": Range(0.1, 10.0),
        "training.optimiser.learning_rate": Range(1e-2, 0.3),
        "training.batch_size": Choice((64, 128, 256)),
        "model.dropout": Choice((0.0, 0.25, 0.5)),
        "model.session_dropout": Choice((0.0, 0.25, 0.5)),
    },
)

"""CORE: a session is a weighted mean of its items' vectors, in the space in which it is compared with items.

Dimension letters: B sessions, P events, D embedding size, V catalogue + 1.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.fast.shared_table import table_rows
from mkmsr.layers.segments import segment_softmax, segment_sum
from mkmsr.models.base import ModelSizes
from mkmsr.models.entry import Choice, ModelEntry
from mkmsr.models.item_network import ITEM_NETWORK_SPACE, ITEM_NETWORK_TRAINING
from mkmsr.models.sasrec import SASRec, SASRecConfig


class COREConfig(SASRecConfig):
    """Settings of CORE."""

    scorer: Literal["dot", "cosine"] = "cosine"
    """"cosine" as in the paper."""
    scale: Annotated[float, Field(gt=0, le=1000)] = 14.3
    """Where the learnt scale starts; the paper fixes it at 1 / 0.07."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share dropped in the blocks, in training. Source: the authors' settings in RecBole."""
    heads: Annotated[int, Field(ge=1, le=64)] = 2
    """Attention heads. Source: likewise."""
    session_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of components dropped from item vectors before they are averaged, in training. Source: the paper."""
    item_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """The same for vectors of the items that are scored. Source: the paper."""


class CORE(SASRec):
    """CORE-trm.

        w_t = v' LN(blocks(x))_t        a = softmax over t <= L of w        s = sum over t of a_t item_t

    Weights come from a causal transformer, but only item vectors enter the sum, so that sessions and items live in one
    space; distances are cosines, and items are dropped out on both sides. After a single item nothing is nearer than
    that item, so it always comes first.

    Source: Hou et al., CORE: Simple and Effective Session-based Recommendation within Consistent Representation Space,
    SIGIR 2022.

    Differs: the blocks are those of `sasrec`, which normalise their input; the scale is learnt.
    """

    def __init__(self, config: COREConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        self.item_dropout = config.item_dropout
        self.weigh = nn.Linear(config.dim, 1, bias=False)
        self.reset_parameters()

    def session_vectors(self, batch: SessionBatch) -> Tensor:
        x_PD, shared = self.states(batch)
        weights_P = segment_softmax(self.weigh(self.norm(x_PD))[shared, 0], batch.rows, len(batch))
        items_PD = self.drop_session(table_rows(self.items, batch.items))
        return segment_sum(weights_P[:, None] * items_PD, batch.rows, len(batch))

    def output_table(self) -> Tensor:
        return F.dropout(self.items.weight, self.item_dropout, self.training)


ENTRY = ModelEntry(
    config=COREConfig,
    model=CORE,
    summary="a weighted mean of item vectors, compared by cosine",
    source="Hou et al., SIGIR 2022",
    training=ITEM_NETWORK_TRAINING,
    space={
        **ITEM_NETWORK_SPACE,
        "model.item_dropout": Choice((0.0, 0.2, 0.4)),
        "model.blocks": Choice((1, 2, 3)),
        "model.heads": Choice((1, 2, 4)),
    },
)

"""eSASRec: SASRec with gated blocks and a softmax over a sample of items.

Dimension letters: P events, D embedding size.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.models.entry import SAMPLED_LOSSES, Choice, ModelEntry, one_cycle
from mkmsr.models.item_network import ITEM_NETWORK_SPACE
from mkmsr.models.sasrec import CausalBlock, Places, SASRec, SASRecConfig


class ESASRecConfig(SASRecConfig):
    """Settings of eSASRec."""

    heads: Annotated[int, Field(ge=1, le=64)] = 2
    """Attention heads."""


class GatedBlock(CausalBlock):
    """A LiGR layer: what attention and the dense layers add is weighed by gates that see the block's input.

        x = x + sigmoid(G_1 x) * W_o attention(LN(x))
        x = x + sigmoid(G_2 x) * W_2 (silu(W_1 LN(x)) * W_3 LN(x))

    Source: Borisyuk et al., From Features to Transformers: Redefining Ranking for Scalable Impact, 2025; its dense
    layers are SwiGLU (Shazeer, GLU Variants Improve Transformer, 2020).
    """

    def __init__(self, dim: int, *, heads: int, dropout: float = 0.0):
        super().__init__(dim, heads=heads, dropout=dropout)
        self.attention_gate = nn.Linear(dim, dim)
        self.dense_gate = nn.Linear(dim, dim)
        self.widen_linearly = nn.Linear(dim, 4 * dim)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        attended = self.from_heads(self._attend(self.attention_norm(x), places))
        x = x + self.attention_gate(x).sigmoid() * self._drop(attended)
        normed = self.dense_norm(x)
        dense = self.narrow(F.silu(self.widen(normed)) * self.widen_linearly(normed))
        added: Tensor = self.dense_gate(x).sigmoid() * self._drop(dense)
        return x + added


class ESASRec(SASRec):
    """SASRec whose blocks are LiGR layers, trained by a softmax over the target and a uniform sample of items.

    Source: Tikhonovich et al., eSASRec: Enhancing Transformer-based Recommendations in a Modular Fashion, RecSys 2025.

    Differs: places count from the oldest event, so that prefixes share states; states are normalised at the end.
    """

    block = GatedBlock


ENTRY = ModelEntry(
    config=ESASRecConfig,
    model=ESASRec,
    summary="SASRec with gated blocks, softmax over a sample",
    source="Tikhonovich et al., RecSys 2025",
    training={
        "loss.session": "sampled-cross-entropy",
        "loss.negatives.number": 256,
        "loss.negatives.power": 0.0,
        "loss.negatives.in_batch": False,
        "shuffle": "sessions",
        **one_cycle(10, 0.003),
    },
    space={
        **ITEM_NETWORK_SPACE,
        **SAMPLED_LOSSES,
        "model.blocks": Choice((1, 2, 3)),
        "model.heads": Choice((1, 2, 4)),
    },
)

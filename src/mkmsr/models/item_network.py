"""What the item networks share: one table of item vectors on both sides of the score, and how the two sides meet.

Dimension letters: B sessions, D embedding size, U distinct items of the batch, V catalogue + 1.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.config import StrictModel
from mkmsr.data.batching import SessionBatch
from mkmsr.layers.fast.shared_table import table_rows, unit_rows
from mkmsr.models.base import FactorisedModel, ModelSizes
from mkmsr.models.entry import Choice, Range, SearchSpace, one_cycle


class ItemNetworkConfig(StrictModel):
    """Settings that every item network has."""

    dim: Annotated[int, Field(ge=1, le=4096)] = 100
    """d, the size of every vector. Source: the MKM-SR experiments."""
    scorer: Literal["dot", "cosine"] = "dot"
    """"dot" as in the papers; "cosine" normalises both sides and learns a scale (1 / temperature), as NISER does."""
    scale: Annotated[float, Field(gt=0, le=1000)] = 16.0
    """Where the cosine's learnt scale starts."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of components dropped from item vectors that enter the encoder, in training."""
    session_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of components dropped from session vectors, in training."""
    bias_start: Literal["zero", "uniform"] = "zero"
    """Where biases start: at zero, with which a network learns in fewer epochs at low learning rates, or drawn like the
    weights, which at high ones leaves some networks better on validation (docs/log)."""


class ItemNetwork(FactorisedModel):
    """A network that turns a prefix into a vector, `session_vectors`, and scores it against the item table.

    A subclass builds its layers after `super().__init__` and ends its constructor with `reset_parameters()`.

    Source of "cosine": Gupta et al., NISER: Normalized Item and Session Representations, 2019.
    """

    def __init__(self, config: ItemNetworkConfig, sizes: ModelSizes):
        super().__init__(sizes)
        self.network_config = config
        self.items = nn.Embedding(sizes.num_items + 1, config.dim, padding_idx=0)
        if config.scorer == "cosine":
            self.log_scale = nn.Parameter(torch.empty(()))

    def reset_parameters(self) -> None:
        """Draw every weight from U(-1/sqrt(D), 1/sqrt(D)); biases as `bias_start` says; padding rows are zero."""
        bound = 1 / math.sqrt(self.network_config.dim)
        for name, parameter in self.named_parameters():
            if name.endswith("bias") and self.network_config.bias_start == "zero":
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)
        if self.network_config.scorer == "cosine":
            nn.init.constant_(self.log_scale, math.log(self.network_config.scale))
        for module in self.modules():
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])

    def session_vectors(self, batch: SessionBatch) -> Tensor:
        """What the network makes of each prefix. Shape [B, D]."""
        raise NotImplementedError

    def output_table(self) -> Tensor:
        """Item vectors of the score's side, by default those that also enter the encoder. Shape [V, D]."""
        return self.items.weight

    def queries(self, batch: SessionBatch) -> Tensor:
        return self.scaled(self.session_vectors(batch))

    def catalogue(self) -> Tensor:
        return self.matched(self.output_table())

    def item_vectors(self, items: Tensor) -> Tensor:
        return self.matched(F.embedding(items, self.output_table(), sparse=self.items.sparse))

    def distinct_items(self, batch: SessionBatch) -> tuple[Tensor, Tensor]:
        """Vectors of the batch's distinct items [U, D], after dropout, and the row of each event in them [P]."""
        distinct, row_of_event = torch.unique(batch.items, return_inverse=True)
        return self.drop_items(table_rows(self.items, distinct)), row_of_event

    def drop_items(self, vectors: Tensor) -> Tensor:
        """Dropout of vectors that enter the encoder, in training."""
        return F.dropout(vectors, self.network_config.dropout, self.training)

    def drop_session(self, vectors: Tensor) -> Tensor:
        """Dropout of session vectors, in training; a network calls it where its paper puts it."""
        return F.dropout(vectors, self.network_config.session_dropout, self.training)

    def scaled(self, sessions: Tensor) -> Tensor:
        """Session vectors as the score takes them: with "cosine", of the learnt length."""
        return unit_rows(sessions) * self.log_scale.exp() if self.network_config.scorer == "cosine" else sessions

    def matched(self, vectors: Tensor) -> Tensor:
        """Item vectors as the score takes them: with "cosine", of length 1."""
        return unit_rows(vectors) if self.network_config.scorer == "cosine" else vectors


ITEM_NETWORK_SPACE: SearchSpace = {
    "training.optimiser.learning_rate": Range(4e-3, 1.6e-2),
    "model.scorer": Choice(("dot", "cosine")),
    "model.scale": Choice((12.0, 16.0, 20.0)),
    "model.dropout": Choice((0.0, 0.25, 0.5)),
    "model.session_dropout": Choice((0.0, 0.25, 0.5)),
    "model.bias_start": Choice(("zero", "uniform")),
}
"""What `mkmsr tune` tries for every item network."""

ITEM_NETWORK_TRAINING = {"shuffle": "sessions", **one_cycle(8, 0.005)}
"""Whole sessions in a batch, whose states are computed once for all prefixes; few epochs, as many runs are needed."""

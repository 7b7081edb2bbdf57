"""FPMC: factorised personalised Markov chains, for sessions without users.

Dimension letters: B sessions, D embedding size, V catalogue + 1.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from mkmsr.config import StrictModel
from mkmsr.data.batching import SessionBatch
from mkmsr.layers.fast.shared_table import table_rows
from mkmsr.layers.segments import segment_mean
from mkmsr.models.base import FactorisedModel, ModelSizes
from mkmsr.models.entry import SAMPLED_LOSSES, Choice, ModelEntry, Range, one_cycle


class FPMCConfig(StrictModel):
    """Settings of FPMC."""

    dim: Annotated[int, Field(ge=1, le=4096)] = 100
    """Number of factors. Source: the MKM-SR experiments."""
    basket: Literal["last", "prefix"] = "last"
    """What the transition starts from: the newest event, or all events of the prefix."""
    spread: Annotated[float, Field(gt=0)] = 0.01
    """Standard deviation of the factors at the start. Chosen on the validation split of Demo: factors that no example
    moved score with noise of this size, and 0.1 costs 2 to 3 points of Hit@20 (docs/log)."""


class FPMC(FactorisedModel):
    """FPMC: how likely item j follows the items of the basket before, as a factorised transition matrix.

        score(j) = 1 / |basket| * sum_{l in basket} v_j^{IL} . v_l^{LI}

    Source: Rendle et al., Factorizing Personalized Markov Chains for Next-basket Recommendation, WWW 2010.

    Differs: sessions have no known user, so the term v_u^{UI} . v_j^{IU}, the same for all sessions, is left out; Adam
    instead of plain stochastic steps. The paper's loss is S-BPR: `training.loss.session = "bpr"`, this name's default.
    """

    def __init__(self, config: FPMCConfig, sizes: ModelSizes):
        super().__init__(sizes)
        self.config = config
        self.next_items = nn.Embedding(sizes.num_items + 1, config.dim, padding_idx=0)
        self.last_items = nn.Embedding(sizes.num_items + 1, config.dim, padding_idx=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every factor from N(0, spread^2); padding rows are zero."""
        for table in (self.next_items, self.last_items):
            nn.init.normal_(table.weight, std=self.config.spread)
            nn.init.zeros_(table.weight[0])

    def queries(self, batch: SessionBatch) -> Tensor:
        if self.config.basket == "last":
            return table_rows(self.last_items, batch.items[batch.last])
        factors_PD = table_rows(self.last_items, batch.items)
        return segment_mean(factors_PD, batch.rows, batch.lengths)

    def catalogue(self) -> Tensor:
        return self.next_items.weight

    def item_vectors(self, items: Tensor) -> Tensor:
        return table_rows(self.next_items, items)


ENTRY = ModelEntry(
    config=FPMCConfig,
    model=FPMC,
    summary="factorised Markov chain from the newest item, BPR",
    source="Rendle et al., WWW 2010",
    training={"loss.session": "bpr", **one_cycle(20, 0.01)},
    space={
        **SAMPLED_LOSSES,
        "training.loss.session": Choice(("bpr", "sampled-cross-entropy", "cross-entropy")),
        "training.optimiser.learning_rate": Range(2e-3, 5e-2),
        "training.optimiser.weight_decay": Choice((0.0, 1e-4, 1e-2)),
        "model.basket": Choice(("last", "prefix")),
        "model.spread": Choice((0.01, 0.03, 0.1)),
    },
)

"""What every model is: a torch module that scores a batch of prefixes against the whole catalogue.

Neighbours, rules and popularity are modules too: what they read off the training log stands in buffers, so that one
format saves every model and one protocol evaluates them. Dimension letters: B sessions, D embedding size, V catalogue
+ 1 (column 0 is padding), O operations + 1, R relations, T triples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable, SessionTable
from mkmsr.layers.fast.catalogue_product import CatalogueProduct
from mkmsr.layers.fast.shortlist import Shortlist

Scorer = Callable[[SessionBatch], Tensor]


class Shortlisted(NamedTuple):
    """Scores of some items.

    Args:
        scores: Higher is likelier; -inf in column 0. Shape [B, C].
        items: The items, rising, the first of them 0. Shape [C].
        proposed: Those that an index proposed for each prefix. Shape [B, M].
    """

    scores: Tensor
    items: Tensor
    proposed: Tensor


ShortScorer = Callable[[SessionBatch], Shortlisted]


@dataclass(frozen=True)
class ModelSizes:
    """How many of each thing a model has vectors for, padding not counted."""

    num_items: int
    num_operations: int
    num_attributes: int = 0
    num_relations: int = 0


@dataclass(frozen=True)
class TrainingData:
    """What a model may learn from, and nothing else: no validation, no test.

    `expects_new_items`: whether items that training does not see may come next, or the data leave them out.
    """

    sessions: SessionTable
    examples: ExampleTable
    knowledge: KnowledgeGraph
    expects_new_items: bool = True


@dataclass(frozen=True)
class Negatives:
    """Items shared by all rows of a batch, with repetitions, which a sampled loss sets against the targets. Shape [M].

    `log_counts` are the logarithms of each one's expected number of occurrences among them.
    """

    items: Tensor
    log_counts: Tensor

    def to(self, device: torch.device | str) -> Negatives:
        """The same items on another device."""
        return Negatives(self.items.to(device), self.log_counts.to(device))


class SessionModel(nn.Module):
    """Base of all models.

    A subclass sets every parameter in `reset_parameters()`, which the constructor calls last, and re-zeroes padding
    rows there.
    """

    def __init__(self, sizes: ModelSizes):
        super().__init__()
        self.sizes = sizes

    def score(self, batch: SessionBatch) -> Tensor:
        """Scores of the whole catalogue for each prefix, higher is likelier; column 0 is -inf. Shape [B, V]."""
        raise NotImplementedError

    def scorer(self) -> Scorer:
        """`score` with everything that does not depend on the batch computed once, for use without training."""
        return self.score

    def compiled_scorer(self) -> Scorer:
        """`scorer` on a processor with loops that Numba compiles, where the model has some and Numba is installed.

        A batch of a few sessions takes a fraction of the time; the first one may wait for the compiler.
        """
        return self.scorer()

    def observe(self, training: TrainingData) -> None:
        """Take in what the model reads off the training log directly (counts, neighbours, item attributes)."""

    @property
    def is_trainable(self) -> bool:
        """Whether there is anything to train by gradients."""
        return any(True for _ in self.parameters())


class FactorisedModel(SessionModel):
    """A model whose score is the inner product of a query vector and an item vector.

    Training uses this form to take the exact softmax loss without a second [B, V] array.
    """

    @property
    def is_factorised(self) -> bool:
        """Whether that is so with these settings."""
        return True

    def queries(self, batch: SessionBatch) -> Tensor:
        """One vector a prefix. Shape [B, D]."""
        raise NotImplementedError

    def catalogue(self) -> Tensor:
        """One vector an item; row 0 is padding. Shape [V, D]."""
        raise NotImplementedError

    def both_sides(self, batch: SessionBatch) -> tuple[Tensor, Tensor]:
        """`queries` and `catalogue`, for a loss over the whole catalogue whose gradient by it is a new array.

        A model whose encoder takes rows of the table that it also scores can let the two gradients meet in one array,
        see `mkmsr.layers.fast.shared_table.rows_and_table`.
        """
        return self.queries(batch), self.catalogue()

    def item_vectors(self, items: Tensor) -> Tensor:
        """The rows of `catalogue` of some items, for losses that look at few of them. Shape [m, D]."""
        return self.catalogue()[items]

    def score(self, batch: SessionBatch) -> Tensor:
        scores_BV = self.queries(batch) @ self.catalogue().T
        return mask_padding(scores_BV)

    def scorer(self) -> Scorer:
        return product_scorer(self.queries, self.catalogue())

    def shortlist_vectors(self) -> Tensor:
        return self.catalogue()

    def short_scorer(self, shortlist: Shortlist) -> ShortScorer:
        def score(batch: SessionBatch) -> Shortlisted:
            queries_BD = self.queries(batch)
            items_C, proposed_BM = shortlist.items(queries_BD, batch.items)
            scores_BC = shortlist.products(queries_BD, items_C)
            scores_BC[:, 0] = float("-inf")
            return Shortlisted(scores_BC, items_C, proposed_BM)

        return score


def product_scorer(queries: Callable[[SessionBatch], Tensor], catalogue_VD: Tensor) -> Scorer:
    """Return a scorer of inner products of a batch's queries, [B, D], with the vectors of all items."""
    product = CatalogueProduct(catalogue_VD)

    def score(batch: SessionBatch) -> Tensor:
        scores_BV = product(queries(batch))
        scores_BV[:, 0] = float("-inf")  # In place: a copy of [B, V] scores takes half as long as the product.
        return scores_BV

    return score


def mask_padding(scores_BV: Tensor) -> Tensor:
    """The same scores with column 0, which is no item, at -inf."""
    return scores_BV.index_fill(1, scores_BV.new_zeros(1).long(), float("-inf"))

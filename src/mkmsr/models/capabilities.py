"""What some models can do beyond scoring, one protocol each, asked for by `isinstance` or by the functions below.

Where a model's settings or data decide, the protocol has a property that says so, and the function asks for both.
Dimension letters: B sessions, T triples, V catalogue + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard, runtime_checkable

from torch import Tensor

from mkmsr.data.batching import SessionBatch, TripleBatch
from mkmsr.data.sessions import ExampleTable
from mkmsr.layers.fast.shortlist import Shortlist
from mkmsr.models.base import FactorisedModel, Negatives, SessionModel, ShortScorer
from mkmsr.models.explanation import Names, ScoreParts


@runtime_checkable
class Likelihood(Protocol):
    """A model that is no softmax over its scores, such as a mixture, and gives its own likelihood for training."""

    def log_likelihood(self, batch: SessionBatch, *, block: int = 0) -> Tensor:
        """Return the log probability of each target, [B]; with `block`, the catalogue so many items at a time."""

    def sampled_log_likelihood(self, batch: SessionBatch, negatives: Negatives) -> Tensor:
        """Return the same, estimated from the targets and a sample of the catalogue. Shape [B]."""


@runtime_checkable
class KnowledgeTask(Protocol):
    """A model that learns triples about items as a second task, see `has_knowledge_task`."""

    @property
    def has_knowledge_task(self) -> bool:
        """Whether settings and data give it this task."""

    def triple_distances(self, triples: TripleBatch) -> Tensor:
        """Return how implausible each triple is. Shape [T]."""


@runtime_checkable
class AnswersWanted(Protocol):
    """A model that can be asked for a next event of a certain operation, see `answers_wanted`."""

    @property
    def answers_wanted(self) -> bool:
        """Whether scores depend on `SessionBatch.wanted`."""


@runtime_checkable
class GrowsCatalogue(Protocol):
    """A model that scores items that training did not see, by their attributes, see `places_new_items`."""

    @property
    def places_new_items(self) -> bool:
        """Whether it has attributes to place them by."""

    def append_items(self, count: int, triples: Tensor) -> None:
        """Place items behind the catalogue by what is known about them; one without a triple comes last in every list.

        Args:
            count: How many; they get the indexes from V on.
            triples: Item, relation and attribute (1..A) indexes. Shape [T, 3].
        """


@runtime_checkable
class AsksNeighbours(Protocol):
    """A model with neighbours that rank at a fraction of its time, see `asks_neighbours`."""

    @property
    def asks_neighbours(self) -> bool:
        """Whether it has them."""

    def neighbour_shares(self, batch: SessionBatch) -> Tensor:
        """Return each item's share of the neighbours' votes, 0 where it has none. Shape [B, V]."""


@runtime_checkable
class MakesShortlists(Protocol):
    """A model whose scores are nearly inner products, so that an index finds the best, see `makes_shortlists`."""

    def shortlist_vectors(self) -> Tensor:
        """Return a vector an item, which an index is made of; row 0 is no item. Shape [V, D]."""

    def short_scorer(self, shortlist: Shortlist) -> ShortScorer:
        """Return what scores items of a shortlist over these vectors, for use without training."""


@runtime_checkable
class Explains(Protocol):
    """A model that can take its scores apart."""

    def explain(self, batch: SessionBatch, items: Sequence[int], names: Names) -> list[ScoreParts]:
        """Return why some items got their scores, for a batch of one session; `names` says what indexes are called."""


@runtime_checkable
class TakesOver(Protocol):
    """A model that does something of its own when it goes on from an earlier one."""

    def take_over(self, earlier: SessionModel, items: Tensor) -> None:
        """Take note that weights come from `earlier`; `items` is each item's row there, 0 where it is new. [V]."""


@runtime_checkable
class FittedForward(Protocol):
    """A model with a few weights that stay as they are in training, and are fitted to newer sessions afterwards."""

    def calibrate(self, examples: ExampleTable) -> None:
        """Fit these weights to sessions newer than all that it was trained on."""

    def calibrate_like(self, other: SessionModel) -> None:
        """Take these weights from a model of the same settings that was calibrated."""


@runtime_checkable
class ChecksBuffers(Protocol):
    """A part of a model whose buffers say where others are read, so that those of a file are not to be trusted."""

    def check_buffers(self) -> None:
        """Make sure that they fit each other; a `DataError` says what does not."""


def is_factorised(model: object) -> TypeGuard[FactorisedModel]:
    """Whether the model's scores are inner products of `queries` and `catalogue`."""
    return isinstance(model, FactorisedModel) and model.is_factorised


def has_knowledge_task(model: object) -> TypeGuard[KnowledgeTask]:
    """Whether the model learns triples, as its settings and data have it."""
    return isinstance(model, KnowledgeTask) and model.has_knowledge_task


def answers_wanted(model: object) -> bool:
    """Whether the model can be asked for a next event of a certain operation."""
    return isinstance(model, AnswersWanted) and model.answers_wanted


def asks_neighbours(model: object) -> TypeGuard[AsksNeighbours]:
    """Whether `neighbour_shares` can be called."""
    return isinstance(model, AsksNeighbours) and model.asks_neighbours


def makes_shortlists(model: object) -> TypeGuard[MakesShortlists]:
    """Whether `short_scorer` can be called."""
    return isinstance(model, MakesShortlists) and getattr(model, "is_factorised", True)


def places_new_items(model: object) -> bool:
    """Whether `append_items` can be called."""
    return isinstance(model, GrowsCatalogue) and model.places_new_items

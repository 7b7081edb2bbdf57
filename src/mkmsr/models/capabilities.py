"""What some models can do beyond scoring, one protocol each, asked for by `isinstance` or by the functions below.

Where a model's settings or data decide, the protocol has a property that says so, and the function asks for both. The
parts of a score, which `Explains` gives, stand here too.
Dimension letters: B sessions, T triples, V catalogue + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard, runtime_checkable

from torch import Tensor

from mkmsr.data.batching import SessionBatch, TripleBatch
from mkmsr.data.sessions import ExampleTable
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.layers.fast.shortlist import Shortlist
from mkmsr.models.base import FactorisedModel, Negatives, SessionModel, ShortScorer


@dataclass(frozen=True)
class Names:
    """The vocabularies that name a model's indexes; an attribute's id is `relation=value`."""

    items: Vocabulary
    operations: Vocabulary
    attributes: Vocabulary


@dataclass(frozen=True)
class EventPart:
    """What an event of the session does for the item.

    `copied` is its part of the probability, if it is an event of the recommended item, else 0; attention its weight in
    what the encoder makes of the session, not normalised; the effect log p(j | s) - log p(j | s without this event),
    None where it is the only event.
    """

    item: str
    operation: str
    copied: float
    attention: float
    effect: float | None


@dataclass(frozen=True)
class AttributePart:
    """What an attribute of the item adds to its explore score.

    That is through its vector, and because items of the session have it too: these items, newest first.
    """

    relation: str
    value: str
    by_vector: float
    by_match: float
    shared_with: tuple[str, ...]


@dataclass(frozen=True)
class NeighbourPart:
    """A training session that voted for the item, items that both sessions have, its part of the probability.

    Its number is that among the training sessions that the model keeps, 0 for the newest.
    """

    session: int
    shared_items: tuple[str, ...]
    probability: float


@dataclass(frozen=True)
class ScoreParts:
    """Why an item got its score, as parts of a mixture that sum to it.

    Args:
        item: The item.
        score: log p(j | s).
        explore: Part of p(j | s): explore + copy + neighbours + earlier = exp(score).
        copy: Part of it: the sum of `copied` over `events`.
        neighbours: Part of it: the sum of `probability` over all voting sessions.
        earlier: Part of it: because the visitor touched the item in an earlier session.
        explore_score: The item's score within the explore component: own_vector + popularity + evidence + both numbers
            of each of `attributes`.
        own_vector: What the item's own vector adds to it; 0 for an item that training never saw.
        popularity: What its training events add, or what it has as a new item.
        evidence: What it adds that similar sessions have the item beside the session's own, or that the session has it.
        events: The session, oldest event first.
        attributes: The item's attributes, the most helpful first.
        voters: How many training sessions voted for the item.
        sessions: The strongest of them, strongest first.
    """

    item: str
    score: float
    explore: float
    copy: float
    neighbours: float
    earlier: float
    explore_score: float
    own_vector: float
    popularity: float
    evidence: float
    events: tuple[EventPart, ...]
    attributes: tuple[AttributePart, ...]
    voters: int
    sessions: tuple[NeighbourPart, ...]


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

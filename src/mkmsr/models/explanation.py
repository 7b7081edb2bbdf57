"""What a score is made of: the parts that a model gives for the reasons of a recommendation."""

from __future__ import annotations

from dataclasses import dataclass

from mkmsr.data.vocabulary import Vocabulary


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

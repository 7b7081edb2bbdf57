"""What an explanation of a recommendation is made of, and its sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["AttributePart", "EventPart", "Explanation", "NeighbourPart"]


@dataclass(frozen=True)
class EventPart:
    """What an event of the session does for the item.

    Args:
        item: Its item.
        operation: Its operation.
        copied: Its part of the probability, if it is an event of the recommended item, else 0.
        attention: Weight of the event in what the encoder makes of the session, not normalised.
        effect: log p(j | s) - log p(j | s without this event); None where it is the only event.
    """

    item: str
    operation: str
    copied: float
    attention: float
    effect: float | None


@dataclass(frozen=True)
class AttributePart:
    """What an attribute of the item adds to its explore score.

    Args:
        relation: Name of the relation.
        value: The value.
        by_vector: Through the attribute's vector.
        by_match: Because items of the session have it too.
        shared_with: These items, newest first.
    """

    relation: str
    value: str
    by_vector: float
    by_match: float
    shared_with: tuple[str, ...]


@dataclass(frozen=True)
class NeighbourPart:
    """A training session that voted for the item.

    Args:
        session: Its row in the table of training sessions.
        shared_items: Items that it has in common with the session.
        alike_items: Its other items that have all their attributes in common with one of the session, where such
            sessions count as neighbours.
        probability: Its part of the probability.
    """

    session: int
    shared_items: tuple[str, ...]
    alike_items: tuple[str, ...]
    probability: float


@dataclass(frozen=True)
class Explanation:
    """Why an item got its score.

    Args:
        item: The item.
        score: log p(j | s).
        explore: Part of p(j | s): explore + copy + neighbours + earlier = exp(score).
        copy: Part of it: the sum of `copied` over `events`.
        neighbours: Part of it: the sum of `probability` over all voting sessions, if any voted in the first round.
        earlier: Part of it: because the visitor touched the item in an earlier session.
        lift: By what each of the first three of these parts is multiplied; above 1 for an item that similar
            sessions hold more than others. They hold it already.
        explore_score: The item's score within the explore component, a mean over masks: own_vector + popularity +
            evidence + both numbers of each of `attributes`.
        own_vector: What the item's own vector adds to it; 0 for an item that training never saw.
        popularity: What its training events add, or what it has as a new item.
        evidence: What it adds that similar sessions have the item beside the session's own.
        events: The session, oldest event first.
        attributes: The item's attributes, the most helpful first.
        voters: How many training sessions voted for the item; none where only the second round did.
        sessions: The strongest of them, strongest first.
        sentence: The main reason, in words.
    """

    item: str
    score: float
    explore: float
    copy: float
    neighbours: float
    earlier: float
    lift: float
    explore_score: float
    own_vector: float
    popularity: float
    evidence: float
    events: tuple[EventPart, ...]
    attributes: tuple[AttributePart, ...]
    voters: int
    sessions: tuple[NeighbourPart, ...]
    sentence: str = ""

    def document(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)

    def worded(self) -> Explanation:
        """The same with its sentence."""
        return replace(self, sentence=_sentence(self))


def _sentence(found: Explanation) -> str:
    parts = {name: getattr(found, name) for name in _REASONS if name != "earlier" or found.earlier > 0}
    shares = {name: part / max(sum(parts.values()), 1e-30) for name, part in parts.items()}
    main = max(shares, key=lambda name: shares[name])
    return (
        f"{found.item}: {_REASONS[main](found)} ({', '.join(f'{name} {share:.0%}' for name, share in shares.items())})"
    )


def _copy_reason(found: Explanation) -> str:
    event = max(found.events, key=lambda part: part.copied)
    ago = len(found.events) - 1 - found.events.index(event)
    when = "the last event" if ago == 0 else f"{ago} event{'s' * (ago > 1)} before the last"
    return f"it is in the session ({event.operation}, {when})"


def _neighbour_reason(found: Explanation) -> str:
    if not found.sessions:
        return "sessions with the items of similar sessions hold it"
    most_similar = found.sessions[0]
    items = [each for each in most_similar.shared_items if each != found.item]
    alike = [each for each in most_similar.alike_items if each != found.item]
    items = items or [f"{each}, which is of the same kind" for each in alike[:1]]
    sessions = "1 similar session holds it" if found.voters == 1 else f"{found.voters} similar sessions hold it"
    return f"{sessions}, the most similar one together with {' and '.join(items[:2])}" if items else sessions


def _explore_reason(found: Explanation) -> str:
    helpful = [part for part in found.attributes if part.by_vector + part.by_match > 0]
    shared = [part for part in helpful if part.shared_with]
    if shared:
        item = shared[0].shared_with[0]
        named = [f"{part.relation} {part.value}" for part in shared if item in part.shared_with]
        return f"it has {' and '.join(named[:2])} in common with {item}"
    by_attributes = sum(part.by_vector + part.by_match for part in helpful)
    if helpful and by_attributes >= found.own_vector:
        return f"{helpful[0].relation} {helpful[0].value} goes with the session"
    return "it goes with the items of the session" if found.own_vector > 0 else "it is popular"


_REASONS: dict[str, Callable[[Explanation], str]] = {
    "explore": _explore_reason,
    "copy": _copy_reason,
    "neighbours": _neighbour_reason,
    "earlier": lambda found: "the visitor looked at it in an earlier session",
}

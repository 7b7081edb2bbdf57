"""Why an item is recommended: its score taken apart, exactly, for people and for programs.

The score of COMPASS is the log of a mixture, p(j | s) = explore + copy + neighbours + earlier, the first three times
what similar sessions lift the item by (`compass_lift`). Each is taken apart:

- copy: the probability of each event to be copied, summed over the events of the item;
- neighbours: the votes of the training sessions that hold the item, in proportion to their raw votes;
- earlier: the probability that the visitor goes back to an item of an earlier session;
- explore: the mean over a few masks of the session's vector of a softmax over the catalogue of a sum. The sum's mean is
  linear in the parts of the item: its own vector, each of its attributes (by vector, and by being shared with items of
  the session), popularity, evidence of similar sessions.

Two more numbers say what an event means for the item: the readout's attention weight (how much the event enters the
session's vector, whatever the item), and its effect: how much log p(j | s) falls when the event is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mkmsr.bundle import ModelBundle
from mkmsr.data.batching import SessionBatch
from mkmsr.errors import ConfigError
from mkmsr.models.compass import Compass
from mkmsr.models.compass_explore import explore_scores
from mkmsr.models.compass_mixture import Mixture

__all__ = ["AttributePart", "EventPart", "Explanation", "NeighbourPart", "explain"]

MOST_SESSIONS = 10
"""Neighbour sessions that an explanation names."""


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


def explain(bundle: ModelBundle, batch: SessionBatch, items: Sequence[int]) -> list[Explanation]:
    """Explanations of some items for a batch of one session.

    Raises:
        ConfigError: The model has no explanations.
    """
    if not isinstance(bundle.model, Compass):
        raise ConfigError(f"{bundle.name!r} cannot be explained; compass can", key="model")
    with torch.inference_mode():
        view = _View(bundle, bundle.model, batch)
        return [view.explanation(item) for item in items]


class _View:
    """What the model computes on the way to the scores of one session."""

    def __init__(self, bundle: ModelBundle, model: Compass, batch: SessionBatch):
        self.bundle, self.model, self.batch = bundle, model, batch
        self.vectors_VD = model.vectors()
        self.mixture: Mixture = model.mixture(batch, self.vectors_VD)
        self.gates = self.mixture.log_gates[0].exp().tolist()
        self.query_D = torch.stack(self.mixture.queries).mean(0)[0, :-1]
        self.log_explore_V = explore_scores(model.vectors, self.mixture, model.candidates(self.vectors_VD).T)[0]
        score = model.scorer()
        self.log_p_V = score(batch)[0]
        self.attention = model.attention(batch, self.vectors_VD).tolist()
        match_AB = self.mixture.match_weights
        self.match_A = None if match_AB is None else match_AB[:, 0]
        shorter = _without_each_event(batch)
        self.shorter_LV = None if shorter is None else score(shorter)

    def explanation(self, item: int) -> Explanation:
        """All parts of one item's score."""
        mixture, gates, score = self.mixture, self.gates, float(self.log_p_V[item])
        explore = float(self.log_explore_V[item].exp()) * gates[0]
        copied_P = torch.where(self.batch.items == item, mixture.copies.weights, 0.0) * gates[1]
        voted = float(mixture.votes.weights[mixture.votes.items == item].sum()) * gates[2]
        earlier = self._earlier(item)
        before = explore + float(copied_P.sum()) + voted
        lift = 1.0 if mixture.log_lift is None else max(math.exp(score) - earlier, 0.0) / max(before, 1e-30)
        copied_P *= lift
        attributes = self._attributes(item)
        own = self._own_vector(item)
        popularity = float(self.model.prior()[item])
        evidence = float(mixture.evidence.values[mixture.evidence.columns == item].sum())
        voters, sessions = self._sessions(item, voted * lift)
        found = Explanation(
            item=self.bundle.items.id(item),
            score=score,
            explore=explore * lift,
            copy=float(copied_P.sum()),
            neighbours=voted * lift,
            earlier=earlier,
            lift=lift,
            explore_score=own + popularity + evidence + sum(each.by_vector + each.by_match for each in attributes),
            own_vector=own,
            popularity=popularity,
            evidence=evidence,
            events=self._events(item, copied_P),
            attributes=attributes,
            voters=voters,
            sessions=sessions,
        )
        return Explanation(**{**found.__dict__, "sentence": _sentence(found)})

    def _earlier(self, item: int) -> float:
        earlier = self.mixture.earlier
        return 0.0 if earlier is None else float(earlier.weights[earlier.items == item].sum()) * self.gates[3]

    def _own_vector(self, item: int) -> float:
        ids = self.model.vectors.ids
        if ids is None:
            return 0.0
        own_D = ids.weight[item] * self.model.vectors.known(self.model.vectors.seen[item : item + 1])[0]
        return float(self.query_D @ own_D / self._length(item))

    def _length(self, item: int) -> Tensor:
        """The length by which the item's vector is divided, as `normalize` does."""
        length: Tensor = torch.linalg.vector_norm(self.vectors_VD[item]).clamp_min(1e-12)
        return length

    def _events(self, item: int, copied_P: Tensor) -> tuple[EventPart, ...]:
        parts = []
        for event, (index, operation) in enumerate(
            zip(self.batch.items.tolist(), self.batch.operations.tolist(), strict=True)
        ):
            effect = None if self.shorter_LV is None else float(self.log_p_V[item] - self.shorter_LV[event, item])
            parts.append(
                EventPart(
                    self.bundle.items.id(index),
                    self.bundle.operations.id(operation),
                    float(copied_P[event]),
                    self.attention[event],
                    effect,
                )
            )
        return tuple(parts)

    def _attributes(self, item: int) -> tuple[AttributePart, ...]:
        vectors, knowledge = self.model.vectors, self.bundle.knowledge
        if vectors.attributes is None:
            return ()
        _, attributes, shares = vectors.attributes_of(torch.tensor([item], device=self.vectors_VD.device))
        weights = vectors.relation_weight[vectors.relation_of[attributes]] * shares / self._length(item)
        by_vector = (vectors.attributes(attributes) @ self.query_D) * weights
        by_match = torch.zeros_like(by_vector) if self.match_A is None else self.match_A[attributes] * shares
        owner, of_session, _ = vectors.attributes_of(self.batch.items)
        parts = []
        for attribute, vector, match in zip(attributes, by_vector.tolist(), by_match.tolist(), strict=True):
            relation, _, value = knowledge.attributes.id(int(attribute)).partition("=")
            sharing = self.batch.items[owner[of_session == attribute]].flip(0).tolist()
            names = tuple(self.bundle.items.id(each) for each in dict.fromkeys(sharing) if each != item)
            parts.append(AttributePart(relation, value, vector, match, names))
        return tuple(sorted(parts, key=lambda part: -(part.by_vector + part.by_match)))

    def _sessions(self, item: int, probability: float) -> tuple[int, tuple[NeighbourPart, ...]]:
        """Who voted for an item; the component's probability is divided in proportion to the raw votes."""
        if not self.model.config.neighbours or probability == 0:
            return 0, ()
        index, settings = self.model.similar.index, self.model.config.retrieval.settings()
        neighbours = index.neighbours(self.batch, settings)
        votes, source = index.raw_votes(neighbours, self.batch, settings)
        mine = votes.items == item
        weights, voters = votes.weights[mine], neighbours.places[source[mine]]
        order = weights.argsort(descending=True, stable=True)[:MOST_SESSIONS]
        prefix = set(self.batch.items.tolist())
        alike = set() if index.kinds is None else set(index.kinds.alike(self.batch.items).tolist()) - prefix
        parts = []
        for place, weight in zip(voters[order].tolist(), (weights / weights.sum())[order].tolist(), strict=True):
            own = index.items[index.session_offsets[place] : index.session_offsets[place + 1]].tolist()
            shared, of_a_kind = (
                tuple(map(self.bundle.items.id, filter(each.__contains__, own))) for each in (prefix, alike)
            )
            parts.append(NeighbourPart(int(index.table_rows[place]), shared, of_a_kind, weight * probability))
        return len(weights), tuple(parts)


def _without_each_event(batch: SessionBatch) -> SessionBatch | None:
    """The session once for each event, without it; None for a session of one event."""
    items, operations = batch.items.tolist(), batch.operations.tolist()
    if len(items) < 2:
        return None
    kept = [[place for place in range(len(items)) if place != left_out] for left_out in range(len(items))]
    sequences = [([items[place] for place in row], [operations[place] for place in row]) for row in kept]
    shorter = SessionBatch.from_sequences(sequences).to(batch.items.device)
    return replace(
        shorter,
        wanted=None if batch.wanted is None else batch.wanted.expand(len(shorter)),
        earlier=None if batch.earlier is None else batch.earlier.repeated(len(shorter)),
    )


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

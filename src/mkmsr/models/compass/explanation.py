"""Why COMPASS gives an item its score: the score taken apart, exactly.

The score is the log of a mixture, p(j | s) = explore + copy + neighbours + earlier. Each is taken apart:

- copy: the probability of each event to be copied, summed over the events of the item;
- neighbours: the votes of the training sessions that hold the item, in proportion to their raw votes;
- earlier: the probability that the visitor goes back to an item of an earlier session;
- explore: a softmax over the catalogue of a sum, which is linear in the parts of the item: its own vector, each of its
  attributes (by vector, and by being shared with items of the session), popularity, evidence of similar sessions.

Two more numbers say what an event means for the item: the readout's attention weight (how much the event enters the
session's vector, whatever the item), and its effect: how much log p(j | s) falls when the event is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.models.base import Scorer
from mkmsr.models.capabilities import AttributePart, EventPart, Names, NeighbourPart, ScoreParts
from mkmsr.models.compass.explore import Encoded, Explore
from mkmsr.models.compass.item_vectors import ComposedVectors
from mkmsr.models.compass.similar_sessions import SimilarSessions
from mkmsr.models.neighbours.voting import Votes

MOST_SESSIONS = 10
"""Neighbour sessions that an explanation names."""


class ScoredSession:
    """What COMPASS computes on the way to the scores of one session.

    What each other component than explore names, as probabilities, is `listed` by its name; gates weigh explore and
    these; attention says how much the readout weighs each event. Where similar sessions do not count, `similar` is
    None.
    """

    def __init__(
        self,
        names: Names,
        explore: Explore,
        vectors: ComposedVectors,
        session: Encoded,
        *,
        listed: Mapping[str, Votes],
        gates_C: Tensor,
        attention_P: Tensor,
        score: Scorer,
        similar: SimilarSessions | None,
    ):
        self.batch, self.names, self.vectors = session.batch, names, vectors
        self.similar, self.attention_P = similar, attention_P
        self.vectors_VD, self.priors_V = vectors(), explore.priors(vectors)
        (query_BD, self.extra), match_AB = (
            explore.weighed(session),
            explore.match_weights(session, vectors),
        )
        self.query_D, self.match_A = query_BD[0, :-1], None if match_AB is None else match_AB[:, 0]
        all_items = explore.all_items(vectors, self.vectors_VD)
        self.explore_V = explore.log_scores(session, vectors, all_items, gates_C[:1].log())[0].exp()
        weighed = zip(listed.items(), gates_C[1:], strict=True)
        self.listed = {name: replace(each, weights=each.weights * gate) for (name, each), gate in weighed}
        self.log_p_V = score(session.batch)[0]
        shorter = _without_each_event(session.batch)
        self.shorter_LV = None if shorter is None else score(shorter)

    def score_parts(self, item: int) -> ScoreParts:
        """Return all parts of one item's score."""
        copied_P = torch.zeros_like(self.attention_P)
        if "copying" in self.listed:
            copied_P = torch.where(self.batch.items == item, self.listed["copying"].weights, 0.0)
        attributes, own, popularity = self._attributes(item), self._own_vector(item), float(self.priors_V[item])
        evidence = float(self.extra.values[self.extra.columns == item].sum())
        voted = self._listed("similar", item)
        voters, sessions = self._sessions(item, voted)
        return ScoreParts(
            item=self.names.items.id(item),
            score=float(self.log_p_V[item]),
            explore=float(self.explore_V[item]),
            copy=float(copied_P.sum()),
            neighbours=voted,
            earlier=self._listed("earlier", item),
            explore_score=own + popularity + evidence + sum(each.by_vector + each.by_match for each in attributes),
            own_vector=own,
            popularity=popularity,
            evidence=evidence,
            events=self._events(item, copied_P),
            attributes=attributes,
            voters=voters,
            sessions=sessions,
        )

    def _listed(self, component: str, item: int) -> float:
        found = self.listed.get(component)
        return 0.0 if found is None else float(found.weights[found.items == item].sum())

    def _own_vector(self, item: int) -> float:
        ids = self.vectors.ids
        if ids is None:
            return 0.0
        own_D = ids.weight[item] * self.vectors.known(self.vectors.seen[item : item + 1])[0]
        return float(self.query_D @ own_D / self._length(item))

    def _length(self, item: int) -> Tensor:
        """The length by which the item's vector is divided, as `unit_rows` does."""
        length: Tensor = torch.linalg.vector_norm(self.vectors_VD[item]).clamp_min(1e-12)
        return length

    def _events(self, item: int, copied_P: Tensor) -> tuple[EventPart, ...]:
        parts = []
        events = zip(self.batch.items.tolist(), self.batch.operations.tolist(), strict=True)
        for event, (index, operation) in enumerate(events):
            effect = None if self.shorter_LV is None else float(self.log_p_V[item] - self.shorter_LV[event, item])
            names = (self.names.items.id(index), self.names.operations.id(operation))
            parts.append(EventPart(*names, float(copied_P[event]), float(self.attention_P[event]), effect))
        return tuple(parts)

    def _attributes(self, item: int) -> tuple[AttributePart, ...]:
        vectors = self.vectors
        if vectors.attributes is None:
            return ()
        _, attributes, shares = vectors.by_item.of(torch.tensor([item], device=self.vectors_VD.device))
        weights = vectors.relation_weight[vectors.relation_of[attributes]] * shares / self._length(item)
        by_vector = (vectors.attributes(attributes) @ self.query_D) * weights
        by_match = torch.zeros_like(by_vector) if self.match_A is None else self.match_A[attributes] * shares
        owner, of_session, _ = vectors.by_item.of(self.batch.items)
        parts = []
        for attribute, vector, match in zip(attributes, by_vector.tolist(), by_match.tolist(), strict=True):
            relation, _, value = self.names.attributes.id(int(attribute)).partition("=")
            sharing = self.batch.items[owner[of_session == attribute]].flip(0).tolist()
            names = tuple(self.names.items.id(each) for each in dict.fromkeys(sharing) if each != item)
            parts.append(AttributePart(relation, value, vector, match, names))
        return tuple(sorted(parts, key=lambda part: -(part.by_vector + part.by_match)))

    def _sessions(self, item: int, probability: float) -> tuple[int, tuple[NeighbourPart, ...]]:
        """Who voted for an item; the component's probability is divided in proportion to the raw votes."""
        if self.similar is None or probability == 0:
            return 0, ()
        index, settings = self.similar.index, self.similar.settings
        neighbours = index.neighbours(self.batch, settings)
        votes, source = index.raw_votes(neighbours, self.batch, settings)
        mine = votes.items == item
        weights, voters = votes.weights[mine], neighbours.places[source[mine]]
        order = weights.argsort(descending=True, stable=True)[:MOST_SESSIONS]
        prefix, parts = set(self.batch.items.tolist()), []
        for place, weight in zip(voters[order].tolist(), (weights / weights.sum())[order].tolist(), strict=True):
            held = index.items[index.session_offsets[place] : index.session_offsets[place + 1]].tolist()
            shared = tuple(map(self.names.items.id, filter(prefix.__contains__, held)))
            parts.append(NeighbourPart(place, shared, weight * probability))
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

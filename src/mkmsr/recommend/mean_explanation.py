"""The explanation of an ensemble's score, given those of its networks.

The ensemble's probability is the mean of theirs, so each part of it is the mean of that part; the explore score, which
each network adds up by itself, and its parts are means too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from mkmsr.recommend.explanation import AttributePart, EventPart, Explanation, NeighbourPart

__all__ = ["mean_explanation"]


def mean_explanation(found: Sequence[Explanation]) -> Explanation:
    """What the networks say of one item, as one; no sentence yet."""
    first = found[0]
    if len(found) == 1:
        return first
    names = ("explore", "copy", "neighbours", "earlier", "explore_score", "own_vector", "popularity", "evidence")
    means: dict[str, Any] = {name: fmean(getattr(each, name) for each in found) for name in names}
    lifted = [(each.explore + each.copy + each.neighbours, each.lift) for each in found]
    before = sum(after / max(lift, 1e-30) for after, lift in lifted)
    score = _log_mean(each.score for each in found)
    return replace(
        first,
        **means,
        score=score,
        lift=sum(after for after, _ in lifted) / max(before, 1e-30),
        events=tuple(_event(found, place, score) for place in range(len(first.events))),
        attributes=_attributes(found),
        voters=max(each.voters for each in found),
        sessions=_sessions(found),
    )


def _event(found: Sequence[Explanation], place: int, score: float) -> EventPart:
    """One event's part; `score` is the ensemble's."""
    parts = [each.events[place] for each in found]
    pairs = zip(found, parts, strict=True)
    without = [each.score - part.effect for each, part in pairs if part.effect is not None]
    return EventPart(
        parts[0].item,
        parts[0].operation,
        copied=fmean(part.copied for part in parts),
        attention=fmean(part.attention for part in parts),
        effect=score - _log_mean(without) if without else None,
    )


def _attributes(found: Sequence[Explanation]) -> tuple[AttributePart, ...]:
    """The same attributes stand in every explanation, in an order of its own."""
    of_value: dict[tuple[str, str], list[AttributePart]] = {}
    for part in (part for each in found for part in each.attributes):
        of_value.setdefault((part.relation, part.value), []).append(part)
    parts = [
        replace(
            same[0], by_vector=fmean(part.by_vector for part in same), by_match=fmean(part.by_match for part in same)
        )
        for same in of_value.values()
    ]
    return tuple(sorted(parts, key=lambda part: -(part.by_vector + part.by_match)))


def _sessions(found: Sequence[Explanation]) -> tuple[NeighbourPart, ...]:
    """All networks hear the same voters, each with a weight of its own."""
    of_session: dict[int, list[NeighbourPart]] = {}
    for part in (part for each in found for part in each.sessions):
        of_session.setdefault(part.session, []).append(part)
    parts = [
        replace(same[0], probability=sum(part.probability for part in same) / len(found))
        for same in of_session.values()
    ]
    return tuple(sorted(parts, key=lambda part: -part.probability))


def _log_mean(logs: Iterable[float]) -> float:
    """The logarithm of the mean of the numbers with these logarithms."""
    known = list(logs)
    highest = max(known)
    return highest if math.isinf(highest) else highest + math.log(fmean(math.exp(each - highest) for each in known))

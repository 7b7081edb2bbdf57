"""What `SessionIndex` looks up for one session alone, in NumPy: there its time is that of calling each operation.

NumPy calls a small operation several times faster than PyTorch, and one session needs no keys that tell prefixes apart.
Sums are taken in the order of the batch's look-up, so that equal similarities are equal here too.
Dimension letters: P events, T distinct items or groups of the session ("things"), F (thing, session) pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.models.neighbours.indexed_sessions import IndexedSessions
from mkmsr.models.neighbours.neighbourhood import Neighbours, VoteSettings
from mkmsr.models.neighbours.similar_items import PostingLists
from mkmsr.models.neighbours.voting import Decay, Votes

__all__ = ["neighbours", "votes"]


def neighbours(index: IndexedSessions, items_P: Tensor, settings: VoteSettings) -> Neighbours:
    """Return what `SessionIndex.neighbours` does for a session of these items, [P], oldest first; nothing excluded."""
    length, most, similar = len(items_P), settings.sample_size, index.similar_items
    things = _newest_first(items_P.numpy())
    weights_T = _decayed(settings.prefix_decay, things.steps, length)
    found, num_items = _holding(index.by_item, things.values, index.num_sessions, most), len(things.values)
    steps_T = things.steps
    if similar is not None and settings.kind_weight > 0:
        groups = _newest_first(similar.group_of_item.numpy()[items_P.numpy()], leave_out=0)
        held = _holding(similar.lists, groups.values, index.num_sessions, most)
        rarity = torch.log(index.num_sessions / torch.from_numpy(held.sizes).clamp(min=1)).numpy()
        more = _decayed(settings.prefix_decay, groups.steps, length) * (settings.kind_weight * rarity)
        weights_T, steps_T = np.concatenate([weights_T, more]), np.concatenate([steps_T, groups.steps])
        found = _Holders(*(np.concatenate(pair) for pair in zip(found, held, strict=True)))
    order_F = found.places.argsort(kind="stable")  # The first of a session is its newest shared item.
    first_F = _is_first(found.places[order_F])
    begins = first_F.nonzero()[0]
    if len(begins) > most:  # Places rise from the newest session on.
        order_F, begins = order_F[: begins[most]], begins[:most]
    thing_F = np.arange(len(found.sizes)).repeat(found.counts)[order_F]
    session_F = first_F[: len(order_F)].cumsum() - 1
    similarity = np.zeros(len(begins), np.float32)
    np.add.at(similarity, session_F, weights_T[thing_F])
    shared = np.bincount(session_F[thing_F < num_items], minlength=len(begins)).astype(np.float32)
    newest = order_F[begins]
    places = found.places[newest]
    if settings.cosine:
        offsets = index.session_offsets.numpy()
        similarity /= np.sqrt(((offsets[places + 1] - offsets[places]) * num_items).astype(np.float32))
    if settings.age_decay.kind != "none":
        ages = index.ages.numpy()[places]
        similarity *= _decayed(settings.age_decay, ages - ages.min(initial=np.inf), length)
    chosen = _highest(similarity, settings.neighbours)
    parts = places, similarity, shared, steps_T[thing_F[begins]], found.events[newest]
    return Neighbours(torch.zeros(len(chosen), dtype=torch.int64), *(torch.from_numpy(part[chosen]) for part in parts))


def votes(index: IndexedSessions, found: Neighbours, length: int, settings: VoteSettings) -> tuple[Votes, Votes]:
    """Return what `SessionIndex.votes_of` does, for the neighbours of one session of so many events."""
    offsets, places = index.session_offsets.numpy(), found.places.numpy()
    begin = offsets[places]
    counts = offsets[places + 1] - begin
    ends = counts.cumsum()
    pair = np.arange(counts.sum()) + (begin - ends + counts).repeat(counts)
    items = index.items.numpy()[pair]
    similarity = found.similarity.numpy() * _decayed(settings.match_decay, found.steps.numpy(), length)
    weights = similarity.repeat(counts)
    if settings.gap_decay.kind != "none":
        gaps = np.abs(index.item_events.numpy()[pair] - found.anchors.numpy().repeat(counts))
        weights *= _decayed(settings.gap_decay, gaps, length)
    if settings.idf_weight > 0:
        weights *= 1 + settings.idf_weight * index.idf(torch.from_numpy(items)).numpy()
    order = items.argsort(kind="stable")
    first = _is_first(items[order])
    group = first.cumsum() - 1
    voted = torch.from_numpy(items[order][first])
    sums = []
    for values in (weights, found.shared.numpy().repeat(counts)):
        summed = np.zeros(len(voted), np.float32)
        np.add.at(summed, group, values[order])
        sums.append(Votes(torch.zeros_like(voted), voted, torch.from_numpy(summed)))
    return sums[0], sums[1]


class _Things(NamedTuple):
    """Distinct values and how many events ago each stood last, rising. Shapes [T]."""

    values: NDArray[np.int64]
    steps: NDArray[np.int64]


class _Holders(NamedTuple):
    """The newest sessions with each of some things: places and events [F]; how many here, and of all sessions, [T]."""

    places: NDArray[np.int64]
    events: NDArray[np.int64]
    counts: NDArray[np.int64]
    sizes: NDArray[np.int64]


def _newest_first(values_P: NDArray[np.int64], leave_out: int = -1) -> _Things:
    steps: dict[int, int] = {}
    for step, value in enumerate(reversed(values_P.tolist())):
        if value != leave_out:
            steps.setdefault(value, step)
    return _Things(np.array([*steps], np.int64), np.array([*steps.values()], np.int64))


def _holding(lists: PostingLists, values_T: NDArray[np.int64], num_sessions: int, most: int) -> _Holders:
    offsets, postings, events = lists.offsets.numpy(), lists.postings.numpy(), lists.events.numpy()
    begins = offsets[values_T]
    sizes = offsets[values_T + 1] - begins
    counts = np.minimum(sizes, most)
    ranges = [slice(begin, begin + count) for begin, count in zip(begins.tolist(), counts.tolist(), strict=True)]
    places = np.concatenate([postings[:0], *(postings[each] for each in ranges)])
    places -= (values_T * num_sessions).repeat(counts)
    return _Holders(places, np.concatenate([events[:0], *(events[each] for each in ranges)]), counts, sizes)


def _decayed(decay: Decay, distance: NDArray[np.int64] | NDArray[np.float32], length: int) -> NDArray[np.float32]:
    result: NDArray[np.float32] = decay(torch.from_numpy(distance), torch.tensor(length)).numpy()
    return result


def _is_first(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each of some sorted values is the first of its equals."""
    first = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return first


def _highest(values: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Where the highest values stand, rising; of equal ones the first."""
    if len(values) <= most:
        return np.arange(len(values))
    threshold = np.partition(values, len(values) - most)[len(values) - most]
    is_above = values > threshold
    is_above[(values == threshold).nonzero()[0][: most - np.count_nonzero(is_above)]] = True
    chosen: NDArray[np.int64] = is_above.nonzero()[0]
    return chosen

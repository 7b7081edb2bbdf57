"""What `SessionIndex` looks up for one session alone, in NumPy: there its time is that of calling each operation.

NumPy calls a small operation several times faster than PyTorch, and one session needs no keys that tell prefixes apart.
Sums are taken in the order of the batch's look-up, so that equal similarities are equal here too.
Dimension letters: P events, T distinct items of the session, F (item, session) pairs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.models.neighbours.indexed_sessions import IndexedSessions
from mkmsr.models.neighbours.voting import Decay, Neighbours, Votes, VoteSettings


def neighbours(index: IndexedSessions, items_P: Tensor, settings: VoteSettings) -> Neighbours:
    """Return what `SessionIndex.neighbours` does for a session of these items, [P], oldest first."""
    most, (items_T, steps_T) = settings.sample_size, _newest_first(items_P.tolist())
    weights_T = _decayed(settings.prefix_decay, steps_T, len(items_P))
    places_F, events_F, counts_T = _holding(index, items_T, most)
    order_F = places_F.argsort(kind="stable")  # The first of a session is its newest shared item.
    first_F = _is_first(places_F[order_F])
    begins = first_F.nonzero()[0]
    if len(begins) > most:  # Places rise from the newest session on.
        order_F, begins = order_F[: begins[most]], begins[:most]
    item_F = np.arange(len(items_T)).repeat(counts_T)[order_F]
    session_F = first_F[: len(order_F)].cumsum() - 1
    similarity = np.zeros(len(begins), np.float32)
    np.add.at(similarity, session_F, weights_T[item_F])
    shared = np.bincount(session_F, minlength=len(begins)).astype(np.float32)
    newest = order_F[begins]
    places = places_F[newest]
    if settings.cosine:
        offsets = index.session_offsets.numpy()
        similarity /= np.sqrt(((offsets[places + 1] - offsets[places]) * len(items_T)).astype(np.float32))
    if settings.age_decay.kind != "none":
        ages = index.ages.numpy()[places]
        similarity *= _decayed(settings.age_decay, ages - ages.min(initial=np.inf), len(items_P))
    chosen = _highest(similarity, settings.neighbours)
    parts = places, similarity, shared, steps_T[item_F[begins]], events_F[newest]
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


def _newest_first(items_P: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct items, and how many events ago each stood last, rising. Shapes [T]."""
    steps: dict[int, int] = {}
    for step, item in enumerate(reversed(items_P)):
        steps.setdefault(item, step)
    return np.array([*steps], np.int64), np.array([*steps.values()], np.int64)


def _holding(
    index: IndexedSessions, items_T: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The newest sessions with each of some items: places and events [F], and how many there are [T]."""
    offsets, postings, events = index.item_offsets.numpy(), index.postings.numpy(), index.posting_events.numpy()
    begins = offsets[items_T]
    counts = np.minimum(offsets[items_T + 1] - begins, most)
    ranges = [slice(begin, begin + count) for begin, count in zip(begins.tolist(), counts.tolist(), strict=True)]
    places = np.concatenate([postings[each] for each in ranges])
    places -= (items_T * index.num_sessions).repeat(counts)
    return places, np.concatenate([events[each] for each in ranges]), counts


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

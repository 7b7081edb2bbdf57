"""COMPASS's scores with its sparse terms as loops that Numba compiles: neighbours, copies, gates and shared attributes.

As array operations these terms are some 400 calls a batch, whose time hardly depends on how many sessions it has, and
between which the other threads of a service take the interpreter. Here they are two calls that need no interpreter.
Neighbours are weighed in the order of `one_session.py`, so that equal similarities are equal here too.
Dimension letters: B sessions, P events of all sessions, E events of one, T its distinct items, N neighbours, M named
items, A common attributes, C components, D embedding size, V catalogue + 1. `own` [T] and `node` [E] are the distinct
items and the place of each event's among them, the newest event first.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.fast.compiled import compiled
from mkmsr.layers.fast.compiled_encoder import CompiledEncoder, nodes
from mkmsr.layers.softmax import row_blocks
from mkmsr.models.base import Scorer
from mkmsr.models.compass.encoder import EventEncoder, WantedOperation
from mkmsr.models.compass.explore import Explore
from mkmsr.models.compass.item_vectors import ComposedVectors
from mkmsr.models.compass.mixture import Mixture
from mkmsr.models.compass.repeats import Copies
from mkmsr.models.compass.similar_sessions import SimilarSessions

_STEPS = 256
"""An item of the session so many events ago weighs 0 in 32 bits, and so do older ones."""

Array = Any
"""Of NumPy; element types are Numba's business."""


class Parts(NamedTuple):
    """The parts of COMPASS that scores come from; None where it lacks one."""

    vectors: ComposedVectors
    encoder: EventEncoder
    explore: Explore
    gates: Mixture
    copying: Copies | None
    similar: SimilarSessions | None
    wanted: WantedOperation | None


def compiled_scorer(parts: Parts) -> Scorer:
    """Return what scores as `Compass.scorer`, for models without earlier visits."""
    encoder, explore = parts.encoder, parts.explore
    vectors_VD: Tensor = parts.vectors()
    product, common = explore.all_items(parts.vectors, vectors_VD)
    operations = (encoder.operations.weight, encoder.operation_gru) if encoder.uses_operations else None
    encode = CompiledEncoder(encoder.item_ggnn, encoder.readout, operations)
    tables, weight = _tables(parts, common), explore.weights()["vector"]

    def score(batch: SessionBatch) -> Tensor:
        scores_BV = vectors_VD.new_zeros(len(batch), len(vectors_VD))
        common_BA = vectors_VD.new_zeros(len(batch), len(common))
        wanted_B = torch.zeros_like(batch.targets) if batch.wanted is None else batch.wanted
        events = [each.numpy() for each in (batch.items, batch.operations, batch.offsets)]
        terms = _add_terms(tables, *events, wanted_B.numpy(), scores_BV.numpy(), common_BA.numpy())
        session_BD = encode(vectors_VD, batch.items, batch.operations, batch.offsets)
        if parts.wanted is not None:
            session_BD = parts.wanted(session_BD, wanted_B)
        query_BD = weight * explore.query(session_BD)
        product(torch.cat([query_BD, query_BD.new_ones(len(batch), 1), common_BA], dim=1), added_to=scores_BV)
        scores_BV[:, 0] = -torch.inf
        for block in row_blocks(scores_BV):
            scores_BV[block] = scores_BV[block].log_softmax(1)
        _add_lists(scores_BV.numpy(), *terms)
        return scores_BV

    return score


class _Tables(NamedTuple):
    """The arrays that the loops read, of the parts of the model in turn; empty where it lacks a part."""

    item_offsets: Array
    postings: Array
    session_offsets: Array
    session_items: Array
    decay: Array
    """Weight of an item of the session by its steps."""
    limits: Array
    """Sessions that are looked at, and that vote."""
    age: Array
    pair: Array
    wanted: Array
    by_item: tuple[Array, Array, Array]
    by_attribute: tuple[Array, Array, Array]
    worth: Array
    relation_of: Array
    by_age: Array
    column_of: Array
    """Column of each common attribute, -1 of others."""
    popularity: Array
    bias: Array
    of_features: Array
    by_operation: Array
    by_wanted: Array
    sharpness: Array
    weights: Array
    """Of matches, evidence, and the session's own items."""


def _tables(parts: Parts, common: Tensor) -> _Tables:
    vectors, explore, gates, copying = parts.vectors, parts.explore, parts.gates, parts.copying
    of_index = [torch.zeros(0, dtype=torch.int64)] * 4 + [torch.zeros(0), torch.zeros(2, dtype=torch.int64)]
    if parts.similar is not None:
        index, settings, steps = parts.similar.index, parts.similar.settings, torch.arange(_STEPS)
        of_index = [index.item_offsets, index.postings, index.session_offsets, index.items]
        of_index += [settings.prefix_decay(steps, steps), torch.tensor([settings.sample_size, settings.neighbours])]
    copies = [torch.zeros(0)] * 3
    if copying is not None:
        of_wanted = torch.zeros(0) if copying.wanted is None else copying.wanted.weight[:, 0]
        copies = [copying.age.weight[:, 0], copying.pair.weight[:, 0], of_wanted]
    matches = [torch.zeros(0), torch.zeros(1, 1)]
    column_of = torch.full_like(vectors.relation_of, -1)
    if explore.matching is not None:
        matches = [1 + explore.matching.by_attribute.weight[:, 0], explore.matching.by_age]
        column_of[common] = torch.arange(len(common))
    weights = explore.weights()

    def arrays(*tensors: Tensor) -> tuple[Array, ...]:
        return tuple(each.detach().contiguous().numpy() for each in tensors)

    return _Tables(
        *arrays(*of_index, *copies),
        *(arrays(each.rows, each.columns, each.values) for each in (vectors.by_item, vectors.by_attribute)),
        *arrays(matches[0], vectors.relation_of, matches[1], column_of, explore.popularity),
        *arrays(gates.bias, gates.of_features, gates.by_operation, gates.by_wanted, gates.sharpness),
        *arrays(torch.stack([weights[name] for name in ("match", "evidence", "own")])),
    )


# Loops below stand where NumPy's array operations would do: compiling one of those takes up to a second.


@compiled
def _add_terms(
    tables: _Tables, items: Array, operations: Array, offsets: Array, wanted: Array, scores: Array, common: Array
) -> tuple[Array, Array, Array, Array]:
    """Add to scores [B, V] what does not come from vectors, and to `common` [B, A] what common attributes weigh.

    Returns:
        Log weights of the components [B, C]; where the lists of each session begin [B + 1]; and what components but
        explore name there, with weighed probabilities, [M].
    """
    votes_V, shared_V = np.zeros(scores.shape[1], np.float32), np.zeros(scores.shape[1], np.float32)
    log_gates, begins = np.empty((len(scores), len(tables.bias))), np.zeros(len(scores) + 1, np.int64)
    listed, weights = np.empty(len(items) + scores.size, np.int64), np.empty(len(items) + scores.size)
    features = np.zeros(len(tables.of_features))
    similar = len(tables.bias) - 1
    for b in range(len(scores)):
        events, prefix = items[offsets[b] : offsets[b + 1]], operations[offsets[b] : offsets[b + 1]]
        node, own = nodes(events[::-1])  # Newest first.
        _add_matches(tables, events, scores[b], common[b])
        again, begin, middle = 0, begins[b], begins[b] + len(own)
        for step in range(len(node)):
            again += node[step] == 0
        for t in range(len(own)):
            scores[b, own[t]] += tables.weights[2]
            listed[begin + t], weights[begin + t] = own[t], 0
        features[0], features[1], features[2] = math.log(len(events)), len(events) == 1, len(own) / len(events)
        features[3], features[4] = math.log(again), tables.popularity[own[0]]
        if len(tables.age):
            features[5] = _copy(tables, node, prefix, wanted[b], weights[begin:middle])
        end = middle
        if len(tables.decay):
            end += _vote(tables, node, own, votes_V, shared_V, listed[middle:])
            for m in range(middle, end):
                item = listed[m]
                weights[m] = math.log(votes_V[item])
                scores[b, item] += tables.weights[1] * math.log1p(shared_V[item])
                votes_V[item] = shared_V[item] = 0
            features[-3], features[-2] = end > middle, math.log1p(end - middle)
            features[-1] = _to_shares(weights[middle:end], tables.sharpness[-1])
        _set_gates(tables, features, prefix[-1], wanted[b], end > middle, log_gates[b])
        for m in range(begin, end):
            weights[m] *= math.exp(log_gates[b, 1 if m < middle else similar])
        begins[b + 1] = end
    return log_gates, begins, listed, weights


@compiled
def _add_lists(scores: Array, log_gates: Array, begins: Array, listed: Array, weights: Array) -> None:
    """Turn what explore says of each item, log p, into log p of the mixture. Shape [B, V]."""
    for b in range(len(scores)):
        row, gate = scores[b], np.float32(log_gates[b, 0])
        for v in range(len(row)):
            row[v] += gate
        for m in range(begins[b], begins[b + 1]):
            if weights[m] > 0:
                one, other = row[listed[m]], math.log(weights[m])
                row[listed[m]] = max(one, other) + math.log1p(math.exp(-abs(one - other)))


@compiled
def _add_matches(tables: _Tables, events: Array, scores: Array, common: Array) -> None:
    """Add what items have by attributes that they share with events, see `AttributeMatch`."""
    (of_item, attributes, shares), (of_attribute, items, values) = tables.by_item, tables.by_attribute
    for place in range(len(events)):
        age = min(len(events) - 1 - place, tables.by_age.shape[1] - 1)
        for pair in range(of_item[events[place]], of_item[events[place] + 1]):
            attribute = attributes[pair]
            theta = tables.weights[0] * tables.by_age[tables.relation_of[attribute], age]
            weight = theta * tables.worth[attribute] * shares[pair]
            if tables.column_of[attribute] >= 0:
                common[tables.column_of[attribute]] += weight
            else:
                for m in range(of_attribute[attribute], of_attribute[attribute + 1]):
                    scores[items[m]] += weight * values[m]


@compiled
def _vote(tables: _Tables, node: Array, own: Array, votes_V: Array, shared_V: Array, listed: Array) -> int:
    """Sum up neighbours' votes for items outside of the session, and the items that they share with it.

    Both arrays must be 0 before. Lists the items, and returns how many there are.
    """
    places, similarity, shared = _neighbours(tables, node, own)
    for item in own:
        shared_V[item] = -1
    count = 0
    for n in range(len(places)):
        for m in range(tables.session_offsets[places[n]], tables.session_offsets[places[n] + 1]):
            item = tables.session_items[m]
            if shared_V[item] == 0:
                listed[count] = item
                count += 1
            if shared_V[item] >= 0:
                votes_V[item] += similarity[n]
                shared_V[item] += shared[n]
    for item in own:
        shared_V[item] = 0
    return count


@compiled
def _neighbours(tables: _Tables, node: Array, own: Array) -> tuple[Array, Array, Array]:
    """The sessions that vote, newest first: place, similarity, and how many items are shared. Shapes [N].

    Lists of sessions by item begin with the newest: merging them gives the newest that share any.
    """
    most, num_sessions = tables.limits[0], len(tables.session_offsets) - 1
    places, similarity, shared = np.empty(most, np.int64), np.empty(most, np.float32), np.empty(most, np.float32)
    heads, steps, count = np.empty(len(own), np.int64), np.empty(len(own), np.int64), 0
    for step in range(len(node) - 1, -1, -1):
        steps[node[step]] = step  # The newest comes last.
    for t in range(len(own)):
        heads[t] = tables.item_offsets[own[t]]
    while count < most:
        newest = num_sessions
        for t in range(len(own)):
            if heads[t] < tables.item_offsets[own[t] + 1]:
                newest = min(newest, tables.postings[heads[t]] - own[t] * num_sessions)
        if newest == num_sessions:
            break
        total, both = np.float32(0), 0
        for t in range(len(own)):
            is_shared = heads[t] < tables.item_offsets[own[t] + 1]
            if is_shared and tables.postings[heads[t]] == own[t] * num_sessions + newest:
                total += tables.decay[min(steps[t], len(tables.decay) - 1)]
                both += 1
                heads[t] += 1
        size = tables.session_offsets[newest + 1] - tables.session_offsets[newest]
        places[count], shared[count] = newest, both
        similarity[count] = total / np.sqrt(np.float32(size * len(own)))
        count += 1
    kept = _keep_highest(places[:count], similarity, shared, tables.limits[1])
    return places[:kept], similarity[:kept], shared[:kept]


@compiled
def _keep_highest(places: Array, similarity: Array, shared: Array, most: int) -> int:
    """Move the most similar to the front, of equal ones the first, and return how many they are.

    Numbers above 0 compare like the whole numbers of the same bits; the threshold is found bit by bit.
    """
    if len(places) <= most:
        return len(places)
    bits, threshold, above = similarity.view(np.int32), 0, 0
    for bit in range(30, -1, -1):
        raised, reached = threshold | (1 << bit), 0
        for n in range(len(places)):
            reached += bits[n] >= raised
        if reached >= most:
            threshold = raised
    for n in range(len(places)):
        above += bits[n] > threshold
    equals, kept = most - above, 0
    for n in range(len(places)):
        is_equal = bits[n] == threshold
        if bits[n] > threshold or (is_equal and equals > 0):
            places[kept], similarity[kept], shared[kept] = places[n], similarity[n], shared[n]
            kept += 1
            equals -= is_equal
    return kept


@compiled
def _copy(tables: _Tables, node: Array, prefix: Array, wanted: int, weights: Array) -> float:
    """Give each own item its probability to come back, see `Copies`; return the logarithm of the likeliest event's."""
    logits, columns = np.empty(len(node)), int(math.sqrt(len(tables.pair)))
    for place in range(len(node)):
        before, newest = (prefix[place] * columns, prefix[-1]) if columns > 1 else (0, 0)
        logits[place] = tables.age[min(len(node) - 1 - place, len(tables.age) - 1)] + tables.pair[before + newest]
        if len(tables.wanted) and wanted > 0:
            logits[place] += tables.wanted[before + wanted]
    largest = _to_shares(logits, tables.sharpness[0])
    for place in range(len(node)):
        weights[node[len(node) - 1 - place]] += logits[place]
    return math.log(largest)


@compiled
def _to_shares(logits: Array, sharpness: float) -> float:
    """Turn logits into probabilities, sharpened; return the largest probability without sharpening, 0 of none."""
    if not len(logits):
        return 0.0
    highest, total, sharp_total = logits[0], 0.0, 0.0
    for m in range(len(logits)):
        highest = max(highest, logits[m])
    for m in range(len(logits)):
        total += math.exp(logits[m] - highest)
        logits[m] = math.exp(sharpness * (logits[m] - highest))
        sharp_total += logits[m]
    for m in range(len(logits)):
        logits[m] /= sharp_total
    return 1 / total


@compiled
def _set_gates(tables: _Tables, features: Array, newest: int, wanted: int, votes: bool, log_gates: Array) -> None:
    """Set the log weights of the components, see `Mixture`. Shape [C]."""
    speaking = len(log_gates) - (len(tables.decay) > 0 and not votes)
    total, log_gates[-1] = 0.0, -math.inf
    for c in range(speaking):
        log_gates[c] = tables.bias[c] + tables.by_operation[newest, c]
        for f in range(len(features)):
            log_gates[c] += features[f] * tables.of_features[f, c]
        if wanted > 0:
            log_gates[c] += tables.by_wanted[wanted, c]
        total += math.exp(log_gates[c])
    for c in range(speaking):
        log_gates[c] -= math.log(total)

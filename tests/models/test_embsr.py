"""The network after EMBSR against its formulae written out."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np
import torch
from torch import nn

from mkmsr.data.batching import SessionBatch
from mkmsr.models.embsr import EMBSR, find_visits
from tests.models.small_sessions import DIM, SEQUENCES, SIZES, array, scores_of, small_batch, small_model
from tests.oracles import gru, sigmoid


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return array(layer.weight) @ x + (array(layer.bias) if layer.bias is not None else 0)


def cell_by_hand(cell: nn.GRUCell, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    r_x, z_x, n_x = np.split(array(cell.weight_ih) @ x + array(cell.bias_ih), 3)
    r_h, z_h, n_h = np.split(array(cell.weight_hh) @ h + array(cell.bias_hh), 3)
    r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    return (1 - z) * np.tanh(n_x + r * n_h) + z * h


def item_states_by_hand(model: EMBSR, items: list[int], operations: list[int]) -> dict[int, np.ndarray]:
    table, operation_table = array(model.items.weight), array(model.operations.weight)
    visits = []
    for item, run in groupby(zip(items, operations, strict=True), key=lambda event: event[0]):
        visits.append((item, gru(model.visit_gru, operation_table, [operation for _, operation in run])[-1]))
    states = {}
    for node in set(items):
        before = [visits[k - 1] for k in range(1, len(visits)) if visits[k][0] == node]
        after = [visits[k + 1] for k in range(len(visits) - 1) if visits[k][0] == node]
        heard = []
        for senders, of_item, of_visit in (
            (before, model.item_before, model.visit_before),
            (after, model.item_after, model.visit_after),
        ):
            sent = [linear(of_item, table[item]) + linear(of_visit, g) for item, g in senders]
            heard.append(sum(sent) / len(sent) if sent else np.zeros(DIM))
        states[node] = cell_by_hand(model.cell, np.concatenate(heard), table[node])
    return states


def session_vector_by_hand(model: EMBSR, items: list[int], operations: list[int]) -> np.ndarray:
    states = item_states_by_hand(model, items, operations)
    operation_table = array(model.operations.weight)
    m = [states[item] + operation_table[operation] for item, operation in zip(items, operations, strict=True)]
    logits, values = [], []
    for m_t, operation in zip(m, operations, strict=True):
        relation = operations[-1] * (SIZES.num_operations + 1) + operation
        key = linear(model.key, m_t) + array(model.relation_keys.weight)[relation]
        logits.append(linear(model.query, m[-1]) @ key / math.sqrt(DIM))
        values.append(linear(model.value, m_t) + array(model.relation_values.weight)[relation])
    powers = np.exp(logits)
    z = m[-1] + sum(power * value for power, value in zip(powers, values, strict=True)) / powers.sum()
    z = z + linear(model.narrow, np.maximum(linear(model.widen, z), 0))
    last = states[items[-1]]
    beta = sigmoid(linear(model.gate, np.concatenate([z, last])))
    return beta * z + (1 - beta) * last


def test_scores_are_products_of_the_fused_session_vector() -> None:
    model = small_model("embsr", scorer="dot")
    assert isinstance(model, EMBSR)
    table = array(model.items.weight)
    expected = [table[1:] @ session_vector_by_hand(model, items, operations) for items, operations in SEQUENCES]
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-9)


def test_visits_are_runs_on_one_item_within_one_session() -> None:
    batch = SessionBatch.from_sequences([([3, 3, 5, 3], [1] * 4), ([3], [1]), ([5, 5], [1] * 2)])
    visits = find_visits(batch)
    assert visits.of_event.tolist() == [0, 0, 1, 2, 3, 4, 4]
    assert visits.offsets.tolist() == [0, 2, 3, 4, 5, 7]
    assert visits.last.tolist() == [1, 2, 3, 4, 6]
    assert visits.source.tolist() == [0, 1]


def test_the_operations_alone_change_the_scores() -> None:
    model = small_model("embsr")
    assert isinstance(model, EMBSR)
    other = SessionBatch.from_sequences([(items, [1 + each % 3 for each in kinds]) for items, kinds in SEQUENCES])
    difference = (model.score(small_batch()) - model.score(other))[:, 1:]
    assert torch.all(difference.abs().amax(1) > 1e-3)

"""RepeatNet against its formula, session by session."""

from __future__ import annotations

import numpy as np

from mkmsr.data.batching import SessionBatch
from mkmsr.models.repeatnet import EventWeights, RepeatNet
from tests import oracles
from tests.models.small_sessions import SEQUENCES, array, scores_of, small_model


def repeatnet() -> RepeatNet:
    model = small_model("repeatnet", scorer="dot")
    assert isinstance(model, RepeatNet)
    return model


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def event_weights(layer: EventWeights, h: np.ndarray) -> np.ndarray:
    last, each = array(layer.of_last.weight), array(layer.of_each.weight)
    return softmax(np.array([array(layer.weight) @ np.tanh(last @ h[-1] + each @ h_t) for h_t in h]))


def test_scores_are_the_logarithms_of_the_mixture_of_repeating_and_exploring() -> None:
    model = repeatnet()
    table, expected = array(model.items.weight), []
    for items, _ in SEQUENCES:
        h = oracles.gru(model.gru, table, items)
        p_repeat, p_explore = softmax(array(model.modes.weight) @ (event_weights(model.deciding, h) @ h))
        query = array(model.explore.weight) @ np.concatenate([h[-1], event_weights(model.exploring, h) @ h])
        others = [item for item in range(1, len(table)) if item not in items]
        probability = dict(zip(others, p_explore * softmax(table[others] @ query), strict=True))
        for item, weight in zip(items, event_weights(model.repeating, h), strict=True):
            probability[item] = probability.get(item, 0.0) + p_repeat * weight
        expected.append([np.log(probability[item]) for item in range(1, len(table))])
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-8)


def test_a_session_that_holds_the_whole_catalogue_has_finite_scores() -> None:
    model = repeatnet()
    everything = list(range(1, model.sizes.num_items + 1))
    scores = model.score(SessionBatch.from_sequences([(everything, [1] * len(everything))]))
    assert scores[:, 1:].isfinite().all()

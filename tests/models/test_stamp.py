"""STAMP against its formulae written out, session by session and component by component."""

from __future__ import annotations

import numpy as np

from mkmsr.models.stamp import STAMP
from tests.models.small_sessions import DIM, SEQUENCES, SIZES, array, scores_of, small_model
from tests.oracles import sigmoid


def test_scores_are_the_trilinear_product_of_interest_in_general_current_interest_and_item() -> None:
    model = small_model("stamp")
    assert isinstance(model, STAMP)
    x = array(model.items.weight)
    w1, w2, w3 = (array(each.weight) for each in (model.of_each, model.of_last, model.of_mean))
    w0, b = array(model.attention), array(model.of_last.bias)
    expected = np.zeros((len(SEQUENCES), SIZES.num_items))
    for row, (items, _) in enumerate(SEQUENCES):
        m_t, m_s = x[items[-1]], sum(x[item] for item in items) / len(items)
        m_a = sum((w0 @ sigmoid(w1 @ x[item] + w2 @ m_t + w3 @ m_s + b)) * x[item] for item in items)
        h_s = np.tanh(array(model.general.weight) @ m_a + array(model.general.bias))
        h_t = np.tanh(array(model.current.weight) @ m_t + array(model.current.bias))
        for item in range(1, SIZES.num_items + 1):
            expected[row, item - 1] = sum(h_s[d] * h_t[d] * x[item, d] for d in range(DIM))
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-10)


def test_the_order_of_the_older_items_does_not_matter() -> None:
    model = small_model("stamp")
    first, second = scores_of(model, [([3, 5, 3], [1, 2, 1]), ([5, 3, 3], [1, 1, 1])])
    np.testing.assert_allclose(first, second, rtol=1e-10)

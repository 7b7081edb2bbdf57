"""SR-GNN against its graph network and readout, node by node."""

from __future__ import annotations

import numpy as np
import pytest

from mkmsr.models.sr_gnn import SRGNN
from tests.models.small_sessions import SEQUENCES, array, scores_of, small_model
from tests.oracles import attention, ggnn


@pytest.mark.parametrize("steps", [1, 2])
def test_scores_are_products_of_what_the_readout_makes_of_the_graph(steps: int) -> None:
    model = small_model("sr-gnn", steps=steps)
    assert isinstance(model, SRGNN)
    table = array(model.items.weight)
    expected = [table[1:] @ attention(model.readout, ggnn(model.ggnn, table, items))[1] for items, _ in SEQUENCES]
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-6)

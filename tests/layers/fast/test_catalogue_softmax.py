"""The exact softmax over a catalogue against its plain twin, also where a target is all but impossible."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mkmsr.layers.fast.catalogue_softmax import plain_target_log_softmax, target_log_softmax
from mkmsr.layers.softmax import SparseScores
from tests.layers.planted_scores import SESSIONS, planted


@pytest.mark.parametrize("spread", [1.0, 100.0])
@pytest.mark.parametrize("with_extra", [False, True])
@pytest.mark.parametrize("with_every_item", [False, True])
def test_values_and_gradients_are_those_of_the_plain_twin(
    spread: float, *, with_extra: bool, with_every_item: bool
) -> None:
    queries, items, targets, extra = planted(spread)
    inputs: list[Tensor] = [queries, items]
    chosen: SparseScores | None = None
    by_item: Tensor | None = None
    if with_extra:
        chosen = extra
        inputs.append(extra.values.requires_grad_())
    if with_every_item:
        by_item = torch.linspace(-2, 2, len(items) * SESSIONS).view(len(items), SESSIONS).requires_grad_()
        inputs.append(by_item)
    expected, found = (
        each(queries, items, targets, chosen, by_item) for each in (plain_target_log_softmax, target_log_softmax)
    )
    assert (found < -80).any() == (spread > 1)  # e^-80 is below what is taken as a probability.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.linspace(0.5, 2.0, SESSIONS)
    mine, theirs = (torch.autograd.grad((each * weights).sum(), inputs) for each in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_a_score_that_is_no_number_shows_in_the_result() -> None:
    queries, items, targets, _ = planted(1.0)
    with torch.no_grad():
        queries[1, 0] = float("nan")
    assert target_log_softmax(queries, items, targets).isnan().tolist() == [False, True, False, False, False, False]

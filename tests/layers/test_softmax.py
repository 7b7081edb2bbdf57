"""The softmax over a catalogue whose scores do not fit in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mkmsr.layers.fast.catalogue_softmax import plain_target_log_softmax
from mkmsr.layers.softmax import blockwise_target_log_softmax
from tests.layers.planted_scores import SESSIONS, planted


@pytest.mark.parametrize("with_more", [False, True])
def test_blocks_of_the_catalogue_give_the_same_values_and_gradients(*, with_more: bool) -> None:
    queries, items, targets, extra = planted(100.0)
    by_item_VB = torch.linspace(-2, 2, len(items) * SESSIONS).view(len(items), SESSIONS)

    def by_item(begin: int, end: int) -> Tensor:
        return by_item_VB[begin:end]

    expected = plain_target_log_softmax(queries, items, targets, *((extra, by_item_VB) if with_more else ()))
    found = blockwise_target_log_softmax(queries, items, targets, 7, *((extra, by_item) if with_more else ()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    mine, theirs = (torch.autograd.grad(each.sum(), (queries, items)) for each in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)

"""Sums, means and softmaxes of ragged batches against loops."""

from __future__ import annotations

import torch

from mkmsr.layers.segments import segment_mean, segment_softmax, segment_sum

ROWS = torch.tensor([0, 0, 1, 3, 3, 3])


def test_sums_and_means_are_those_of_each_session() -> None:
    values = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    parts = [values[row == ROWS] for row in (0, 1, 3)]
    sums = segment_sum(values, ROWS, 4)
    torch.testing.assert_close(sums[[0, 1, 3]], torch.stack([part.sum(0) for part in parts]))
    assert not sums[2].any()
    rows = ROWS.clamp(max=2)
    means = segment_mean(values, rows, torch.bincount(rows))
    torch.testing.assert_close(means, torch.stack([part.mean(0) for part in parts]))


def test_a_softmax_is_taken_within_each_session_and_each_column() -> None:
    logits = torch.randn(6, 2, generator=torch.Generator().manual_seed(1)) * 100
    found = segment_softmax(logits, ROWS, 4)
    for row in (0, 1, 3):
        torch.testing.assert_close(found[row == ROWS], logits[row == ROWS].softmax(0))
    torch.testing.assert_close(segment_softmax(logits[:, 0], ROWS, 4), found[:, 0])


def test_a_softmax_has_the_gradient_of_the_plain_one() -> None:
    logits = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: segment_softmax(x, torch.tensor([0, 0, 1]), 2), (logits,))

"""The direct path from a session's items to its vector, against its formula."""

from __future__ import annotations

import math

import pytest
import torch

from mkmsr.models.compass.encoder import RecentItems

OPERATIONS, DIM = 3, 5
SESSIONS = [[1], [2, 3, 1], [1, 1, 2, 3]]  # the operations of each session's events, oldest first


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


@torch.no_grad()
def test_session_vectors_follow_the_formula() -> None:
    torch.manual_seed(0)
    recent = RecentItems(OPERATIONS, ages=3)
    recent.age.normal_()
    recent.operation.normal_()
    recent.weight.fill_(0.7)
    sessions_BD, items_PD = torch.randn(len(SESSIONS), DIM), torch.randn(sum(map(len, SESSIONS)), DIM)
    lengths = torch.tensor([len(session) for session in SESSIONS])
    expected, begin = [], 0
    for row, session in enumerate(SESSIONS):
        pooled = torch.zeros(DIM)
        for place, operation in enumerate(session):
            age = min(len(session) - 1 - place, 2)  # Older events share the last age.
            pooled += recent.age[age] * recent.operation[operation] * unit(items_PD[begin + place])
        expected.append(unit(sessions_BD[row]) + 0.7 * unit(pooled))
        begin += len(session)
    operations = torch.tensor([operation for session in SESSIONS for operation in session])
    rows = torch.repeat_interleave(torch.arange(len(SESSIONS)), lengths)
    ages = torch.tensor([age for session in SESSIONS for age in reversed(range(len(session)))])
    found = recent(sessions_BD, items_PD, operations, ages, rows)
    torch.testing.assert_close(found, torch.stack(expected))


def test_it_starts_with_a_decay_over_two_events_and_operations_alike() -> None:
    recent = RecentItems(OPERATIONS)
    assert recent.age[:3].tolist() == pytest.approx([1.0, math.exp(-0.5), math.exp(-1.0)])
    assert recent.operation.tolist() == [1.0] * (OPERATIONS + 1)
    assert recent.weight.item() == 0.5

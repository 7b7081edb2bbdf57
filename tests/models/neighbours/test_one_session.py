"""The look-up of one session alone against that of a batch, its plain twin."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mkmsr.models.neighbours.session_index import SessionIndex
from mkmsr.models.neighbours.voting import Neighbours, Votes, VoteSettings
from tests.models.neighbours.test_session_neighbours import NUM_COLUMNS, SETTINGS, batch_of, built, random_table

OTHER = [1, 2, 3, 4]


def index_of(sessions: int = 40) -> SessionIndex:
    return built(random_table(sessions=sessions))


def of_first(found: Neighbours | Votes) -> dict[str, torch.Tensor]:
    """What was found for the first prefix of a batch."""
    return {each.name: getattr(found, each.name)[found.rows == 0] for each in fields(found)}


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=30, deadline=None)
@given(items=st.lists(st.integers(1, NUM_COLUMNS - 1), min_size=1, max_size=8))
def test_one_session_alone_finds_the_neighbours_and_votes_that_it_finds_in_a_batch(name: str, items: list[int]) -> None:
    index, rule = index_of(), SETTINGS[name]
    alone, both = batch_of([items]), batch_of([items, OTHER])
    found, among = index.neighbours(alone, rule), index.neighbours(both, rule)
    for field, expected in of_first(among).items():
        torch.testing.assert_close(getattr(found, field), expected)
    for votes, expected_votes in zip(
        index.votes_of(found, alone, rule), index.votes_of(among, both, rule), strict=True
    ):
        for field, expected in of_first(expected_votes).items():
            torch.testing.assert_close(getattr(votes, field), expected)


def test_among_equally_similar_sessions_the_newest_vote() -> None:
    index, rule = index_of(), VoteSettings(neighbours=2, cosine=False)
    found = index.neighbours(batch_of([[1]]), rule)
    assert found.places.tolist() == index.neighbours(batch_of([[1]]), replace(rule, neighbours=40)).places.tolist()[:2]


def test_a_session_that_nobody_resembles_gets_no_votes() -> None:
    index, rule = index_of(sessions=0), SETTINGS["exponential"]
    found = index.neighbours(batch_of([[1, 2]]), rule)
    votes, counts = index.votes_of(found, batch_of([[1, 2]]), rule)
    assert len(found.rows) == len(votes) == len(counts) == 0

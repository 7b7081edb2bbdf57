"""A small prepared log whose every example can be checked by eye."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import SessionTable
from mkmsr.data.vocabulary import Vocabulary

Event = tuple[int, int]


def session_table(sessions: Sequence[Sequence[Event]]) -> SessionTable:
    """A session table from lists of (item index, operation index)."""
    events = [event for session in sessions for event in session]
    offsets = np.concatenate([[0], np.cumsum([len(session) for session in sessions])]).astype(np.int64)
    items = np.array([item for item, _ in events], dtype=np.int32)
    operations = np.array([operation for _, operation in events], dtype=np.int16)
    return SessionTable(items, operations, offsets, np.arange(len(events), dtype=np.int64))


@pytest.fixture(scope="session")
def dataset() -> PreparedDataset:
    """Items 1 to 5 occur in training, item 6 in validation, items 7 and 8 in the test sessions only."""
    names = ["plain", "with space", '<b>"quoted"</b>', "物品", "five", "six", "seven", "eight"]
    triples = np.array([[1, 1, 9], [2, 1, 9], [4, 1, 10], [7, 1, 10], [7, 2, 11], [7, 2, 12]], dtype=np.int64)
    knowledge = KnowledgeGraph(
        triples,
        Vocabulary(["brand", "colour"], kind="relation"),
        Vocabulary(["brand=a", "brand=b", "colour=red", "colour=blue"], kind="attribute"),
        num_items=8,
    )
    return PreparedDataset(
        name="by eye",
        items=Vocabulary(names, kind="item"),
        operations=Vocabulary(["click", "cart"], kind="operation"),
        knowledge=knowledge,
        train=session_table([[(1, 1), (2, 1), (3, 2)], [(4, 1), (5, 1)], [(2, 1), (2, 2), (1, 1)]]),
        validation=session_table([[(1, 1), (6, 1)], [(3, 1), (2, 2), (3, 1)]]),
        test=session_table([[(1, 1), (2, 2), (1, 1), (7, 1), (7, 2)], [(6, 1)], [(5, 1), (8, 1), (6, 2), (5, 1)]]),
        new_items="keep",
    )

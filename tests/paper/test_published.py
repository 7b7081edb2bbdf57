"""Published values stand only beside the paper's own data: whole, and with sessions that nobody's name is on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import EarlierItems, SessionTable
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.paper.published import published_name


def demo_of(sessions: int) -> PreparedDataset:
    """As many sessions of one event as asked for, said to come from the paper's Demo sample."""
    table = SessionTable(
        np.ones(sessions, np.int32), np.ones(sessions, np.int16), np.arange(sessions + 1), np.arange(sessions)
    )
    return PreparedDataset(
        name="demo",
        items=Vocabulary(["a"], kind="item"),
        operations=Vocabulary(["click"], kind="operation"),
        knowledge=KnowledgeGraph.empty(1),
        train=SessionTable.empty(),
        validation=SessionTable.empty(),
        test=table,
        metadata={"log": "jdata-demo"},
    )


def test_only_the_paper_s_own_data_have_its_name() -> None:
    whole = demo_of(5_633)
    assert published_name(whole) == "Demo"
    assert published_name(replace(whole, new_items="keep")) == "Demo(N)"
    assert published_name(demo_of(3_000)) is None
    assert published_name(replace(whole, metadata={"log": "shop"})) is None
    known = replace(whole, test=replace(whole.test, earlier=EarlierItems.nothing(len(whole.test))))
    assert published_name(known) is None

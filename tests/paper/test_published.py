"""Published values stand only beside the paper's own data: whole, and without visitors' names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import EarlierItems, SessionTable
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.paper.published import ABLATIONS, BASELINES, SYSTEMS, TABLE_1, TABLE_2, published_name


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


def test_published_tables_are_complete() -> None:
    assert list(SYSTEMS) == [*BASELINES, *ABLATIONS, "MKM-SR"]
    assert len(SYSTEMS) == 13
    assert TABLE_1.keys() == TABLE_2.keys()
    assert all(rows.keys() == SYSTEMS.keys() for rows in TABLE_2.values())
    assert TABLE_2["Demo"]["MKM-SR"] == {"hit@20": 0.24623, "mrr@20": 0.09642}
    assert TABLE_2["Demo(N)"]["MKM-SR"] == {"hit@20": 0.1511, "mrr@20": 0.06424}
    assert TABLE_2["JDATA(N)"]["RIB"] == {"hit@20": 0.35551, "mrr@20": 0.1342}
    assert TABLE_2["KKBOX"]["FPMC"] == {"hit@20": 0.05614, "mrr@20": 0.01166}

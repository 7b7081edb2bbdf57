"""Counts and shares of a prepared dataset."""

from __future__ import annotations

import pytest
from logs import log_of

from mkmsr.data.dataset import statistics
from mkmsr.data.prepare import PrepareOptions, prepare

ROWS = [
    *[(f"s{n}", item, "x", n * 10_000 + at) for n in range(8) for at, item in enumerate("abc")],
    *[("t1", item, "x", 10**6 + at) for at, item in enumerate("a+b+")],
    *[("t2", item, "y", 2 * 10**6 + at) for at, item in enumerate("-a")],
]


def test_every_count_is_the_one_counted_by_hand():
    options = PrepareOptions(new_items="keep", test_share=0.2, validation_share=0.1)
    assert statistics(prepare(log_of(ROWS, attributes=[("a", "brand", "x"), ("+", "shop", "y")]), options)) == {
        "sessions": 10,
        "events": 30,
        "items": 5,
        "operations": 2,
        "relations": 2,
        "triples": 2,
        "train": {"sessions": 7, "events": 21, "examples": 14},
        "validation": {"sessions": 1, "events": 3, "examples": 2},
        "test": {
            "sessions": 2,
            "events": 6,
            "examples": 4,
            "new_item_event_share": pytest.approx(3 / 6),
            "new_item_target_share": pytest.approx(2 / 4),
        },
        "train_and_validation": {"sessions": 8, "events": 24, "examples": 16},
        "mean_session_length": 3.0,
        "mean_item_frequency": 6.0,
    }


def test_shares_of_an_empty_test_are_zero():
    counts = statistics(prepare(log_of(ROWS), PrepareOptions(test_share=0)))["test"]
    assert (counts["sessions"], counts["new_item_event_share"], counts["new_item_target_share"]) == (0, 0.0, 0.0)

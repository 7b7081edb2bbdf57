"""Run folders as training leaves them, with ids that would break a careless page."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mkmsr.evaluation.document import evaluation_document
from mkmsr.evaluation.ranks import RankTable
from mkmsr.reports.run_report import write_run_report
from mkmsr.runtime.events import EpochRecord
from mkmsr.training.checkpoint import write_history

HOSTILE = '<script>alert("1")</script>'
CJK = "物品 & 其他"

MakeRun = Callable[..., Path]


def ranks_for(model: str, quality: float, examples: int = 240) -> RankTable:
    """Ranks of the same examples for every model; a higher quality finds more of them."""
    generator = np.random.default_rng([*model.encode()])
    found = generator.random(examples) < quality
    rows = np.arange(examples)
    return RankTable(
        rank=np.where(found, generator.integers(1, 15, examples), 500).astype(np.int32),
        target=(rows % 50 + 1).astype(np.int32),
        session=(rows // 3).astype(np.int32),
        prefix_length=(rows % 3 + 1).astype(np.int32),
        is_new_item=rows % 5 == 0,
        is_repeat=rows % 4 == 1,
    )


def example_sessions() -> dict[str, Any]:
    """What `examples.json` holds."""
    hostile = {"brand": [HOSTILE, "b&b"], "colour": ["red"]}
    recommendation = {
        "rank": 1,
        "item": CJK,
        "display": {"image": "https://example.org/cjk.png"},
        "score": 1.5,
        "attributes": {},
        "is_target": False,
        "in_prefix": False,
    }
    return {
        "dataset": {"name": f"shop {HOSTILE}", "counts": counts()},
        "split": "test",
        "k": 2,
        "rule": "drawn at random",
        "sessions": [
            {
                "kind": "missed",
                "events": [
                    {"item": HOSTILE, "operation": "add <to> cart", "attributes": hostile},
                    {"item": HOSTILE, "operation": "order", "attributes": hostile},
                ],
                "target": {
                    "item": "the one",
                    "display": {
                        "name": "Kettle & co",
                        "price": "€ 24.90",
                        "image": "data:image/svg+xml,%3Csvg/%3E",
                        "link": "https://example.org/the-one",
                    },
                    "operation": "order",
                    "attributes": {"colour": ["red"]},
                    "rank": 321,
                    "is_new_item": True,
                    "is_repeat": False,
                },
                "recommendations": [recommendation, {**recommendation, "rank": 2, "item": HOSTILE, "in_prefix": True}],
            }
        ],
    }


def counts() -> dict[str, Any]:
    """What `mkmsr describe --json` prints."""
    split = {"sessions": 80, "events": 320, "examples": 240}
    return {
        "sessions": 1234,
        "events": 5678,
        "items": 999,
        "operations": 3,
        "relations": 2,
        "triples": 4321,
        "train": split,
        "validation": split,
        "test": {**split, "new_item_event_share": 0.25, "new_item_target_share": 0.2},
        "mean_session_length": 4.6,
        "mean_item_frequency": 5.7,
    }


def write_run(
    place: Path, name: str, model: str = "mkm-sr", quality: float = 0.6, *, trained: bool = True, examples: int = 240
) -> Path:
    """Write a run folder `place/name` and return it."""
    folder = place / name
    folder.mkdir()
    table = ranks_for(name, quality, examples)
    table.save(folder / "ranks.parquet")
    document = evaluation_document(model, "test", table, 999, (5, 20), 0.5, samples=200)
    metrics = {"model": model, "seed": 7, "test": document, "data_fingerprint": "f" * 64, "seconds": 61.5}
    if trained:
        metrics |= {"best_epoch": 2, "refit": True}
        write_history(folder / "history.jsonl", history())
        (folder / "config.toml").write_text(f'[model]\nname = "{model}"\n', encoding="utf-8")
        (folder / "examples.json").write_text(json.dumps(example_sessions()), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that writes a run folder by its name and returns it."""
    return partial(write_run, tmp_path)


@pytest.fixture(scope="session")
def reported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a report beside two baselines; not to be changed."""
    place = tmp_path_factory.mktemp("runs")
    baselines = [
        write_run(place, name, name, quality, trained=False) for name, quality in (("pop", 0.1), ("recency", 0.3))
    ]
    run = write_run(place, "shop")
    write_run_report(run, baselines=baselines, samples=300)
    return run


def history() -> list[EpochRecord]:
    """Three epochs, the second the best."""
    validation = [{"hit@20": hit, "mrr@20": hit / 2} for hit in (0.1, 0.3, 0.2)]
    return [
        EpochRecord(epoch, "sessions", 9.0 - epoch, 1.0 / epoch, validation[epoch - 1], 1.0, 100.0, 1e-3)
        for epoch in (1, 2, 3)
    ]

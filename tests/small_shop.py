"""A small prepared shop with awkward ids, for the tests of bundles, recommender and command line."""

from __future__ import annotations

import numpy as np
import polars as pl

from mkmsr.config import StrictModel
from mkmsr.data.batching import SessionBatch, collate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.models.base import ModelSizes, SessionModel, TrainingData
from mkmsr.models.registry import model_entry

ITEMS = ["plain", "two words", 'quo"ted', "コーヒー", "咖啡 <b>", "[bold]", *(f"item-{n:02d}" for n in range(30))]
OPERATIONS = ["click", "cart", "order"]


def small_shop(*, sessions: int = 120, new_items: str = "keep") -> PreparedDataset:
    """Visits that walk along the list of items in small steps, carts now and then; colours and brands known."""
    rng = np.random.default_rng(5)
    rows = []
    for session in range(sessions):
        item = int(rng.integers(len(ITEMS)))
        for step in range(int(rng.integers(2, 9))):
            operation = OPERATIONS[int(rng.choice(3, p=[0.7, 0.2, 0.1]))]
            rows.append((f"s{session:04d}", ITEMS[item], operation, session * 10_000 + step))
            item = (item + int(rng.integers(0, 3))) % len(ITEMS)
    events = pl.DataFrame(rows, schema=["session_id", "item_id", "operation", "time"], orient="row")
    attributes = pl.DataFrame(
        [(item, "colour", ["red", "grün", "青"][n % 3]) for n, item in enumerate(ITEMS)]
        + [(item, "brand", f"brand-{n // 6}") for n, item in enumerate(ITEMS)],
        schema=["item_id", "relation", "value"],
        orient="row",
    )
    log = InteractionLog(
        events.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).lazy(),
        attributes.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).lazy(),
        name="small shop",
    )
    return prepare(log, PrepareOptions.model_validate({"new_items": new_items}))


def fitted(name: str, dataset: PreparedDataset, **settings: object) -> tuple[StrictModel, SessionModel]:
    """A model of that name with fresh weights that has read the training log."""
    entry = model_entry(name)
    config = entry.configure(settings)
    knowledge = dataset.knowledge
    sizes = ModelSizes(len(dataset.items), len(dataset.operations), len(knowledge.attributes), len(knowledge.relations))
    model = entry.build(config, sizes)
    model.observe(TrainingData(dataset.train, dataset.examples(dataset.train), knowledge))
    return config, model.eval()


def batch_of(dataset: PreparedDataset) -> SessionBatch:
    """Some examples of several sessions, long prefixes and short ones."""
    return collate(dataset.examples(dataset.train), np.arange(40, 75))

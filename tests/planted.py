"""Small logs with known answers: each holds one signal and nothing else, so that a mechanism must earn its keep.

What the best possible model reaches is stated with each; a model blind to the signal reaches the other number.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare

OPERATIONS = ("click", "cart", "favourite", "order", "comment", "share", "read", "return")


def operation_decides(
    *, sessions: int = 1200, length: int = 6, groups: int = 6, operations: int = 4, seed: int = 0
) -> PreparedDataset:
    """The last item says which group comes next, the last operation which of its members.

    Operations (at most eight) are drawn uniformly, so items alone say nothing about them: Hit@1 is 1 with operations,
    and 1 / operations without. Items are named `item-g-m`: group, then member, the operation that leads there.
    """
    rng = np.random.default_rng(seed)
    cycle = rng.permutation(groups)
    follower = np.empty(groups, np.int64)
    follower[cycle] = np.roll(cycle, -1)
    operation = rng.integers(0, operations, (sessions, length))
    group = np.empty((sessions, length), np.int64)
    group[:, 0] = rng.integers(0, groups, sessions)
    for step in range(1, length):
        group[:, step] = follower[group[:, step - 1]]
    member = np.concatenate([rng.integers(0, operations, (sessions, 1)), operation[:, :-1]], axis=1)
    names = [f"item-{g}-{m}" for g in range(groups) for m in range(operations)]
    return _prepared("operation decides", group * operations + member, operation, names)


def attributes_link(
    *, sessions: int = 600, series: int = 12, warm: int = 8, cold: int = 4, length: int = 5, seed: int = 0
) -> PreparedDataset:
    """Sessions stay inside a series of items; the test continues with items of the series that training never saw.

    Only the attribute `series` links a cold item to the others. The last two events of each test session are cold. With
    attributes a model can rank the whole series first (Hit@k of cold targets is 1 for k = warm + cold); without, it has
    no reason to prefer them (k / items by chance).
    """
    rng = np.random.default_rng(seed)
    size = warm + cold
    chosen = rng.integers(0, series, sessions)
    place = np.argsort(rng.random((sessions, warm)), axis=1)[:, :length]
    tests = sessions // 10
    late = np.argsort(rng.random((tests, cold)), axis=1)[:, :2] + warm
    place[-tests:, -2:] = late
    items = chosen[:, None] * size + place
    names = [f"item-{s}-{p}" for s in range(series) for p in range(size)]
    attributes = pl.DataFrame(
        {"item_id": names, "relation": ["series"] * len(names), "value": [name.split("-")[1] for name in names]}
    )
    return _prepared("attributes link", items, np.zeros_like(items), names, attributes, test_share=tests / sessions)


def repeats(*, sessions: int = 1000, items: int = 30, length: int = 6, seed: int = 0) -> PreparedDataset:
    """After the operation "cart" the same item comes again, after "click" always another one, drawn uniformly.

    Operations are a fair coin. Hit@1 of the examples whose last operation is "cart" is 1; of the others it is 1 / items
    by chance, and 0 for a model that always repeats.
    """
    rng = np.random.default_rng(seed)
    operation = rng.integers(0, 2, (sessions, length))
    item = np.empty((sessions, length), np.int64)
    item[:, 0] = rng.integers(0, items, sessions)
    for step in range(1, length):
        other = (item[:, step - 1] + rng.integers(1, items, sessions)) % items
        item[:, step] = np.where(operation[:, step - 1] == 1, item[:, step - 1], other)
    return _prepared("repeats", item, operation, [f"item-{i}" for i in range(items)])


def deterministic(*, sessions: int = 600, items: int = 30, length: int = 6, seed: int = 0) -> PreparedDataset:
    """Each item has one fixed successor, in one cycle through all items: Hit@1 is 1, and 1 / items by chance."""
    rng = np.random.default_rng(seed)
    cycle = rng.permutation(items)
    start = rng.integers(0, items, (sessions, 1))
    item = cycle[(start + np.arange(length)) % items]
    return _prepared("deterministic", item, np.zeros_like(item), [f"item-{i}" for i in range(items)])


def _prepared(
    name: str,
    items: NDArray[np.int64],
    operations: NDArray[np.int64],
    names: list[str],
    attributes: pl.DataFrame | None = None,
    *,
    test_share: float = 0.1,
) -> PreparedDataset:
    """Rows are sessions in the order of time, a day apart, with a minute between events; all new items are kept."""
    sessions, length = items.shape
    number = np.repeat(np.arange(sessions), length)
    events = pl.DataFrame(
        {
            "session_id": pl.Series(number).cast(pl.String),
            "item_id": pl.Series(names)[items.reshape(-1)],
            "operation": pl.Series(OPERATIONS)[operations.reshape(-1)],
            "time": number * 86_400 + np.tile(np.arange(length), sessions) * 60,
            "row": np.arange(sessions * length),
        }
    )
    described = None if attributes is None else attributes.with_row_index("row").cast({"row": pl.Int64}).lazy()
    log = InteractionLog(events.lazy(), described, name=name)
    return prepare(log, PrepareOptions(new_items="keep", test_share=test_share))

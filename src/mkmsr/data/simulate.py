"""A seeded shop that makes realistic logs: the embedded data of the demo, and logs of any size for measurements.

What a model can find in them, by construction:

- *transitions follow attributes*: the next item shares its category, shop or brand with the last one;
- *accessories*: each item has a few fixed companions in a neighbouring category;
- *operations decide*: after a click people compare within the category, after adding to the cart they return to the
  item or stay in the shop, after an order they look for accessories, after a favourite they stay with the brand;
- *repeats* depend on the last operation;
- *popularity* has a long tail;
- *cold items*: some are launched in the last days, so that the test has targets that training lacks.

All sessions advance together, one event a step, so the cost is a few array operations for each position of the longest
session. Steps work on flat arrays in step-major order: position `first[t] + s` is event t of session s, and sessions
are sorted by falling length, so that the sessions still going at step t are the first ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.log import InteractionLog
from mkmsr.data.shop import (
    ACCESSORIES,
    DAY,
    USUAL_EVENTS,
    GroupSampler,
    Shop,
    SimulateOptions,
    group_names,
    product_display,
    stock_shop,
)
from mkmsr.errors import DataError
from mkmsr.runtime.files import atomic_file

OPERATIONS = ("click", "cart", "favourite", "order", "comment")
CLICK, CART, FAVOURITE, ORDER, COMMENT = range(5)

REPEAT = np.array([0.15, 0.60, 0.30, 0.25, 0.05])
"""Probability that the next event has an item of the session again, by the operation of the last event."""
REPEAT_LAST = 0.8
"""Of repeats, the share that stays with the last item; the others return to an earlier one."""

ROUTES = np.array(
    [
        # category, shop, brand, accessory, anywhere
        [0.62, 0.10, 0.10, 0.10, 0.08],  # click
        [0.10, 0.58, 0.08, 0.16, 0.08],  # cart
        [0.14, 0.10, 0.60, 0.08, 0.08],  # favourite
        [0.06, 0.12, 0.06, 0.68, 0.08],  # order
        [0.30, 0.10, 0.10, 0.10, 0.40],  # comment
    ]
)
"""How a new item is found, by the operation of the last event."""
CATEGORY, SHOP, BRAND, ACCESSORY, ANYWHERE = range(5)

NEXT_ON_REPEAT = np.array(
    [
        # click, cart, favourite, order, comment
        [0.30, 0.42, 0.16, 0.10, 0.02],
        [0.28, 0.02, 0.04, 0.62, 0.04],
        [0.42, 0.44, 0.02, 0.10, 0.02],
        [0.30, 0.06, 0.04, 0.06, 0.54],
        [0.80, 0.08, 0.06, 0.04, 0.02],
    ]
)
"""Operation of the next event where the item stays, by the last operation."""
NEXT_ON_NEW = np.array([0.84, 0.08, 0.05, 0.02, 0.01])
"""Operation of an event with a new item, and of the first event of a session."""

SESSION_LIMIT = 6 * 3600
"""No session lasts longer, in seconds: with one session a day, those of a user lie hours apart."""
LONGEST = 80
ATTEMPTS = 12


@dataclass(frozen=True)
class SimulatedLog:
    """A simulated log.

    Events are `session`, `user`, `item`, `operation`, `time` (seconds since 1970, UTC), in time order. Attributes are
    `item`, `relation`, `value`: brand, shop, category (one or two) and launch_year of each item; so is the display:
    name, price and image, which are shown and never learnt from.
    """

    events: pl.DataFrame
    attributes: pl.DataFrame
    display: pl.DataFrame

    def to_log(self) -> InteractionLog:
        """The log as readers return it."""
        row = pl.int_range(pl.len(), dtype=pl.Int64).alias("row")
        events = self.events.rename({"session": "session_id", "user": "user_id", "item": "item_id"})
        attributes, display = (
            table.rename({"item": "item_id"}).with_columns(row).lazy() for table in (self.attributes, self.display)
        )
        return InteractionLog(events.with_columns(row).lazy(), attributes, name="simulated", display=display)

    def save(self, folder: str | Path) -> None:
        """Write `events.parquet`, `attributes.parquet` and `attributes_display.parquet`; a full disk is a DataError."""
        tables = {"events": self.events, "attributes": self.attributes, "attributes_display": self.display}
        for name, table in tables.items():
            path = Path(folder) / f"{name}.parquet"
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(path) as part:
                    table.write_parquet(part)
            except (OSError, pl.exceptions.PolarsError) as error:
                raise DataError(f"cannot write: {getattr(error, 'strerror', None) or error}", path=path) from error


def simulate(options: SimulateOptions | None = None) -> SimulatedLog:
    """A log from the shop described above, the same for the same options."""
    options = options or SimulateOptions()
    rng = np.random.default_rng(options.seed)
    shop = stock_shop(options, rng)
    user, lengths, start = _schedule(options, rng)
    time = _event_times(lengths, start, rng)
    item, operation = _walk(shop, lengths, time, rng)
    session = np.concatenate([np.arange(count) for count in _going(lengths)])
    order = np.lexsort((np.arange(len(time)), session, time))
    return SimulatedLog(
        _events(user[session][order], session[order], item[order], operation[order], time[order], options),
        _attributes(shop, options),
        product_display(shop, _names("item", options.items), options.seed),
    )


def _schedule(
    options: SimulateOptions, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """User, number of events and start of each session, longest first. A user has at most one session a day."""
    count = options.sessions
    visits = 1 + rng.poisson(options.sessions_per_user - 1, count)
    visits = np.minimum(visits, options.days)
    user = np.repeat(np.arange(count), visits)[:count]
    first = np.flatnonzero(np.diff(user, prepend=-1))
    own = np.diff(np.append(first, count))
    number = np.arange(count) - first[user]
    # Distinct days of a user: sorted draws from the days left over, plus 0, 1, 2...
    draws = np.floor(rng.random(count) * (options.days - own[user] + 1)).astype(np.int64)
    draws = draws[np.lexsort((draws, user))]
    hour = 7.0 + 15.5 * rng.beta(2.4, 2.0, count)
    start = options.start + (draws + number) * DAY + (hour * 3600).astype(np.int64)
    usual = 1.15 + np.log((options.events_per_session - 1) / (USUAL_EVENTS - 1))
    lengths = np.clip(np.rint(np.exp(rng.normal(usual, 0.75, count))) + 1, 2, LONGEST).astype(np.int64)
    longest_first = np.argsort(-lengths, kind="stable")
    return user[longest_first], lengths[longest_first], start[longest_first]


def _going(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many sessions have an event at each step. Shape [longest]."""
    going: NDArray[np.int64] = np.searchsorted(-lengths, -np.arange(lengths[0]), side="left")
    return going


def _event_times(lengths: NDArray[np.int64], start: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Seconds of each event, in step-major order."""
    going = _going(lengths)
    pauses = np.clip(rng.lognormal(3.4, 1.1, (int(going.sum()))), 1, 900)
    elapsed = np.zeros(len(lengths))
    times = np.empty(len(pauses))
    position = 0
    for count in going:
        times[position : position + count] = elapsed[:count]
        elapsed[:count] += pauses[position : position + count]
        position += count
    session = np.concatenate([np.arange(count) for count in going])
    shrink = np.minimum(1.0, SESSION_LIMIT / elapsed)
    seconds: NDArray[np.int64] = start[session] + (times * shrink[session]).astype(np.int64)
    return seconds


def _walk(
    shop: Shop, lengths: NDArray[np.int64], time: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Item and operation of each event, in step-major order."""
    going = _going(lengths)
    first = np.concatenate([[0], np.cumsum(going)])
    item, operation = np.empty(first[-1], np.int64), np.empty(first[-1], np.int64)
    samplers = [GroupSampler(group, shop.weights) for group in shop.groups]
    samplers.append(GroupSampler(np.zeros(len(shop.weights), np.int64), shop.weights))
    for step, count in enumerate(going):
        now = slice(first[step], first[step] + count)
        if step == 0:
            item[now] = _available(shop, time[now], np.full(count, -1), lambda rows: samplers[-1].draw(rows * 0, rng))
            operation[now] = _choose(np.broadcast_to(NEXT_ON_NEW, (count, 5)), rng)
            continue
        before = slice(first[step - 1], first[step - 1] + count)
        last, done = item[before], operation[before]
        repeats = rng.random(count) < REPEAT[done]
        back = np.where(rng.random(count) < REPEAT_LAST, step - 1, rng.integers(0, step, count))
        again = item[first[back] + np.arange(count)]
        item[now] = np.where(repeats, again, _explore(shop, samplers, last, done, time[now], rng))
        odds = np.where(repeats[:, None], NEXT_ON_REPEAT[done], NEXT_ON_NEW)
        operation[now] = _choose(odds, rng)
    return item, operation


def _explore(
    shop: Shop,
    samplers: list[GroupSampler],
    last: NDArray[np.int64],
    done: NDArray[np.int64],
    time: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """An item other than the last, found over the route that the last operation suggests."""
    route = _choose(ROUTES[done], rng)

    def draw(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.empty(len(rows), np.int64)
        for way in range(len(ROUTES)):
            mine = np.flatnonzero(route[rows] == way)
            origin = last[rows[mine]]
            if way == ACCESSORY:
                found[mine] = shop.accessories[origin, rng.integers(0, ACCESSORIES, len(mine))]
            elif way == ANYWHERE:
                found[mine] = samplers[-1].draw(np.zeros(len(mine), np.int64), rng)
            else:
                found[mine] = samplers[way].draw(shop.groups[way][origin], rng)
        return found

    return _available(shop, time, last, draw)


def _available(
    shop: Shop,
    time: NDArray[np.int64],
    last: NDArray[np.int64],
    draw: Callable[[NDArray[np.int64]], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Draws again where an item is not launched yet or is the last one; in the end takes one that is on sale."""
    found = draw(np.arange(len(time)))
    for _ in range(ATTEMPTS):
        rows = np.flatnonzero((shop.launch[found] > time) | (found == last))
        if not len(rows):
            return found
        found[rows] = draw(rows)
    always = int(np.argmin(shop.launch))
    return np.where(shop.launch[found] > time, np.where(last >= 0, last, always), found)


def _choose(odds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A column of each row, with the row's probabilities."""
    drawn = rng.random((len(odds), 1)) < np.cumsum(odds, axis=1)
    column: NDArray[np.int64] = np.argmax(drawn, axis=1)
    return column


def _events(
    user: NDArray[np.int64],
    session: NDArray[np.int64],
    item: NDArray[np.int64],
    operation: NDArray[np.int64],
    time: NDArray[np.int64],
    options: SimulateOptions,
) -> pl.DataFrame:
    """The event table; sessions are numbered in the order in which they begin."""
    first = np.unique(session, return_index=True)[1]
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return pl.DataFrame(
        {
            "session": _names("session", options.sessions)[number[session]],
            "user": _names("user", options.sessions)[user],
            "item": _names("item", options.items)[item],
            "operation": pl.Series(OPERATIONS)[operation],
            "time": time,
        }
    )


def _attributes(shop: Shop, options: SimulateOptions) -> pl.DataFrame:
    count = options.items
    category, seller, brand = shop.groups
    categories = group_names("category", int(category.max()) + 1)
    relations = [
        ("brand", group_names("brand", int(brand.max()) + 1)[brand]),
        ("shop", group_names("shop", int(seller.max()) + 1)[seller]),
        ("category", categories[category]),
        ("category", categories[np.maximum(shop.second_category, 0)]),
        ("launch_year", pl.Series(shop.launch_year).cast(pl.String)),
    ]
    present = [np.ones(count, np.bool_)] * 5
    present[3] = shop.second_category >= 0
    parts = [
        pl.DataFrame({"number": np.arange(count), "item": _names("item", count), "value": values})
        .with_columns(relation=pl.lit(relation))
        .filter(pl.Series(there))
        for (relation, values), there in zip(relations, present, strict=True)
    ]
    return pl.concat(parts).sort("number", maintain_order=True).select("item", "relation", "value")


def _names(kind: str, count: int) -> pl.Series:
    width = max(len(str(count - 1)), 5 if kind == "item" else 2)
    return kind + "-" + pl.Series(np.arange(count)).cast(pl.String).str.zfill(width)

"""The catalogue of the simulated shop: categories, shops and brands, popularity, launches, companions of items.

Nothing is learnt from what its products are called, what they cost and what they look like: that is only shown. A
picture is a small drawing (SVG) in a data address, so that a page can show it without asking anybody for a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import quote

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from mkmsr.config import StrictModel

USUAL_EVENTS = 5.19
ACCESSORIES = 3
"""Companions of each item."""
DAY = 86_400


class SimulateOptions(StrictModel):
    """Size and shape of a simulated log."""

    sessions: int = Field(default=20_000, ge=10)
    """Sessions, each of two events or more."""
    events_per_session: float = Field(default=USUAL_EVENTS, ge=3, le=20)
    """Mean events of a session, nearly: lengths are log-normal, rounded, and at most 80."""
    items: int = Field(default=5_000, ge=50)
    """Items of the catalogue."""
    seed: int = Field(default=0, ge=0)
    """The same seed gives the same log."""
    days: int = Field(default=42, ge=7)
    """Days that the log covers."""
    start: int = Field(default=1_735_689_600, ge=0)
    """First second of the log (UTC); the default is 2025-01-01."""
    sessions_per_user: float = Field(default=3.0, ge=1, le=7)
    """Mean sessions of a user, at most one a day."""
    popularity: float = Field(default=0.8, ge=0, le=2)
    """Exponent of Zipf's law over items; 0 makes all items equally popular."""
    cold_items: float = Field(default=0.12, ge=0, lt=0.5)
    """Share of items launched late: in the last sixth of the log."""


@dataclass(frozen=True)
class Shop:
    """What is on sale.

    Category, shop and brand of each item are `groups` [3, items]; its second category is another one, or -1 [items]. It
    has a popularity, not normalised, comes up for sale at its launch, in seconds since 1970 (UTC), or 0, which is
    always, and has companions, `accessories` [items, ACCESSORIES].
    """

    groups: NDArray[np.int64]
    second_category: NDArray[np.int64]
    weights: NDArray[np.float64]
    launch: NDArray[np.int64]
    launch_year: NDArray[np.int64]
    accessories: NDArray[np.int64]


class GroupSampler:
    """Draws items of given groups, from 0, by weight: each group is an interval of the running sum of weights."""

    def __init__(self, groups: NDArray[np.int64], weights: NDArray[np.float64]):
        self.order = np.argsort(groups, kind="stable")
        self.running = np.concatenate([[0.0], np.cumsum(weights[self.order])])
        self.bounds = np.searchsorted(groups[self.order], np.arange(groups.max() + 2))

    def draw(self, group: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """One item of each given group, which must not be empty. Shape as `group`."""
        begin, end = self.bounds[group], self.bounds[group + 1]
        low, high = self.running[begin], self.running[end]
        place = np.searchsorted(self.running, low + (high - low) * rng.random(len(group)), side="right") - 1
        drawn: NDArray[np.int64] = self.order[np.clip(place, begin, end - 1)]
        return drawn


def stock_shop(options: SimulateOptions, rng: np.random.Generator) -> Shop:
    """A catalogue of about 125 items a category; most shops and brands sell mainly in one of them."""
    items, start, days = options.items, options.start, options.days
    categories = max(4, items // 125)
    category = np.concatenate([np.arange(categories), _skewed(rng, categories, items - categories, 0.4)])
    groups = np.stack([category, _near(category, categories, 5, rng), _near(category, categories, 6, rng)])
    weights = np.power(rng.permutation(items) + 10.0, -options.popularity).astype(np.float64)
    cold = rng.choice(np.arange(categories, items), int(items * options.cold_items), replace=False)
    launch = np.zeros(items, np.int64)
    launch[cold] = start + days * DAY - rng.integers(0, days * DAY // 6, len(cold))
    year = 1970 + int(start / (365.2425 * DAY))
    launch_year = year - np.minimum(rng.geometric(0.3, items), 9)
    launch_year[cold] = year
    companions = GroupSampler(category, np.where(launch > 0, 0.2, 1.0) * weights**0.5)
    beside = (category + 1) % categories
    accessories = np.stack([companions.draw(beside, rng) for _ in range(ACCESSORIES)], axis=1)
    another = (category + rng.integers(1, categories, items)) % categories
    second_category = np.where(rng.random(items) < 0.15, another, -1)
    weights[cold] *= 3.0  # a launch is advertised
    return Shop(groups, second_category, weights, launch, launch_year, accessories)


def _near(category: NDArray[np.int64], categories: int, each: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A group for each item: `each` groups a category, one item in four goes to a group of the next category."""
    home = (category + (rng.random(len(category)) < 0.25)) % categories
    return home * each + _skewed(rng, each, len(category), 0.7)


def _skewed(rng: np.random.Generator, values: int, size: int, exponent: float) -> NDArray[np.int64]:
    weights = np.arange(1, values + 1) ** -exponent
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(size)).clip(max=values - 1)


class Kind(NamedTuple):
    """What a category sells: its name, the name of one piece, a usual price and the outline in a square of 48."""

    plural: str
    singular: str
    price: float
    outline: str


# Accessories come from the category that follows, so each kind stands before one that goes with it.
KINDS = (
    Kind("Phones", "phone", 420, "M16 6h16q3 0 3 3v30q0 3-3 3H16q-3 0-3-3V9q0-3 3-3zM22 37h4"),
    Kind("Phone cases", "phone case", 18, "M15 5h18q4 0 4 4v30q0 4-4 4H15q-4 0-4-4V9q0-4 4-4zM16 10h8v8h-8z"),
    Kind("Chargers", "charger", 24, "M14 14h20v14q0 8-10 8t-10-8zM19 14V6M29 14V6M24 36v7"),
    Kind("Headphones", "headphones", 90, "M9 30q0-20 15-20t15 20v8h-8V27h4q0-12-11-12T13 27h4v11H9z"),
    Kind("Speakers", "speaker", 75, "M13 6h22v36H13zM24 22a8 8 0 1 0 .01 0zM24 11a3 3 0 1 0 .01 0z"),
    Kind("Televisions", "television", 560, "M6 9h36v24H6zM18 40h12M24 33v7"),
    Kind(
        "Controllers", "controller", 48, "M14 14h20q7 0 9 16 1 8-5 6l-6-6H16l-6 6q-6 2-5-6 2-16 9-16zM14 20v6M11 23h6"
    ),
    Kind("Laptops", "laptop", 880, "M11 10h26v20H11zM5 36h38l-4-6H9z"),
    Kind("Mice", "mouse", 32, "M24 6q11 0 11 13v10q0 13-11 13T13 29V19Q13 6 24 6zM24 6v14M13 20h22"),
    Kind("Desks", "desk", 210, "M5 14h38v5H5zM9 19v22M39 19v22M26 19h13v10H26z"),
    Kind("Lamps", "lamp", 45, "M12 20 24 6l12 14zM24 20v18M15 38h18v4H15z"),
    Kind("Notebooks", "notebook", 9, "M12 6h24v36H12zM18 6v36M23 14h8M23 20h8"),
    Kind("Pens", "pen", 6, "M8 40l3-10L33 8l7 7-22 22zM11 30l7 7"),
    Kind("Backpacks", "backpack", 65, "M12 18q0-10 12-10t12 10v24H12zM18 9q0-5 6-5t6 5M17 28h14v8H17z"),
    Kind("Bottles", "bottle", 16, "M19 4h10v6l4 6v26q0 2-2 2H17q-2 0-2-2V16l4-6zM15 24h18"),
    Kind("Trainers", "trainers", 85, "M5 20q8 2 12-6l14 14q12 1 12 8v3H5zM19 18l4-3M23 22l4-3"),
    Kind("Socks", "socks", 8, "M17 5h14v22q0 4-4 7l-8 7q-6 4-9-1t2-8l5-5zM17 12h14"),
    Kind("T-shirts", "T-shirt", 19, "M16 7q8 6 16 0l11 8-5 8-4-3v22H14V20l-4 3-5-8z"),
    Kind("Jackets", "jacket", 120, "M17 6l7 6 7-6 11 8-3 26h-7V22v20H16V22v18H9L6 14zM24 12v30"),
    Kind("Umbrellas", "umbrella", 22, "M5 25Q6 8 24 8t19 17q-5-4-9 0-5-4-10 0-5-4-10 0-4-4-9 0zM24 25v13q0 4 4 4t4-4"),
    Kind("Sunglasses", "sunglasses", 55, "M5 18h16v5q0 8-8 8t-8-8zM27 18h16v5q0 8-8 8t-8-8zM21 20q3-2 6 0"),
    Kind("Cameras", "camera", 340, "M6 14h9l3-5h12l3 5h9v25H6zM24 19a7 7 0 1 0 .01 0z"),
    Kind("Watches", "watch", 150, "M17 5h14l1 10H16zM17 43h14l1-10H16zM24 13a11 11 0 1 0 .01 0zM24 18v6h5"),
    Kind("Mugs", "mug", 12, "M10 12h24v24q0 5-5 5H15q-5 0-5-5zM34 18q8 0 8 7t-8 7M17 4v4M24 4v4"),
)
COLOURS = {
    "teal": "#2a9d8f",
    "red": "#d1495b",
    "blue": "#3a6ea5",
    "yellow": "#edae49",
    "violet": "#8367c7",
    "green": "#6a994e",
    "grey": "#8d99ae",
    "orange": "#e07a3f",
}
GROUNDS = ("#f3efe6", "#e8eef4", "#eef3ea", "#f4eaf0")

FIRST = ("Lu", "Nor", "Vel", "Kai", "Oro", "Tam", "Bri", "Sol", "Mar", "Zen", "Fal", "Ode", "Pim", "Rud", "Hal", "Yar")
LAST = ("maro", "dek", "vento", "lis", "pura", "nova", "bery", "ton", "quist", "ria", "lund", "mex", "gan", "ivo")
STREETS = ("Harbour", "Mill", "Garden", "Castle", "River", "Station", "Bridge", "Orchard", "Lantern", "Meadow", "Canal")
STORES = ("Store", "Market", "Corner", "House", "Arcade", "Outlet", "Gallery", "Depot", "Boutique", "Emporium")


def group_names(group: Literal["category", "shop", "brand"], count: int) -> pl.Series:
    """Return a name for each of `count` groups, no two alike: "Phones", ..., "Phones 2", ..."""
    names = {
        "category": [kind.plural for kind in KINDS],
        "shop": [" ".join(pair) for pair in _pairs(STREETS, STORES)],
        "brand": ["".join(pair) for pair in _pairs(FIRST, LAST)],
    }[group]
    place = np.arange(count)
    again = pl.Series(place // len(names) + 1)
    number = pl.select(pl.when(again > 1).then(pl.concat_str(pl.lit(" "), again.cast(pl.String))).otherwise(pl.lit("")))
    return pl.Series(names)[place % len(names)] + number.to_series()


def product_display(shop: Shop, items: pl.Series, seed: int) -> pl.DataFrame:
    """Return `item`, `relation` (name, price, image) and `value` of each item, as an attribute table has them.

    The seed draws prices and colours, and leaves the draws of the log alone.
    """
    rng = np.random.default_rng([seed, 1])
    category, _, brand = shop.groups
    kind, colour = category % len(KINDS), rng.integers(0, len(COLOURS), len(items))
    names = pl.select(
        pl.concat_str(
            group_names("brand", int(brand.max()) + 1)[brand],
            pl.lit(" "),
            pl.Series([each.singular for each in KINDS])[kind],
            pl.lit(" "),
            pl.Series(_number_within(brand, category)).cast(pl.String),
            pl.lit(", "),
            pl.Series(list(COLOURS))[colour],
        )
    ).to_series()
    prices = np.array([each.price for each in KINDS])[kind] * rng.lognormal(0, 0.35, len(items))
    price = pl.Series([f"€ {max(round(each), 1) - 0.1:.2f}" for each in prices.tolist()])
    picture = (kind * len(COLOURS) + colour) * len(GROUNDS) + brand % len(GROUNDS)
    pictures = [_picture(each, hue, ground) for each in KINDS for hue in COLOURS.values() for ground in GROUNDS]
    parts = [("name", names), ("price", price), ("image", pl.Series(pictures)[picture])]
    return pl.concat(
        [pl.DataFrame({"item": items, "value": values}).with_columns(relation=pl.lit(name)) for name, values in parts]
    ).select("item", "relation", "value")


def _number_within(*groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each item among those of the same groups, from 1. Shape as each of `groups`."""
    order = np.lexsort(groups)
    ordered = np.stack(groups)[:, order]
    is_first = np.concatenate([[True], (ordered[:, 1:] != ordered[:, :-1]).any(0)])
    begins = np.flatnonzero(is_first)
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - begins[np.cumsum(is_first) - 1] + 1
    return places


def _picture(kind: Kind, colour: str, ground: str) -> str:
    drawing = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 48 48'><path fill='{ground}' d='M0 0h48v48H0z'/>"
        f"<path fill='{colour}' fill-rule='evenodd' stroke='#1b2430' stroke-width='1.5' stroke-linejoin='round' "
        f"stroke-linecap='round' d='{kind.outline}'/></svg>"
    )
    return "data:image/svg+xml," + quote(drawing, safe="=:/'")


def _pairs(first: Sequence[str], last: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs, in an order in which the first few differ in both."""
    return [(each, last[(place + turn) % len(last)]) for turn in range(len(last)) for place, each in enumerate(first)]

"""Figure 4 done again: maps of item vectors coloured by an attribute, with numbers that check what the eye sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mkmsr.evaluation.item_space import ItemDifference, chance_purity, item_difference
from mkmsr.reports.canvas import MissingMatplotlibError, canvas, render
from mkmsr.reports.tables import TextTable
from mkmsr.reports.write_up import Drawing, Section, WriteUp

__all__ = ["SPACES", "ItemMaps", "ItemSpace", "figure_4"]

SPACES: Mapping[str, str] = {"word2vec": "Word2Vec", "transh": "TransH alone", "mkm-sr": "MKM-SR"}
"""Where item vectors come from, and what the figure calls it."""

COLOURS = ("#0b6e99", "#c75b12", "#2a8a57", "#a3478f", "#b8860b", "#4a5fc1", "#8c564b", "#5f7f1f")
"""Of the most frequent values of the attribute; readable on white and on black."""


@dataclass(frozen=True)
class ItemSpace:
    """Item vectors of one kind. Values are one an item of the maps, shape [m]; NaN where there is none.

    Args:
        kind: A key of `SPACES`.
        purity: Share of nearest neighbours with the same value of the attribute.
        close: Closeness to items that share a training session.
        close_apart: The same over pairs with different values of the attribute.
        close_later: Closeness to items that share a later session and no training session.
        map: Places on the picture of the shown items. Shape [shown, 2].
    """

    kind: str
    purity: NDArray[np.float64]
    close: NDArray[np.float64]
    close_apart: NDArray[np.float64]
    close_later: NDArray[np.float64]
    map: NDArray[np.float32]


@dataclass(frozen=True)
class ItemMaps:
    """The vectors of one dataset's items.

    Args:
        title: What tables call the data.
        attribute: The relation that colours the maps.
        has: Which item has which value. Shape [m, A].
        shown: Values of the attribute by item shown, as places in `names`. Shape [shown].
        names: The most frequent values, which have a colour.
        spaces: In the order of the panels.
        min_events: Items need so many training events.
    """

    title: str
    attribute: str
    has: NDArray[np.bool_]
    shown: NDArray[np.int64]
    names: tuple[str, ...]
    spaces: tuple[ItemSpace, ...]
    min_events: int

    def space(self, kind: str) -> ItemSpace:
        """The vectors of that kind."""
        return next(space for space in self.spaces if space.kind == kind)


def figure_4(data: Sequence[ItemMaps], *, command: str) -> WriteUp:
    """The whole write-up.

    Args:
        data: One a dataset.
        command: What writes it.
    """
    return WriteUp(
        name="figure4",
        title="Figure 4: where items lie",
        lead=(
            "Item vectors from Word2Vec on the item sequences of training sessions, from TransH on the triples alone, "
            "and from MKM-SR, as t-SNE maps coloured by an attribute. A map shows what one wants to see, so that the "
            "numbers beside it are taken in the full space."
        ),
        sections=tuple(_section(each) for each in data),
        command=command,
    )


def _section(maps: ItemMaps) -> Section:
    return Section(maps.title, _sentences(maps), _drawings(maps), (_numbers(maps),))


def _drawings(maps: ItemMaps) -> tuple[Drawing, ...]:
    try:
        svg = _draw(maps)
    except MissingMatplotlibError:
        return ()
    name = "".join(letter for letter in maps.title.lower() if letter.isalnum())
    description = f"Maps of {len(maps.shown):,} items of {maps.title}, coloured by {maps.attribute}: " + ", ".join(
        f"{SPACES[space.kind]} with a neighbour purity of {100 * np.nanmean(space.purity):.0f} per cent"
        for space in maps.spaces
    )
    caption = (
        f"t-SNE of {len(maps.shown):,} items that have one of the {len(maps.names)} most frequent values of "
        f"{maps.attribute}; below each map, the share of the ten nearest neighbours with the same value, and the "
        "closeness of items that share a session (0.5 is chance)."
    )
    return (Drawing(f"figure4-{name}", svg, description, caption),)


def _draw(maps: ItemMaps) -> bytes:
    with canvas(width=3.1 * len(maps.spaces), height=3.7, panels=len(maps.spaces), shared=False) as (figure, panels):
        for axes, space in zip(panels, maps.spaces, strict=True):
            order = np.random.default_rng(0).permutation(len(maps.shown))  # no value lies on top of the others
            colours = np.array(COLOURS)[maps.shown[order]]
            places = space.map[order]
            axes.scatter(places[:, 0], places[:, 1], c=colours, s=5, linewidths=0, rasterized=True)
            axes.set_title(SPACES[space.kind], loc="left", fontsize=10, fontweight="bold")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[["left", "bottom"]].set_visible(False)
            axes.set_xlabel(f"purity {_percent(space.purity)} %, closeness {_mean(space.close):.3f}")
        handles = [
            panels[0].plot([], [], "o", color=colour, markersize=5, label=name[:24])[0]
            for name, colour in zip(maps.names, COLOURS, strict=False)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        return render(figure, "svg", "figure4")


def _numbers(maps: ItemMaps) -> TextTable:
    rows = [
        (
            SPACES[space.kind],
            _percent(space.purity),
            f"{_mean(space.close):.3f}",
            f"{_mean(space.close_apart):.3f}",
            f"{_mean(space.close_later):.3f}",
        )
        for space in maps.spaces
    ]
    rows.append(("chance", f"{100 * chance_purity(maps.has):.1f}", "0.500", "0.500", "0.500"))
    header = ("vectors", "purity, %", "closeness", "closeness, other value", "closeness, later sessions")
    counted = [int((~np.isnan(maps.spaces[0].close)).sum()), int((~np.isnan(maps.spaces[0].close_later)).sum())]
    notes = (
        f"{len(maps.has):,} items with at least {maps.min_events} training events and a value of {maps.attribute} "
        f"({maps.has.shape[1]:,} values). Purity: share of an item's ten nearest neighbours (cosine) that have its "
        "value.",
        "Closeness: for two items of one training session, the share of random items that are farther away; mean over "
        f"{counted[0]:,} items. Other value: over pairs with different values of the attribute. Later sessions: pairs "
        f"of validation and test sessions that no training session has, over {counted[1]:,} items.",
    )
    return TextTable(f"{maps.title}: item vectors by {maps.attribute}", header, tuple(rows), notes)


def _sentences(maps: ItemMaps) -> tuple[str, ...]:
    """The paper's three statements, each confirmed, refuted or undecided, with numbers."""
    word2vec, transh, mkm_sr = (maps.space(kind) for kind in SPACES)
    mixes = item_difference(transh.purity, word2vec.purity)
    apart = item_difference(word2vec.close_apart, transh.close_apart)
    finds = item_difference(mkm_sr.purity, word2vec.purity)
    keeps = item_difference(mkm_sr.close_apart, transh.close_apart)
    value = maps.attribute
    return (
        f"{_verdict(mixes)}: (a) Word2Vec cannot tell values of {value} apart as TransH can. TransH's purity is "
        f"{_points(mixes)} percentage points above Word2Vec's.",
        f"{_verdict(apart)}: (b) TransH alone puts items that occur together but differ in {value} farther apart than "
        f"Word2Vec does. Word2Vec's closeness of such pairs is {_plain(apart)} above TransH's.",
        f"{_both(finds, keeps)}: (c) MKM-SR tells values of {value} apart and yet keeps items that occur together "
        f"close. Its purity is {_points(finds)} percentage points above Word2Vec's, its closeness of pairs with "
        f"different values {_plain(keeps)} above TransH's.",
    )


def _verdict(found: ItemDifference) -> str:
    return "Confirmed" if found.low > 0 else "Refuted" if found.high < 0 else "Undecided"


def _both(*found: ItemDifference) -> str:
    words = {_verdict(each) for each in found}
    return "Refuted" if "Refuted" in words else "Undecided" if "Undecided" in words else "Confirmed"


def _points(found: ItemDifference) -> str:
    return f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _plain(found: ItemDifference) -> str:
    return f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def _percent(values: NDArray[np.float64]) -> str:
    return f"{100 * _mean(values):.1f}"

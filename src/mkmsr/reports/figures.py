"""Figures of runs, as bytes: metrics with intervals, slices, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from mkmsr.evaluation.ranks import SLICES
from mkmsr.reports.canvas import INKS, FigureFormat, canvas, render
from mkmsr.reports.tables import metric_title
from mkmsr.runtime.events import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FigureRow", "draw_learning_curves", "draw_metrics", "draw_slices"]

Curve: TypeAlias = tuple[str, Sequence[tuple[int, float]]]
"""What a line shows, and its points (epoch, value)."""


@dataclass(frozen=True)
class FigureRow:
    """One run of a figure.

    Args:
        label: What the figure calls it.
        values: By name (of a metric, or of a slice), 0..1; a name may be missing.
        intervals: By the same names; a name may be missing.
        highlight: Whether it is the run that the figure is about.
    """

    label: str
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    highlight: bool = False


def draw_metrics(rows: Sequence[FigureRow], metrics: Sequence[str], format: FigureFormat = "svg") -> bytes:
    """Each metric in a panel: one dot a run, with its interval, per cent.

    Raises:
        MissingMatplotlibError: matplotlib is not installed.
    """
    with canvas(width=2.6 * len(metrics) + 1.2, height=0.34 * len(rows) + 0.8, panels=len(metrics)) as (
        figure,
        panels,
    ):
        for axes, name in zip(panels, metrics, strict=True):
            _draw_dots(axes, rows, name)
            axes.set_title(metric_title(name), loc="left", fontsize=10, fontweight="bold")
            axes.set_xlabel("per cent")
        return render(figure, format, "metrics")


def draw_slices(rows: Sequence[FigureRow], metric: str, format: FigureFormat = "svg") -> bytes:
    """Each slice of the examples in a panel: one dot a run, with its interval, per cent; empty slices are left out.

    Args:
        rows: Runs; `values` and `intervals` by name of the slice.
        metric: What the values are, for the axis.
        format: Of the bytes returned.

    Raises:
        MissingMatplotlibError: matplotlib is not installed.
    """
    names = [name for name in SLICES if any(name in row.values for row in rows)]
    with canvas(width=2.6 * max(len(names), 1) + 1.2, height=0.34 * len(rows) + 0.8, panels=max(len(names), 1)) as (
        figure,
        panels,
    ):
        for axes, name in zip(panels, names, strict=False):
            _draw_dots(axes, rows, name)
            axes.set_title(name.replace("_", " "), loc="left", fontsize=10, fontweight="bold")
            axes.set_xlabel(f"{metric_title(metric)}, per cent")
        return render(figure, format, "slices")


def draw_learning_curves(
    history: Sequence[EpochRecord], metrics: Sequence[str], best_epoch: int | None = None, format: FigureFormat = "svg"
) -> bytes:
    """Losses while training and metrics on validation, a panel each; a dotted line marks the chosen epoch.

    Args:
        history: One record an epoch.
        metrics: At most two names of metrics; one that the history lacks is left out.
        best_epoch: The epoch that validation chose.
        format: Of the bytes returned.

    Raises:
        MissingMatplotlibError: matplotlib is not installed.
    """
    sessions = [(each.epoch, each.train_loss) for each in history if each.train_loss is not None]
    knowledge = [(each.epoch, each.knowledge_loss) for each in history if each.knowledge_loss is not None]
    curves: list[tuple[str, list[Curve]]] = [
        ("session loss", [("training", sessions)]),
        ("knowledge loss", [("training", knowledge)]),
        ("validation, per cent", [(metric_title(name), _validation_points(history, name)) for name in metrics]),
    ]
    shown = [(title, lines) for title, lines in curves if any(points for _, points in lines)]
    count = max(len(shown), 1)
    with canvas(width=3.2 * count, height=2.7, panels=count, shared=False) as (figure, panels):
        for axes, (title, lines) in zip(panels, shown, strict=False):
            axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
            _draw_curves(axes, lines, best_epoch)
        return render(figure, format, "curves")


def _draw_dots(axes: Axes, rows: Sequence[FigureRow], name: str) -> None:
    places = range(len(rows) - 1, -1, -1)
    for place, row in zip(places, rows, strict=True):
        if name not in row.values:
            continue
        ink = INKS["accent"] if row.highlight else INKS["muted"]
        value = 100 * row.values[name]
        low, high = (100 * end for end in row.intervals.get(name, (row.values[name],) * 2))
        axes.plot([low, high], [place, place], color=ink, linewidth=2.4 if row.highlight else 1.4)
        axes.plot([value], [place], "o", color=ink, markersize=7 if row.highlight else 5, clip_on=False)
        axes.annotate(
            f"{value:.1f}",
            (max(high, value), place),
            (7, 0),
            textcoords="offset points",
            va="center",
            color=ink,
            fontsize=8,
        )
    ends = [max(row.intervals.get(name, (0.0, 0.0))[1], row.values.get(name, 0.0)) for row in rows]
    axes.set_yticks(list(places), [row.label for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    right = max(100 * max(ends) * 1.22, 1.0)  # the rest is room for the numbers
    axes.set_xlim(0, right)
    if right > 100:
        axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="x", linewidth=0.6)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _validation_points(history: Sequence[EpochRecord], metric: str) -> list[tuple[int, float]]:
    return [(each.epoch, 100 * each.validation[metric]) for each in history if metric in each.validation]


def _draw_curves(axes: Axes, lines: Sequence[Curve], best_epoch: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    for (label, points), ink, style in zip(lines, ("accent", "warm"), ("-", "--"), strict=False):
        if points:
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, style, color=INKS[ink], linewidth=1.8, marker="o", markersize=3, label=label)
    if best_epoch:
        axes.margins(y=0.12)  # room for the name of the epoch
        axes.axvline(best_epoch, color=INKS["muted"], linewidth=1, linestyle=":")
        late = best_epoch > sum(axes.get_xlim()) / 2
        axes.annotate(
            f"epoch {best_epoch}",
            (best_epoch, 1),
            (-4 if late else 4, 0),
            ha="right" if late else "left",
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            va="top",
            color=INKS["muted"],
            fontsize=8,
        )
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", linewidth=0.6)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)

"""Time and memory over the size of the log or of the catalogue, as `growth.py` measured them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mkmsr.reports.figures import INKS, canvas, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZES = {"log": ("sessions", "sessions of the log"), "catalogue": ("items", "items of the catalogue")}
_PANELS = (("processor seconds", "epoch_seconds", "evaluation_seconds"), ("peak MiB", "training_mib", "evaluation_mib"))
_STYLES = (("training", "-", "o"), ("ranking", "--", "s"))


def draw_growth(
    points: Sequence[Mapping[str, Any]],
    exponents: Sequence[Mapping[str, Any]],
    curve: Literal["log", "catalogue"],
) -> bytes:
    """Seconds on the left, memory on the right, both axes logarithmic, the fits beside the lines' names.

    Args:
        points: Rows of a growth result; those of other curves are left out.
        exponents: Its fits.
        curve: Which sizes grow.
    """
    key, name = _SIZES[curve]
    mine = [point for point in points if point["curve"] == curve]
    fits = {row["model"]: row for row in exponents if row["curve"] == curve}
    with canvas(width=8.4, height=4.2, panels=2, shared=False) as (figure, panels):
        for axes, (title, *measures) in zip(panels, _PANELS, strict=True):
            for model, ink in zip(fits, ("accent", "warm", "muted", "ink"), strict=False):
                rows = sorted((point for point in mine if point["model"] == model), key=lambda point: point[key])
                for measure, (work, dash, mark) in zip(measures, _STYLES, strict=True):
                    axes.plot(
                        [row[key] for row in rows],
                        [row[measure] for row in rows],
                        dash,
                        marker=mark,
                        markersize=4,
                        color=INKS[ink],
                        label=f"{model}, {work} ~ {key}^{fits[model][measure]:.2f}",
                    )
            _finish(axes, title, name)
        return render(figure, f"growth-{curve}")


def _finish(axes: Axes, title: str, name: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(name)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.grid(visible=True, which="major", linewidth=0.6)
    for axis, marks in ((axes.xaxis, (1.0, 3.0)), (axes.yaxis, (1.0, 2.0, 5.0))):
        axis.set_major_locator(LogLocator(subs=marks))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncol=2,
        frameon=False,
        fontsize=7,
        handlelength=1.6,
        columnspacing=1,
    )

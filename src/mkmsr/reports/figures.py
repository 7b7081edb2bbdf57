"""Figures as bytes: metrics with intervals, slices, learning curves, and the canvas that all figures are drawn on.

They are matplotlib figures of their own (no pyplot, no global state) in five named inks, so that an HTML page can show
the same drawing in its own colours, light or dark: see `inline_svg`.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from mkmsr.errors import ConfigError
from mkmsr.evaluation.ranks import SLICES
from mkmsr.reports.tables import metric_title, slice_title
from mkmsr.runtime.events import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INKS: Mapping[str, str] = {
    "ink": "#1b2430",
    "muted": "#5c6675",
    "line": "#d5dae2",
    "accent": "#0b6e6e",
    "warm": "#b0500f",
}
"""Every colour that a figure uses, by name. All but `line` have a contrast of at least 4.5 on white."""

REM_PER_POINT = 0.09
"""Widest that a page shows a figure: its text is then about as large as the page's notes."""

Curve: TypeAlias = tuple[str, Sequence[tuple[int, float]]]
"""What a line shows, and its points (epoch, value)."""


class MissingMatplotlibError(ConfigError):
    """Figures were asked for, but matplotlib is not installed."""


@dataclass(frozen=True)
class FigureRow:
    """One run of a figure: values 0..1 and intervals by name of a metric or slice, any of which may be missing.

    Highlighted is the run that the figure is about.
    """

    label: str
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    highlight: bool = False


def draw_metrics(rows: Sequence[FigureRow], metrics: Sequence[str]) -> bytes:
    """Draw each metric in a panel: one dot a run, with its interval, per cent."""
    panels = {name: (metric_title(name), "per cent") for name in metrics}
    return _draw_panels_of_dots(rows, panels, "metrics")


def draw_slices(rows: Sequence[FigureRow], metric: str) -> bytes:
    """Draw each slice of the examples that is not empty in a panel: one dot a run, with its interval, per cent.

    Values and intervals of the rows are by name of the slice; the metric is what the axis says.
    """
    names = [name for name in SLICES if any(name in row.values for row in rows)]
    panels = {name: (slice_title(name), f"{metric_title(metric)}, per cent") for name in names}
    return _draw_panels_of_dots(rows, panels, "slices")


def draw_learning_curves(
    history: Sequence[EpochRecord], metrics: Sequence[str], best_epoch: int | None = None
) -> bytes:
    """Draw losses while training and metrics on validation, a panel each; a dotted line marks the chosen epoch.

    At most two metrics are drawn; one that the history lacks is left out.
    """

    def validation(metric: str) -> Curve:
        points = [(each.epoch, 100 * each.validation[metric]) for each in history if metric in each.validation]
        return metric_title(metric), points

    sessions = [(each.epoch, each.train_loss) for each in history if each.train_loss is not None]
    knowledge = [(each.epoch, each.knowledge_loss) for each in history if each.knowledge_loss is not None]
    curves: list[tuple[str, list[Curve]]] = [
        ("session loss", [("training", sessions)]),
        ("knowledge loss", [("training", knowledge)]),
        ("validation, per cent", [validation(name) for name in metrics]),
    ]
    shown = [(title, lines) for title, lines in curves if any(points for _, points in lines)]
    count = max(len(shown), 1)
    with canvas(width=3.2 * count, height=2.7, panels=count, shared=False) as (figure, panels):
        for axes, (title, lines) in zip(panels, shown, strict=False):
            panel_title(axes, title)
            _draw_curves(axes, lines, best_epoch)
        return render(figure, "curves")


def inline_svg(svg: bytes, *, name: str, description: str) -> str:
    """Return a drawn figure as markup for an HTML page: its inks become CSS variables, its text the page's.

    The name, unique on the page, goes before its ids; the description is for those who cannot see it.
    """
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<style[^>]*>.*?</style>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id=")([^"]+)"', rf"\g<1>{name}-\g<2>" + '"', text)
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text).replace("fill: #ffffff", "fill: none")
    for ink, colour in INKS.items():
        text = text.replace(colour, f"var(--{ink})")
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    natural = f"--natural: {float(box.group(1).split()[2]) * REM_PER_POINT:.1f}rem"  # else few panels grow to giants
    words = f'role="img" aria-label="{html.escape(description)}"'
    opening = f'<svg class="figure" style="{natural}" {words} viewBox="{box.group(1)}">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1)


@contextmanager
def canvas(*, width: float, height: float, panels: int, shared: bool = True) -> Iterator[tuple[Figure, list[Axes]]]:
    """Open a figure with panels side by side, and the style that holds while it is drawn and rendered.

    Width and height are inches; the panels may share the vertical axis. Raises `MissingMatplotlibError`.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise MissingMatplotlibError("figures need matplotlib; install it with: pip install 'mkmsr[plots]'") from None
    style: dict[Any, Any] = {
        "text.parse_math": False,
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.edgecolor": INKS["line"],
        "axes.labelcolor": INKS["muted"],
        "axes.titlecolor": INKS["ink"],
        "axes.titlepad": 8,
        "text.color": INKS["ink"],
        "xtick.color": INKS["line"],
        "ytick.color": INKS["line"],
        "xtick.labelcolor": INKS["muted"],
        "ytick.labelcolor": INKS["ink"],
        "grid.color": INKS["line"],
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.06), facecolor="white")
        yield figure, list(figure.subplots(1, panels, sharey=shared, squeeze=False)[0])


def render(figure: Figure, salt: str) -> bytes:
    """Return a figure, while its `canvas` is open, as an SVG; with the same salt it has the same bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": salt}), warnings.catch_warnings():  # equal input, equal bytes
        # Text stays text in an SVG, so that whoever shows it needs the font, not we.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", dpi=160, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def panel_title(axes: Axes, title: str) -> None:
    """Write a panel's title above its left edge."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")


def finish_curves(axes: Axes, name: str) -> None:
    """Give a panel of curves over epochs its horizontal axis of that name, and a light grid."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", linewidth=0.6)
    axes.tick_params(length=0)


def _draw_panels_of_dots(rows: Sequence[FigureRow], panels: Mapping[str, tuple[str, str]], salt: str) -> bytes:
    """A panel a name of values, with its title and what its axis says."""
    count = max(len(panels), 1)
    with canvas(width=2.6 * count + 1.2, height=0.34 * len(rows) + 0.8, panels=count) as (figure, drawn):
        for axes, (name, (title, label)) in zip(drawn, panels.items(), strict=False):
            _draw_dots(axes, rows, name)
            panel_title(axes, title)
            axes.set_xlabel(label)
        return render(figure, salt)


def _draw_dots(axes: Axes, rows: Sequence[FigureRow], name: str) -> None:
    places = range(len(rows) - 1, -1, -1)
    right = 0.0
    for place, row in zip(places, rows, strict=True):
        if name not in row.values:
            continue
        ink = INKS["accent"] if row.highlight else INKS["muted"]
        value = 100 * row.values[name]
        low, high = (100 * end for end in row.intervals.get(name, (row.values[name],) * 2))
        right = max(right, high, value)
        axes.plot([low, high], [place, place], color=ink, linewidth=2.4 if row.highlight else 1.4)
        axes.plot([value], [place], "o", color=ink, markersize=7 if row.highlight else 5, clip_on=False)
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": ink, "fontsize": 8}
        axes.annotate(f"{value:.1f}", (max(high, value), place), (7, 0), **beside)
    axes.set_yticks(list(places), [row.label for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    right = max(right * 1.22, 1.0)  # the rest is room for the numbers
    axes.set_xlim(0, right)
    if right > 100:
        axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="x", linewidth=0.6)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _draw_curves(axes: Axes, lines: Sequence[Curve], best_epoch: int | None) -> None:
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
    finish_curves(axes, "epoch")
    axes.spines["left"].set_visible(False)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)

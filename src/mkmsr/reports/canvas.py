"""What every figure is drawn on: matplotlib figures of their own (no pyplot, no global state), returned as bytes.

Drawn in five named inks, so that an HTML page can show the same drawing in its own colours, light or dark: see
`inline_svg`.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from mkmsr.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INKS", "FigureFormat", "MissingMatplotlibError", "canvas", "inline_svg", "render"]

FigureFormat = Literal["svg", "png"]

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


class MissingMatplotlibError(ConfigError):
    """Figures were asked for, but matplotlib is not installed."""


def inline_svg(svg: bytes, *, name: str, description: str) -> str:
    """A drawn figure as markup for an HTML page: its inks become CSS variables, its ids unique, its text the page's.

    Args:
        svg: What a `draw_...` function returned.
        name: Prefix of its ids, unique on the page.
        description: What the figure shows, for those who cannot see it.
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
    """A figure with panels side by side, and the style that holds while it is drawn and rendered.

    Args:
        width: Inches.
        height: Inches.
        panels: How many.
        shared: Whether they share the vertical axis.

    Raises:
        MissingMatplotlibError: matplotlib is not installed.
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


def render(figure: Figure, format: FigureFormat, salt: str) -> bytes:
    """The drawn figure as bytes.

    Args:
        figure: From `canvas`, while it is open.
        format: Of the bytes.
        salt: Makes the ids of an SVG; the same figure with the same salt gives the same bytes.
    """
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": salt}), warnings.catch_warnings():  # equal input, equal bytes
        # Text stays text in an SVG, so that whoever shows it needs the font, not we.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        metadata = {"Date": None, "Creator": None} if format == "svg" else {"Software": None}
        figure.savefig(buffer, format=format, dpi=160, metadata=metadata)
    return buffer.getvalue()

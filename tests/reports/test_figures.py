"""Figures as bytes, and as markup of a page."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from mkmsr.reports.figures import (
    INKS,
    FigureRow,
    MissingMatplotlibError,
    draw_learning_curves,
    draw_metrics,
    draw_slices,
    inline_svg,
)
from mkmsr.runtime.events import EpochRecord

ROWS = [
    FigureRow("mkm-sr", {"hit@20": 0.4, "repeat": 0.8}, {"hit@20": (0.35, 0.45)}, highlight=True),
    FigureRow("pop $x_1$ <b>", {"hit@20": 0.1, "repeat": 0.0}),
]


def texts(svg: bytes) -> list[str]:
    """What can be read in a drawing."""
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_metrics_are_drawn_with_labels_values_and_units() -> None:
    pytest.importorskip("matplotlib")
    shown = texts(draw_metrics(ROWS, ["hit@20"]))
    assert {"mkm-sr", "pop $x_1$ <b>", "Hit@20", "per cent", "40.0", "10.0"} <= set(shown)


def test_no_axis_goes_beyond_all_there_is() -> None:
    pytest.importorskip("matplotlib")
    shown = texts(draw_metrics([FigureRow("recency", {"hit@20": 0.99}, {"hit@20": (0.97, 1.0)})], ["hit@20"]))
    assert {"0", "20", "40", "60", "80", "100"} <= set(shown)
    assert "120" not in shown


def test_slices_without_examples_are_left_out() -> None:
    pytest.importorskip("matplotlib")
    shown = texts(draw_slices(ROWS, "mrr@20"))
    assert "repeat" in shown
    assert "new item" not in shown


def test_learning_curves_have_a_panel_for_each_thing_that_was_recorded() -> None:
    pytest.importorskip("matplotlib")
    both = [EpochRecord(epoch, "sessions", 2.0, 1.0, {"mrr@20": 0.1}) for epoch in (1, 2)]
    sessions_only = [EpochRecord(epoch, "sessions", 2.0, None) for epoch in (1, 2)]
    assert {"session loss", "knowledge loss", "validation, per cent", "epoch 2"} <= set(
        texts(draw_learning_curves(both, ["hit@20", "mrr@20"], 2))
    )
    shown = texts(draw_learning_curves(sessions_only, ["mrr@20"]))
    assert "session loss" in shown
    assert not {"knowledge loss", "validation, per cent"} & set(shown)


def test_equal_input_gives_equal_bytes() -> None:
    pytest.importorskip("matplotlib")
    assert draw_metrics(ROWS, ["hit@20"]) == draw_metrics(ROWS, ["hit@20"])


def test_an_inlined_figure_of_one_panel_is_narrower_than_one_of_three() -> None:
    pytest.importorskip("matplotlib")
    widths = []
    for metrics in (["hit@20"], ["hit@20", "mrr@20", "ndcg@20"]):
        markup = inline_svg(draw_metrics(ROWS, metrics), name="metrics", description="")
        widths.append(float(markup.partition("--natural: ")[2].partition("rem")[0]))
    assert widths == pytest.approx([24.6, 58.3], abs=0.1)


def test_an_inlined_figure_takes_the_colours_of_the_page_and_has_ids_of_its_own() -> None:
    pytest.importorskip("matplotlib")
    markup = inline_svg(draw_metrics(ROWS, ["hit@20"]), name="metrics", description='per "cent"')
    svg = ET.fromstring(markup.replace("xlink:", ""))
    assert (svg.get("role"), svg.get("aria-label")) == ("img", 'per "cent"')
    assert svg.get("viewBox")
    assert not any(colour in markup for colour in INKS.values())
    assert "var(--accent)" in markup
    ids = [each.get("id") for each in svg.iter() if each.get("id")]
    assert ids
    assert all(each.startswith("metrics-") for each in ids if each)
    used = {each.get("href") for each in svg.iter() if each.get("href")}
    assert used <= {f"#{each}" for each in ids}
    assert "http" not in markup


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingMatplotlibError, match=r"pip install 'mkmsr\[plots\]'"):
        draw_metrics(ROWS, ["hit@20"])


def test_drawing_needs_no_pyplot_and_leaves_the_global_style_alone(monkeypatch: Any) -> None:
    mpl = pytest.importorskip("matplotlib")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would now be an error
    keys = ("svg.fonttype", "svg.hashsalt", "font.size", "text.color")
    before = [mpl.rcParams[key] for key in keys]
    draw_metrics(ROWS, ["hit@20"])
    assert [mpl.rcParams[key] for key in keys] == before

"""The drawing of growth curves."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MEASURES = ("epoch_seconds", "training_mib", "evaluation_seconds", "evaluation_mib")


@pytest.fixture
def draw_growth(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("growth_page").draw_growth


def row(curve: str, size: int) -> dict[str, Any]:
    return {"curve": curve, "model": "compass", "sessions": size, "items": size, **dict.fromkeys(MEASURES, float(size))}


def test_memory_within_a_decade_still_has_a_scale_that_can_be_read(draw_growth: Any) -> None:
    points = [row("catalogue", size) for size in (330, 700, 2600)]
    exponents = [{"curve": "catalogue", "model": "compass", **dict.fromkeys(MEASURES, 0.3)}]
    words = re.findall(r"<text[^>]*>([^<]+)</text>", draw_growth(points, exponents, "catalogue").decode())
    assert {"500", "1,000", "2,000"} <= set(words)


def test_the_curve_asked_for_is_drawn_with_its_exponents_and_the_same_bytes_again(draw_growth: Any) -> None:
    points = [row("log", 10), row("log", 20), row("catalogue", 7)]
    exponents = [
        {"curve": curve, "model": "compass", **dict.fromkeys(MEASURES, 1.25)} for curve in ("log", "catalogue")
    ]
    drawn = draw_growth(points, exponents, "log")
    assert drawn == draw_growth(points, exponents, "log")
    text = drawn.decode()
    assert text.count(" ~ sessions^1.25") == 4
    assert "sessions of the log" in text
    assert "items of the catalogue" in draw_growth(points, exponents, "catalogue").decode()

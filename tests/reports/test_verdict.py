"""What a comparison comes to in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mkmsr.reports.comparison import compare_runs, verdict


def said(make_run: Any, *runs: tuple[str, float]) -> str:
    folders: list[Path] = [make_run(name, name, quality, trained=False) for name, quality in runs]
    return verdict(compare_runs(folders, metrics=["hit@20"], reference=runs[0][0], samples=500)).sentence


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [
        ((("pop", 0.5),), "pop has the next item among its first 20 in "),
        ((("a", 0.6), ("b", 0.2), ("c", 0.4)), "a finds the most: a has the next item among its first 20 in "),
        ((("b", 0.2), ("a", 0.6)), "a finds the most: b has the next item among its first 20 in "),
        ((("a", 0.5), ("b", 0.5)), "No clear winner: a has the next item among its first 20 in "),
    ],
    ids=["alone", "best", "beaten", "chance"],
)
def test_a_sentence_names_the_best_model_only_where_the_difference_is_more_than_chance(
    make_run: Any, runs: tuple[tuple[str, float], ...], sentence: str
) -> None:
    assert said(make_run, *runs).startswith(sentence)

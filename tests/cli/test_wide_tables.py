"""A table that is wider than the terminal is cut where a reader would cut it."""

from __future__ import annotations

import io

import pytest

from mkmsr.cli.console import Terminal, pieces_that_fit
from mkmsr.reports.tables import TextTable

COMPARISON = TextTable(
    "Runs, per cent",
    ("model", "Hit@20", "difference", "p", "MRR@20", "difference", "p"),
    (
        ("compass (reference)", "53.09 [49.5, 56.8]", "", "", "21.30 [19.2, 23.5]", "", ""),
        ("mkm-sr", "26.76 [23.9, 30.0]", "-26.33 [-29.5, -23.1]", "< 0.001", "14.82 [12.9, 16.9]", "-6.48", "< 0.001"),
    ),
    ("A note.",),
)


def test_a_metric_keeps_its_difference_and_each_piece_has_the_models() -> None:
    first, second = pieces_that_fit(COMPARISON, 82)
    assert first.header == ("model", "Hit@20", "difference", "p")
    assert second.header == ("model", "MRR@20", "difference", "p")
    assert second.rows[1] == ("mkm-sr", "14.82 [12.9, 16.9]", "-6.48", "< 0.001")
    assert (first.title, second.title) == ("Runs, per cent", "")


def test_a_table_that_fits_is_left_whole() -> None:
    assert list(pieces_that_fit(COMPARISON, 200)) == [COMPARISON]


@pytest.mark.parametrize("width", [10, 30, 60])
def test_every_column_is_there_once_however_narrow_the_terminal(width: int) -> None:
    plain = TextTable("Many", ("system", *(f"data {n}" for n in range(9))), (("a", *map(str, range(9))),))
    pieces = list(pieces_that_fit(plain, width))
    assert [name for piece in pieces for name in piece.header[1:]] == list(plain.header[1:])
    assert all(piece.header[0] == "system" for piece in pieces)


def test_no_cell_of_a_report_is_broken_on_a_terminal_of_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    out = Screen()
    Terminal(out, json_mode=False).show_report(COMPARISON)
    shown = out.getvalue()
    assert all(cell in shown for row in COMPARISON.rows for cell in row)
    assert shown.count("Runs, per cent") == 1
    assert shown.count("A note.") == 1

"""A write-up in every form, and a part of a file that is written again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mkmsr.errors import DataError
from mkmsr.reports.tables import TextTable
from mkmsr.reports.write_up import Section, WriteUp, rewrite_between


def test_what_stands_between_markers_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("above\n<!-- results:begin -->\nold\n<!-- results:end -->\nbelow\n", encoding="utf-8")
    rewrite_between(path, "results", "| new |\n")
    once = path.read_text(encoding="utf-8")
    assert once == "above\n<!-- results:begin -->\n\n| new |\n\n<!-- results:end -->\nbelow\n"
    rewrite_between(path, "results", "| new |\n")
    assert path.read_text(encoding="utf-8") == once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("nothing", "must hold <!-- x:begin --> once, found 0 times"),
        ("<!-- x:begin --><!-- x:end --><!-- x:end -->", "must hold <!-- x:end --> once, found 2 times"),
        ("<!-- x:end --><!-- x:begin -->", "stands before"),
    ],
)
def test_a_file_without_its_markers_is_left_alone(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        rewrite_between(path, "x", "new")
    assert (path.read_text(encoding="utf-8") if text is not None else None) == text


def test_latex_escapes_what_it_would_read_as_commands() -> None:
    table = TextTable("50 % & more", ("a_b", "p"), (("x#1", "< 0.001"), ("own", "-1.5")), ("note {1}",))
    tex = table.latex(own="own")
    assert r"\caption{50 \% \& more}" in tex
    assert re.search(r"x\\#1 +& \\ensuremath{<} 0\.001 +\\\\", tex)
    assert r"\textbf{own} & \textbf{$-$1.5} \\" in tex
    assert r"note \{1\}" in tex


def test_a_page_escapes_what_it_would_read_as_markup() -> None:
    hostile = '<script>alert("1")</script>'
    section = Section(hostile, (hostile,), tables=(TextTable(hostile, (hostile, "n"), ((hostile, "1"),)),))
    assert "<script>" not in WriteUp("x", hostile, hostile, (section,), command=hostile).page()

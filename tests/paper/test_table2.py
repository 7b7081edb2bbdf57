"""Table 2 in words and tables, in every form."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mkmsr.errors import ConfigError, EvaluationError
from mkmsr.paper.systems import SystemTable, compare_systems
from mkmsr.paper.table2 import results_tables, rows_of_table_2, slice_tables, summary_table, table_2
from tests.paper.conftest import system


def test_the_rows_are_the_papers_thirteen_the_rivals_and_the_flagships() -> None:
    rows = rows_of_table_2()
    groups = [group for _, _, group in rows]
    assert groups.count("paper") == 13
    assert [name for _, name, group in rows if group == "flagship"] == ["compass"]
    assert len({name for _, name, _ in rows}) == len(rows)
    with pytest.raises(ConfigError, match="no row for 'nram', did you mean 'narm'"):
        rows_of_table_2(["nram"])


def test_a_system_without_runs_is_named_with_its_reason(table: SystemTable) -> None:
    assert table.row("M-SR") is None
    assert "No finished run of M-SR: killed by SIGKILL." in results_tables(table)[1].notes
    assert table.to_json()["missing"] == {"M-SR": "killed by SIGKILL"}
    with pytest.raises(EvaluationError, match="no system has a finished run on Demo"):
        compare_systems("Demo", [system("M-SR", "paper")])


def test_tables_show_published_and_own_values_and_slices(table: SystemTable) -> None:
    hit, _ = results_tables(table)
    rows = {row[0]: row for row in hit.rows}
    row = table.row("MKM-SR")
    assert row is not None
    assert rows["MKM-SR"][1:3] == ("3", "24.62")
    assert rows["MKM-SR"][3].startswith(f"{100 * row.values['hit@20']:.2f} [")
    assert rows["V-SkNN"][4:] == ("-", "best rival", "-")
    slices = slice_tables(table)[0]
    expected = row.ranks.slices()["repeat"].metrics((20,))["hit@20"]
    assert slices.header[1] == "repeat (60)"
    assert next(each for each in slices.rows if each[0] == "MKM-SR")[1] == f"{100 * expected:.2f}"


def test_the_summary_for_the_readme_has_every_system_once(table: SystemTable) -> None:
    other = replace(table, title="shop", rows=tuple(replace_published(row) for row in table.rows))
    summary = summary_table([table, other])
    assert summary.header == ("system", "Demo published", "Demo", "shop")
    assert [row[0] for row in summary.rows] == ["FPMC", "NARM", "KM-SR", "MKM-SR", "V-SkNN", "COMPASS"]
    assert summary.rows[3][1] == "24.6 / 9.6"
    assert summary.rows[4][1] == ""


def replace_published(row: object) -> object:
    return replace(row, system=replace(row.system, published={}))  # type: ignore[type-var, attr-defined]


def test_the_write_up_comes_as_markdown_latex_csv_and_one_page(table: SystemTable, tmp_path: Path) -> None:
    write_up = replace(table_2([table], fitted_on="train"), command="mkmsr reproduce table2 data/demo --out x")
    write_up.save(tmp_path)
    page = (tmp_path / "table2.html").read_text(encoding="utf-8")
    assert page.count("<h1>") == 1
    assert 'class="own"' in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "mkmsr reproduce table2 data/demo --out x" in page
    text = (tmp_path / "table2.md").read_text(encoding="utf-8")
    reached = [
        row.system.label
        for row in table.rows
        if row.system.published and all(row.values[name] >= row.system.published[name] for name in row.values)
    ]
    assert 0 < len(reached) < 4
    assert f"{len(reached)} of 4 published rows are reached or passed on both metrics; not by " in text
    assert "| COMPASS" in text
    assert (tmp_path / "table2.tex").read_text(encoding="utf-8").count(r"\begin{table}") == 5
    lines = list(csv.DictReader(io.StringIO((tmp_path / "table2.csv").read_text(encoding="utf-8"))))
    found = [line for line in lines if (line["system"], line["metric"], line["slice"]) == ("NARM", "mrr@20", "all")]
    row = table.row("NARM")
    assert row is not None
    assert float(found[0]["value"]) == pytest.approx(row.values["mrr@20"], abs=1e-6)
    assert float(found[0]["published"]) == 0.05645
    json.dumps(table.to_json(), allow_nan=False)


def test_a_table_says_what_it_cost_also_where_that_was_little() -> None:
    quick = system("V-SkNN", "rival", 0.7, processor_seconds=66.0, seconds=90.0)
    slow = system("COMPASS", "flagship", 0.9, 0.9, processor_seconds=900.0, seconds=1200.0)
    for each, said in ((quick, "1.1 minutes of processor time, one thread each: 0.6 on"), (slow, "30 minutes")):
        text = table_2([compare_systems("Demo", [each], samples=50)], fitted_on="train").markdown()
        assert f"They took {said}" in text


def test_literal_rows_stand_behind_the_papers_own_and_are_asked_for_by_their_source() -> None:
    groups = [group for _, _, group in rows_of_table_2()]
    assert list(dict.fromkeys(groups)) == ["paper", "talk", "authors", "rival", "flagship"]
    assert groups.count("talk") == groups.count("authors") == 6
    assert rows_of_table_2(["talk/m-gru-sr"]) == [("M(GRU)-SR (talk)", "talk/m-gru-sr", "talk")]

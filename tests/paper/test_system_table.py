"""Table 2 from ranks with a known answer, and write-ups in every form."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from mkmsr.errors import DataError, EvaluationError
from mkmsr.evaluation.document import evaluation_document
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import bootstrap_intervals, paired_differences
from mkmsr.paper.published import ABLATIONS, BASELINES, SYSTEMS, TABLE_1, TABLE_2
from mkmsr.paper.system_table import SystemRuns, SystemTable, compare_systems, paired, pooled
from mkmsr.paper.table2_text import results_tables, slice_tables, summary_table, table_2
from mkmsr.reports.run_folder import EvaluatedRun
from mkmsr.reports.tables import TextTable
from mkmsr.reports.write_up import Section, WriteUp, latex_table, rewrite_between
from tests.reports.conftest import ranks_for


def runs(model: str, *qualities: float) -> tuple[EvaluatedRun, ...]:
    tables = [ranks_for(f"{model} {seed}", quality) for seed, quality in enumerate(qualities)]
    return tuple(EvaluatedRun(model, evaluation_document(model, "test", each, 60, samples=50), each) for each in tables)


def system(label: str, group: str, *qualities: float) -> SystemRuns:
    published = TABLE_2["Demo"].get(label, {})
    return SystemRuns(label, group, runs(label.lower(), *qualities), published)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def table() -> SystemTable:
    systems = [
        system("FPMC", "paper", 0.02, 0.02, 0.02),
        system("NARM", "paper", 0.4, 0.42, 0.44),
        system("KM-SR", "paper", 0.3, 0.3, 0.3),
        system("MKM-SR", "paper", 0.6, 0.62, 0.64),
        replace(system("M-SR", "paper"), note="killed by SIGKILL"),
        system("V-SkNN", "rival", 0.7),
        system("COMPASS", "flagship", 0.9, 0.9, 0.9),
    ]
    return compare_systems("Demo", systems, samples=500)


def test_published_tables_are_complete() -> None:
    assert list(SYSTEMS) == [*BASELINES, *ABLATIONS, "MKM-SR"]
    assert len(SYSTEMS) == 13
    assert TABLE_1.keys() == TABLE_2.keys()
    assert all(rows.keys() == SYSTEMS.keys() for rows in TABLE_2.values())
    assert TABLE_2["Demo"]["MKM-SR"] == {"hit@20": 0.24623, "mrr@20": 0.09642}
    assert TABLE_2["Demo(N)"]["MKM-SR"] == {"hit@20": 0.1511, "mrr@20": 0.06424}
    assert TABLE_2["JDATA(N)"]["RIB"] == {"hit@20": 0.35551, "mrr@20": 0.1342}
    assert TABLE_2["KKBOX"]["FPMC"] == {"hit@20": 0.05614, "mrr@20": 0.01166}


def test_values_are_means_over_seeds_and_the_deviation_stands_beside_them(table: SystemTable) -> None:
    row = table.row("NARM")
    assert row is not None
    each = [run.document["metrics"]["hit@20"] for run in row.system.runs]
    assert row.values["hit@20"] == pytest.approx(np.mean(each))
    assert row.deviations["hit@20"] == pytest.approx(np.std(each, ddof=1))
    single = table.row("V-SkNN")
    assert single is not None
    assert single.deviations == {}


def test_pooling_one_seed_with_itself_changes_neither_intervals_nor_tests() -> None:
    one, other = ranks_for("a", 0.5), ranks_for("b", 0.6)
    tripled = bootstrap_intervals(pooled([one] * 3), (20,))
    assert tripled["mrr@20"] == pytest.approx(bootstrap_intervals(one, (20,))["mrr@20"])
    found = paired(pooled([one] * 3), other, "mrr@20", samples=400, seed=1)
    expected = paired_differences(one, other, (20,), samples=400, seed=1)["mrr@20"]
    assert astuple(found)[1:] == pytest.approx(astuple(expected)[1:])


def test_pooled_runs_must_rank_the_same_examples() -> None:
    one = ranks_for("a", 0.5)
    with pytest.raises(EvaluationError, match="different examples"):
        pooled([one, replace(one, target=one.target[::-1].copy())])


def test_the_flagship_is_tested_against_the_best_rival_and_is_none_itself(table: SystemTable) -> None:
    assert table.best_rivals == {"hit@20": "V-SkNN", "mrr@20": "V-SkNN"}
    flagship, rival, poor = (table.row(label) for label in ("COMPASS", "V-SkNN", "FPMC"))
    assert flagship is not None
    assert rival is not None
    assert poor is not None
    assert rival.differences == {}
    assert flagship.differences["hit@20"].low > 0
    assert flagship.differences["hit@20"].difference == pytest.approx(
        flagship.values["hit@20"] - rival.values["hit@20"]
    )
    assert poor.differences["mrr@20"].high < 0
    # Ten tests were made: two metrics of five systems that are not the best rival.
    assert min(poor.differences["mrr@20"].p_value, flagship.differences["hit@20"].p_value) >= 10 * 2 / 501 - 1e-12


def test_claims_are_confirmed_or_refuted_by_the_runs(table: SystemTable) -> None:
    found = {claim.text: claim.verdict for claim in table.claims}
    assert found == {"MKM-SR above NARM": "confirmed", "with operations above without": "confirmed"}
    worse = [system("NARM", "paper", 0.6), system("MKM-SR", "paper", 0.1), system("M-SR", "paper", 0.1)]
    verdicts = [claim.verdict for claim in compare_systems("Demo", worse, samples=500).claims]
    assert verdicts == ["refuted", "undecided"]


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
    ranks = pooled([run.ranks for run in row.system.runs if run.ranks is not None])
    expected = ranks.slices()["repeat"].metrics((20,))["hit@20"]
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
    write_up = table_2([table], command="mkmsr reproduce table2 data/demo --out x", fitted_on="train")
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
    quick = replace(system("V-SkNN", "rival", 0.7), processor_seconds=66.0, seconds=90.0)
    slow = replace(system("COMPASS", "flagship", 0.9, 0.9), processor_seconds=900.0, seconds=1200.0)
    for each, said in ((quick, "1.1 minutes of processor time, one thread each: 0.6 on"), (slow, "30 minutes")):
        text = table_2([compare_systems("Demo", [each], samples=50)], command="", fitted_on="train").markdown()
        assert f"They took {said}" in text


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
    tex = latex_table(table, own="own")
    assert r"\caption{50 \% \& more}" in tex
    assert r"x\#1 & $<$ 0.001 \\" in tex
    assert r"\textbf{own} & \textbf{$-$1.5} \\" in tex
    assert r"note \{1\}" in tex


def test_a_page_escapes_what_it_would_read_as_markup() -> None:
    hostile = '<script>alert("1")</script>'
    section = Section(hostile, (hostile,), tables=(TextTable(hostile, (hostile, "n"), ((hostile, "1"),)),))
    assert "<script>" not in WriteUp("x", hostile, hostile, (section,), hostile).page()


def test_ranks_of_a_run_are_needed_for_tests_in_pairs(table: SystemTable) -> None:
    without = replace(runs("pop", 0.3)[0], ranks=None)
    with pytest.raises(EvaluationError, match="kept no ranks"):
        compare_systems("Demo", [SystemRuns("Pop", "rival", (without,), {})])
    assert isinstance(table.rows[0].system.runs[0].ranks, RankTable)

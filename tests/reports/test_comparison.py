"""Runs beside each other, and the tables of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mkmsr.errors import ConfigError, DataError, EvaluationError
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import holm, paired_differences, pooled, pooled_difference
from mkmsr.reports.comparison import compare_runs, read_runs
from mkmsr.reports.run_folder import read_evaluated_run, read_run_folder
from mkmsr.reports.run_report import write_run_report
from mkmsr.reports.tables import comparison_table, metrics_table, percent, slices_table


def test_runs_are_ordered_by_the_first_metric_and_compared_with_the_best(make_run: Any) -> None:
    poor, good = make_run("poor", "pop", 0.2), make_run("good", "mkm-sr", 0.7)
    comparison = compare_runs([poor, good], samples=500)
    assert [row.run.label for row in comparison.rows] == ["mkm-sr", "pop"]
    assert comparison.reference == "mkm-sr"
    best, worst = comparison.rows
    assert (best.is_reference, best.differences) == (True, {})
    assert worst.differences["hit@20"].high < 0
    assert worst.differences["hit@20"].p_value < 0.05


def test_p_values_are_corrected_for_every_test_of_the_table(make_run: Any) -> None:
    folders = [make_run(name, name, quality) for name, quality in (("a", 0.6), ("b", 0.55), ("c", 0.5))]
    comparison = compare_runs(folders, reference="a", samples=500)
    reference = RankTable.load(folders[0] / "ranks.parquet")
    others = [row for row in comparison.rows if not row.is_reference]
    raw = [
        paired_differences(row.run.ranks, reference, (20,), samples=500)[name].p_value  # type: ignore[arg-type]
        for row in others
        for name in comparison.metrics
    ]
    assert [row.differences[name].p_value for row in others for name in comparison.metrics] == holm(raw)


def test_a_reference_may_be_named_and_a_misspelt_one_is_an_error(make_run: Any) -> None:
    folders = [make_run("a", "pop", 0.2), make_run("b", "mkm-sr", 0.6)]
    assert compare_runs(folders, reference="pop", samples=100).reference == "pop"
    with pytest.raises(EvaluationError, match="no run 'mkmsr' to compare with, did you mean 'mkm-sr'"):
        compare_runs(folders, reference="mkmsr")


def test_two_runs_of_one_model_are_told_apart_by_their_folders(make_run: Any) -> None:
    folders = [make_run("seed-1", "mkm-sr", 0.5), make_run("seed-2", "mkm-sr", 0.5), make_run("p", "pop", 0.1)]
    assert [run.label for run in read_runs(folders)] == ["mkm-sr (seed-1)", "mkm-sr (seed-2)", "pop"]
    documents = [json.loads((folder / "metrics.json").read_text())["test"] for folder in folders]
    assert [run.label for run in read_runs(documents)] == ["mkm-sr #1", "mkm-sr #2", "pop"]


def test_runs_that_differ_in_the_seed_alone_are_pooled(make_run: Any) -> None:
    seeds = [make_run(f"seed-{seed}", "mkm-sr", 0.5) for seed in (0, 1, 2)]
    other, rival = make_run("wider", "mkm-sr", 0.55), make_run("neighbours", "v-sknn", 0.3)
    for folder, dim in [*((each, 100) for each in seeds), (other, 200), (rival, 100)]:
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**metrics, "config": {"model": {"dim": dim}}}))
    comparison = compare_runs([*seeds, other, rival], pool_seeds=True, reference="v-sknn", samples=500)
    assert {row.run.label for row in comparison.rows} == {"mkm-sr (3 seeds)", "mkm-sr", "v-sknn"}
    row = next(row for row in comparison.rows if "seeds" in row.run.label)
    tables = [RankTable.load(folder / "ranks.parquet") for folder in seeds]
    mean = sum(each.metrics((20,))["mrr@20"] for each in tables) / 3
    assert row.run.document["metrics"]["mrr@20"] == pytest.approx(mean)
    expected = pooled_difference(pooled(tables), RankTable.load(rival / "ranks.parquet"), "mrr@20", samples=500)
    assert row.differences["mrr@20"].difference == pytest.approx(expected.difference)
    assert row.differences["mrr@20"].low == pytest.approx(expected.low)


def test_a_seed_without_its_ranks_is_not_pooled(make_run: Any) -> None:
    seeds = [make_run(f"seed-{seed}", "mkm-sr", 0.5) for seed in (0, 1)]
    for folder in seeds:
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**metrics, "config": {}}))
    (seeds[1] / "ranks.parquet").unlink()
    with pytest.raises(EvaluationError, match="seed-1: the run kept no ranks"):
        compare_runs(seeds, pool_seeds=True)


def test_printed_metrics_can_be_compared_too_but_only_tested_with_their_ranks(make_run: Any, tmp_path: Path) -> None:
    good, poor = make_run("good", "mkm-sr", 0.7), make_run("poor", "pop", 0.2)
    printed = tmp_path / "pop.json"
    printed.write_text(json.dumps(json.loads((poor / "metrics.json").read_text())["test"]))
    comparison = compare_runs([good, printed], samples=100)
    assert comparison.rows[1].differences == {}
    assert "Not tested, since ranks are missing on one side: pop." in comparison_table(comparison).notes
    (poor / "ranks.parquet").rename(tmp_path / "pop.parquet")
    assert compare_runs([good, printed], samples=100).rows[1].differences


def test_a_table_says_which_models_read_more_than_others(make_run: Any) -> None:
    folders = [make_run(name, name, quality) for name, quality in (("a", 0.6), ("b", 0.55), ("c", 0.5))]
    for folder, fitted_on in zip(folders, ("train and validation", "train", "train and validation"), strict=True):
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**metrics, "fitted_on": fitted_on}))
    note = "Not fitted alike, which favours those that read more: a, c on train and validation; b on train."
    assert note in comparison_table(compare_runs(folders, samples=100)).notes
    alike = comparison_table(compare_runs([folders[0], folders[2]], samples=100))
    assert not any("fitted" in each for each in alike.notes)
    write_run_report(folders[0], baselines=folders[1:], samples=100)
    again = write_run_report(folders[0], samples=100).read_text(encoding="utf-8")  # From what was copied of them.
    assert note in again


def test_runs_over_other_data_cannot_be_compared(make_run: Any) -> None:
    with pytest.raises(EvaluationError, match="a and b cannot be compared: examples is 240 against 120"):
        compare_runs([make_run("x", "a", 0.5), make_run("y", "b", 0.4, examples=120)])
    run = make_run("z", "c", 0.3)
    ranks = RankTable.load(run / "ranks.parquet")
    replace(ranks, target=ranks.target + 1).save(run / "ranks.parquet")
    with pytest.raises(EvaluationError, match=r"a and c cannot be compared: .* 240 of 240 rows differ in target"):
        compare_runs([make_run("w", "a", 0.5), run])


def test_an_unknown_metric_is_an_error_that_names_the_known_ones(make_run: Any) -> None:
    run = make_run("x", "a")
    with pytest.raises(EvaluationError, match=r"a has no metric 'mrr@200', did you mean 'mrr@20'\?; it has hit@5"):
        compare_runs([run], metrics=["mrr@200"])
    with pytest.raises(EvaluationError, match="metrics are hit@K, mrr@K and ndcg@K"):
        compare_runs([run], metrics=["recall"])
    with pytest.raises(EvaluationError, match="give at least one run"):
        compare_runs([])


def test_the_json_of_a_comparison_keeps_shares_and_says_how_it_was_corrected(make_run: Any) -> None:
    document = compare_runs([make_run("g", "mkm-sr", 0.7), make_run("p", "pop", 0.2)], samples=100).to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["correction"] == "holm"
    assert set(document["runs"][1]["differences"]["hit@20"]) == {
        "difference",
        "low",
        "high",
        "p_value",
        "resolution",
    }
    assert 0 < document["runs"][0]["metrics"]["hit@20"] < 1


def test_a_folder_without_a_run_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics\.json: no such file; `mkmsr train"):
        read_run_folder(tmp_path)


def test_an_unfinished_run_and_a_bundle_are_no_runs_to_compare(tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    with pytest.raises(DataError, match=r"holds a run that is not finished; `mkmsr train \.\.\. --resume` goes on"):
        compare_runs([tmp_path])
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").touch()
    with pytest.raises(DataError, match=rf"bundle: is the model of a run; the run itself is {tmp_path}$"):
        compare_runs([tmp_path / "bundle"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read as JSON"), ("[]", "expected one JSON object, found list"), ("{}", "no evaluation in it")],
)
def test_a_file_that_holds_no_evaluation_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_evaluated_run(tmp_path / "metrics.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", {"hit@20": "x"}),
        ("metrics", [1]),
        ("intervals", {"hit@20": [0.1]}),
        ("examples", None),
        ("slices", 7),
    ],
)
def test_an_evaluation_with_values_of_another_kind_is_an_error_that_names_them(
    make_run: Any, key: str, value: Any
) -> None:
    metrics = json.loads((make_run("x") / "metrics.json").read_text())
    with pytest.raises(ConfigError, match=rf"^{key}"):
        compare_runs([{**metrics["test"], key: value}])


def test_ranks_of_another_evaluation_are_refused(make_run: Any) -> None:
    run = make_run("x")
    RankTable.load(run / "ranks.parquet").slices()["repeat"].save(run / "ranks.parquet")
    with pytest.raises(DataError, match="of another evaluation: 60 examples, not 240"):
        read_evaluated_run(run)


def test_a_run_that_never_saw_the_test_is_read_with_its_validation(make_run: Any) -> None:
    run = make_run("x")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["validation"] = {**metrics.pop("test"), "split": "validation"}
    (run / "metrics.json").write_text(json.dumps({**metrics, "test": None}))
    assert read_evaluated_run(run).document["split"] == "validation"


def test_tables_show_per_cent_with_two_decimals_and_intervals(make_run: Any) -> None:
    run = read_evaluated_run(make_run("x", quality=0.5))
    value, (low, high) = run.document["metrics"]["hit@20"], run.document["intervals"]["hit@20"]
    table = metrics_table([run], ["hit@20"])
    assert table.header == ("model", "Hit@20")
    assert table.rows == (("mkm-sr", f"{100 * value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"),)
    assert percent(0.24623) == "24.62"
    assert percent(None) == "-"


def test_the_table_of_slices_says_how_many_examples_each_holds(make_run: Any) -> None:
    table = slices_table([read_evaluated_run(make_run("x"))], "mrr@20")
    assert table.header == ("model", "repeat (60)", "new item (48)", "seen (144)")
    assert "new item: the next item occurs in no session before this split." in table.notes


def test_markdown_is_aligned_and_survives_odd_labels(make_run: Any) -> None:
    text = metrics_table([read_evaluated_run(make_run("x", "a|b <i>"))], ["hit@20"]).markdown()
    title, _, *lines = text.strip().splitlines()
    assert title == "**Metrics, per cent [95 % interval over sessions]**"
    assert len({len(line) for line in lines}) == 1
    assert re.fullmatch(r"\|:-+\|-+:\|", lines[1])
    assert lines[2].startswith("| a\\|b &lt;i> |")

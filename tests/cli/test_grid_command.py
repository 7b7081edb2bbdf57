"""`mkmsr grid`: models x data x seeds, resumable, with a table of pooled seeds for each data set."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from small_shop import small_shop

from mkmsr.cli.app import run


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    small_shop().save(tmp_path / "one")
    small_shop().save(tmp_path / "two")
    return [str(tmp_path / "one"), str(tmp_path / "two")]


def test_every_model_is_run_on_every_data_set_and_compared(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "grid"
    assert run(["grid", *data, "--models", "pop, recency", "--out", str(out), "--json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert [each["data"] for each in documents] == ["one", "two"]
    for each in documents:
        assert {row["label"] for row in each["runs"]} == {"pop", "recency"}
    for ending in ("md", "tex", "csv"):
        assert "recency" in (out / f"one.{ending}").read_text("utf-8")
    assert {path.parts[-3] for path in out.glob("*/*/*/metrics.json")} == {"pop", "recency"}


def test_the_same_call_with_another_model_runs_that_one_alone(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["grid", data[0], "--out", str(tmp_path / "grid"), "--models"]
    assert run([*words, "pop"]) == 0
    [before] = (tmp_path / "grid" / "one").glob("pop/*/metrics.json")
    os.utime(before, (1, 1))
    assert run([*words, "pop,recency"]) == 0
    assert before.stat().st_mtime == 1
    assert "recency" in capsys.readouterr().out


def test_an_unknown_model_is_told_before_anything_runs(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["grid", *data, "--models", "pop,compas", "--out", str(tmp_path / "grid")]) == 2
    assert "compass" in capsys.readouterr().err


@pytest.mark.slow
def test_seeds_of_a_network_are_pooled(data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--models", "narm,pop", "--seeds", "2", "--epochs", "1", "--out", str(tmp_path / "grid")]
    assert run(["grid", data[0], *words]) == 0
    assert "narm (2 seeds)" in capsys.readouterr().out
    assert len(list((tmp_path / "grid").glob("one/narm/*/metrics.json"))) == 2
    assert len(list((tmp_path / "grid").glob("one/pop/*/metrics.json"))) == 1

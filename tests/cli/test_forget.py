"""`mkmsr forget` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from mkmsr.cli.app import run


def test_a_visitor_of_a_log_is_taken_out_of_data_and_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, bundle, visitor = str(tmp_path / "data"), str(tmp_path / "run" / "bundle"), str(tmp_path / "visitor.csv")
    log = str(tmp_path / "events.parquet")
    assert run(["simulate", "--out", str(tmp_path), "--sessions", "300", "--items", "60"]) == 0
    assert run(["prepare", "events", log, "--out", data]) == 0
    assert run(["train", data, "--model", "s-knn", "--out", str(tmp_path / "run")]) == 0
    events = pl.read_parquet(log).sort("time")
    events = events.filter(pl.col("session") == events["session"][0])
    events.write_csv(visitor)
    capsys.readouterr()
    assert run(["forget", data, visitor, "--bundle", bundle, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sessions"] == {"train": 1, "validation": 0, "test": 0}
    assert found["events"] == events.height
    assert found["bundles"] == {bundle: 1}
    assert run(["forget", data, visitor, "--bundle", bundle]) == 0
    assert "0 sessions of 0 events removed" in capsys.readouterr().out

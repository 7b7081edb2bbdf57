"""The campaign of kills and changed inputs in small: `make faults` runs it whole."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

FAULTS = Path(__file__).parents[1] / "benchmarks" / "faults"
SURFACES = ["SQL", "bundle", "prepared data", "events CSV", "quoted CSV", "JSON lines", "Parquet", "attributes"]
SURFACES += ["presplit", "TOML", "sessions", "filters", "checkpoint", "service"]


@pytest.mark.parametrize("name", SURFACES)
def test_a_changed_input_is_read_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FAULTS)
    inputs, surfaces = (importlib.import_module(each) for each in ("inputs", "surfaces"))
    surface = surfaces.surface_of(name, tmp_path)
    seeds = surface.seeds()
    for number in range(12):
        chance = Random(f"{name} {number}")
        given = surface.change(chance.choice(seeds), chance)
        assert inputs.outcome_of(surface.read, tmp_path / "input", given) in ("read", "refused"), number


def test_an_input_that_is_treated_wrongly_is_told_by_kind_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FAULTS)
    inputs = importlib.import_module("inputs")
    monkeypatch.setattr(inputs, "SECONDS", 0.05)

    def fail(_at: Path, _given: dict[str, bytes]) -> None:
        from mkmsr.config import dotted

        dotted(None)  # type: ignore[arg-type]

    def hang(_at: Path, _given: dict[str, bytes]) -> None:
        while True:
            pass

    assert inputs.outcome_of(fail, tmp_path / "a", {}).startswith("AttributeError at config.py:")
    assert inputs.outcome_of(hang, tmp_path / "a", {}) == "longer than 0.05 s"


@pytest.mark.slow
def test_killed_commands_lose_nothing(tmp_path: Path) -> None:
    call = [
        sys.executable,
        FAULTS / "kills.py",
        "--out",
        tmp_path,
        "--only",
        "prepare",
        "bulk",
        "serve",
        "--ends",
        "3",
    ]
    subprocess.run(call, check=True, capture_output=True)
    for name, found in json.loads((tmp_path / "kills.json").read_text()).items():
        assert found["ended"] == {"SIGKILL": 1, "SIGTERM": 1, "full disk": 1}
        assert found["faults"] == [], name


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FAULTS.parent)
    return importlib.import_module("audit").verdict


def test_an_audit_names_known_holes_and_says_when_nobody_could_be_asked(verdict: Any) -> None:
    safe = {"name": "numpy", "version": "2.0", "vulns": []}
    hole = {"name": "jinja2", "version": "3.1.2", "vulns": [{"id": "CVE-2024-22195", "fix_versions": ["3.1.3"]}]}
    unknown = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
    assert verdict([unknown])[1].startswith("audit skipped")
    assert verdict([safe, unknown]) == (True, "audited 1 packages, 0 known holes; not in the database: 1")
    is_safe, text = verdict([safe, hole])
    assert not is_safe
    assert text.startswith("jinja2 3.1.2: CVE-2024-22195, mended in 3.1.3")

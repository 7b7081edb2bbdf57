"""Runs of systems with known ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mkmsr.evaluation.document import evaluation_document
from mkmsr.paper.published import TABLE_2
from mkmsr.paper.systems import Group, System, SystemTable, compare_systems
from mkmsr.reports.run_folder import EvaluatedRun, RunFolder
from tests.reports.conftest import ranks_for


def runs(model: str, *qualities: float, **metrics: float) -> tuple[RunFolder, ...]:
    found = []
    for seed, quality in enumerate(qualities):
        ranks = ranks_for(f"{model} {seed}", quality)
        run = EvaluatedRun(model, evaluation_document(model, "test", ranks, 60, samples=50), ranks)
        found.append(RunFolder(Path(f"seed-{seed}"), run, {"seconds": 1.0, **metrics}, "", (), {}))
    return tuple(found)


def system(label: str, group: Group, *qualities: float, **metrics: float) -> System:
    return System(label, group, runs(label.lower(), *qualities, **metrics), TABLE_2["Demo"].get(label, {}))


@pytest.fixture(scope="session")
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

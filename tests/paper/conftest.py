"""Runs of systems with known ranks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mkmsr.evaluation.document import evaluation_document
from mkmsr.paper.published import TABLE_2
from mkmsr.paper.systems import System, SystemTable, compare_systems
from mkmsr.reports.run_folder import EvaluatedRun
from tests.reports.conftest import ranks_for


def runs(model: str, *qualities: float) -> tuple[EvaluatedRun, ...]:
    tables = [ranks_for(f"{model} {seed}", quality) for seed, quality in enumerate(qualities)]
    return tuple(EvaluatedRun(model, evaluation_document(model, "test", each, 60, samples=50), each) for each in tables)


def system(label: str, group: str, *qualities: float) -> System:
    published = TABLE_2["Demo"].get(label, {})
    return System(label, group, runs(label.lower(), *qualities), published)  # type: ignore[arg-type]


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

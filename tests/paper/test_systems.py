"""Systems from ranks with a known answer: means, tests and the paper's claims."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mkmsr.errors import EvaluationError
from mkmsr.paper.systems import System, SystemTable, compare_systems
from tests.paper.conftest import runs, system


def test_values_are_means_over_seeds_and_the_deviation_stands_beside_them(table: SystemTable) -> None:
    row = table.row("NARM")
    assert row is not None
    each = [each.run.document["metrics"]["hit@20"] for each in row.system.runs]
    assert row.values["hit@20"] == pytest.approx(np.mean(each))
    assert row.deviations["hit@20"] == pytest.approx(np.std(each, ddof=1))
    single = table.row("V-SkNN")
    assert single is not None
    assert single.deviations == {}


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
    assert found == {"MKM-SR above NARM": "confirmed", "MKM-SR above KM-SR": "confirmed"}
    worse = [system("NARM", "paper", 0.6), system("MKM-SR", "paper", 0.1), system("M-SR", "paper", 0.1)]
    verdicts = [claim.verdict for claim in compare_systems("Demo", worse, samples=500).claims]
    assert verdicts == ["refuted", "undecided"]


def test_claims_are_tested_under_each_setting_of_the_paper_by_itself() -> None:
    rows = [system(label, "talk", quality) for label, quality in (("MKM-SR (talk)", 0.3), ("KM-SR (talk)", 0.6))]
    claims = compare_systems("Demo", [system("NARM", "paper", 0.6), *rows], samples=500).claims
    assert [(claim.text, claim.verdict) for claim in claims] == [
        ("MKM-SR (talk) above NARM", "refuted"),
        ("MKM-SR (talk) above KM-SR (talk)", "refuted"),
    ]


def test_ranks_of_a_run_are_needed_for_tests_in_pairs() -> None:
    (pop,) = runs("pop", 0.3)
    without = replace(pop, run=replace(pop.run, ranks=None))
    with pytest.raises(EvaluationError, match="kept no ranks"):
        compare_systems("Demo", [System("Pop", "rival", (without,), {})])

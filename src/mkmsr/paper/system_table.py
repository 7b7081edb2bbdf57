"""Table 2 done again: systems on the same examples, over seeds, beside their published values, tested in pairs.

A system's runs with several seeds are pooled: their rows stand under one another, so that means are means over seeds,
and resampling sessions draws a session with all its seeds. Intervals thus hold what other sessions would change; what
other seeds would change is the standard deviation beside them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import stdev
from typing import Any, Literal

import numpy as np

from mkmsr.errors import EvaluationError
from mkmsr.evaluation.ranks import SLICES, RankTable
from mkmsr.evaluation.significance import PairedDifference, bootstrap_intervals, holm, paired_differences
from mkmsr.paper.published import ABLATIONS, BASELINES
from mkmsr.reports.run_folder import EvaluatedRun

__all__ = [
    "METRICS",
    "SIGNIFICANT",
    "Claim",
    "Group",
    "SystemRow",
    "SystemRuns",
    "SystemTable",
    "Verdict",
    "compare_systems",
    "corrected_by_holm",
    "differences_json",
    "paired",
    "pooled",
    "ranks_of",
    "verdict",
]

METRICS = ("hit@20", "mrr@20")
"""What the paper reports."""

SIGNIFICANT = 0.05
"""P-value, corrected by Holm, below which a difference counts."""

Group = Literal["paper", "rival", "flagship"]
Verdict = Literal["confirmed", "refuted", "undecided"]


@dataclass(frozen=True)
class SystemRuns:
    """What is known about one system on one dataset.

    Args:
        label: What the table calls it.
        group: A row of the paper's table, a rival that it left out, or the model that we recommend.
        runs: Its evaluations on the test split, one a seed, with ranks; empty if every run failed.
        published: The paper's values by metric, 0..1; empty if it has none.
        seconds: Mean wall time of a run.
        processor_seconds: Mean processor time of a run; of a run that did not count it, its wall time.
        note: Why runs are missing.
    """

    label: str
    group: Group
    runs: tuple[EvaluatedRun, ...]
    published: Mapping[str, float]
    seconds: float = 0.0
    processor_seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class SystemRow:
    """One system's row; all values 0..1, by metric.

    Args:
        system: What it is.
        values: Mean over examples and seeds.
        deviations: Standard deviation over seeds; empty with one seed.
        intervals: 95 % over resampled sessions.
        slices: By slice, then by metric; a slice without examples is left out.
        differences: From the best rival by each metric, p-values corrected by Holm; the rival itself has none.
    """

    system: SystemRuns
    values: Mapping[str, float]
    deviations: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    slices: Mapping[str, Mapping[str, float]]
    differences: Mapping[str, PairedDifference]


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, and what our runs say.

    Args:
        question: Which of the paper's research questions.
        text: "A against B".
        verdict: By MRR@20: "confirmed" or "refuted" where the difference is significant, else "undecided".
        differences: First minus second, by metric; p-values corrected by Holm over all claims on this data.
    """

    question: str
    text: str
    verdict: Verdict
    differences: Mapping[str, PairedDifference]


@dataclass(frozen=True)
class SystemTable:
    """Table 2 for one dataset.

    Args:
        title: What tables call the data.
        examples: Test examples.
        candidates: Items ranked for each.
        rows: In the order given.
        missing: Systems without a finished run.
        best_rivals: Label of the best system that is not the flagship, by metric.
        claims: The paper's statements, tested.
    """

    title: str
    examples: int
    candidates: int
    rows: tuple[SystemRow, ...]
    missing: tuple[SystemRuns, ...]
    best_rivals: Mapping[str, str]
    claims: tuple[Claim, ...]

    def row(self, label: str) -> SystemRow | None:
        """The row of that label, if there is one."""
        return next((row for row in self.rows if row.system.label == label), None)

    def to_json(self) -> dict[str, Any]:
        """The table as plain data."""
        return {
            "data": self.title,
            "examples": self.examples,
            "candidates": self.candidates,
            "metrics": list(METRICS),
            "best_rivals": dict(self.best_rivals),
            "rows": [_row_json(row) for row in self.rows],
            "missing": {system.label: system.note for system in self.missing},
            "claims": [
                {
                    "question": claim.question,
                    "claim": claim.text,
                    "verdict": claim.verdict,
                    "differences": differences_json(claim.differences),
                }
                for claim in self.claims
            ],
        }


def compare_systems(title: str, systems: Sequence[SystemRuns], *, samples: int = 10_000, seed: int = 0) -> SystemTable:
    """The table of some systems on one dataset.

    Args:
        title: What tables call the data.
        systems: In the order of the table's rows; every run has ranks.
        samples: Resamples of every interval and test.
        seed: Of the resampling.

    Raises:
        EvaluationError: No system has a finished run, or runs ranked different examples.
    """
    present = [system for system in systems if system.runs]
    if not present:
        raise EvaluationError(f"no system has a finished run on {title}")
    tables = {system.label: pooled([ranks_of(run) for run in system.runs]) for system in present}
    rows = [_row(system, tables[system.label], samples, seed) for system in present]
    rivals = [row for row in rows if row.system.group != "flagship"]
    best = {metric: _best(rivals, metric).system.label for metric in METRICS} if rivals else {}
    raw = [
        {
            metric: paired(tables[row.system.label], tables[label], metric, samples=samples, seed=seed)
            for metric, label in best.items()
            if label != row.system.label
        }
        for row in rows
    ]
    corrected = corrected_by_holm(raw)
    first = present[0].runs[0].document
    return SystemTable(
        title=title,
        examples=int(first["examples"]),
        candidates=int(first["candidates"]),
        rows=tuple(replace(row, differences=found) for row, found in zip(rows, corrected, strict=True)),
        missing=tuple(system for system in systems if not system.runs),
        best_rivals=best,
        claims=_claims(rows, tables, samples, seed),
    )


def pooled(tables: Sequence[RankTable]) -> RankTable:
    """The rows of several runs over the same examples under one another, see the top of this file.

    Raises:
        EvaluationError: They ranked different examples.
    """
    for table in tables[1:]:
        tables[0].check_same_examples(table)
    return RankTable(
        **{each.name: np.concatenate([getattr(table, each.name) for table in tables]) for each in fields(RankTable)}
    )


def verdict(difference: PairedDifference) -> Verdict:
    """Whether the first system is better than the second beyond what other sessions would change."""
    if difference.p_value >= SIGNIFICANT:
        return "undecided"
    return "confirmed" if difference.difference > 0 else "refuted"


def paired(first: RankTable, second: RankTable, metric: str, *, samples: int, seed: int) -> PairedDifference:
    """The difference of one metric between two pooled tables, whose numbers of seeds may differ."""
    rows = math.lcm(len(first), len(second))
    one, other = (pooled([table] * (rows // len(table))) for table in (first, second))
    return paired_differences(one, other, (int(metric.partition("@")[2]),), samples=samples, seed=seed)[metric]


def corrected_by_holm(raw: Sequence[Mapping[str, PairedDifference]]) -> list[dict[str, PairedDifference]]:
    """The same differences with p-values corrected by Holm for all of them together."""
    adjusted = iter(holm([found.p_value for each in raw for found in each.values()]))
    return [{name: replace(found, p_value=next(adjusted)) for name, found in each.items()} for each in raw]


def ranks_of(run: EvaluatedRun) -> RankTable:
    """The run's rank of every example.

    Raises:
        EvaluationError: It kept none.
    """
    if run.ranks is None:
        raise EvaluationError(f"{run.path or run.label}: the run kept no ranks, so that it cannot be compared in pairs")
    return run.ranks


def _row(system: SystemRuns, table: RankTable, samples: int, seed: int) -> SystemRow:
    ks = sorted({int(metric.partition("@")[2]) for metric in METRICS})
    values = table.metrics(ks)
    each = [ranks_of(run).metrics(ks) for run in system.runs]
    intervals = bootstrap_intervals(table, ks, samples=samples, seed=seed)
    slices = {name: part.metrics(ks) for name, part in table.slices().items() if len(part)}
    return SystemRow(
        system=system,
        values={metric: values[metric] for metric in METRICS},
        deviations={metric: stdev(run[metric] for run in each) for metric in METRICS} if len(each) > 1 else {},
        intervals={metric: intervals[metric] for metric in METRICS},
        slices={name: {metric: slices[name][metric] for metric in METRICS} for name in SLICES if name in slices},
        differences={},
    )


def _best(rows: Sequence[SystemRow], metric: str) -> SystemRow:
    return max(rows, key=lambda row: row.values[metric])


def _claims(rows: Sequence[SystemRow], tables: Mapping[str, RankTable], samples: int, seed: int) -> tuple[Claim, ...]:
    """The paper's answers to its research questions 1 to 3, as far as the rows are there; Figure 3 has the fourth."""
    asked = []
    compared = [row for row in rows if row.system.label in BASELINES]
    if "MKM-SR" in tables and compared:
        best = _best(compared, "mrr@20").system.label
        asked.append(("1: does MKM-SR outperform the compared models?", "MKM-SR", best, f"MKM-SR above {best}"))
    pairs = [
        ("2: are micro-behaviours useful?", "MKM-SR", "KM-SR", "with operations above without"),
        ("2: is knowledge as a second task useful?", "MKM-SR", "M-SR", "with the knowledge task above without"),
        *(
            ("3: items by a graph network, operations by a GRU?", "M-SR", each, f"M-SR above {each}")
            for each in ABLATIONS
            if each not in ("KM-SR", "M-SR")
        ),
    ]
    asked += [pair for pair in pairs if pair[1] in tables and pair[2] in tables]
    raw = [
        {metric: paired(tables[one], tables[other], metric, samples=samples, seed=seed) for metric in METRICS}
        for _, one, other, _ in asked
    ]
    return tuple(
        Claim(question, text, verdict(found["mrr@20"]), found)
        for (question, _, _, text), found in zip(asked, corrected_by_holm(raw), strict=True)
    )


def _row_json(row: SystemRow) -> dict[str, Any]:
    return {
        "system": row.system.label,
        "model": str(row.system.runs[0].document["model"]),
        "group": row.system.group,
        "seeds": len(row.system.runs),
        "published": dict(row.system.published),
        "metrics": dict(row.values),
        "deviations": dict(row.deviations),
        "intervals": {name: list(each) for name, each in row.intervals.items()},
        "slices": {name: dict(each) for name, each in row.slices.items()},
        "differences": differences_json(row.differences),
        "seconds": row.system.seconds,
        "processor_seconds": row.system.processor_seconds,
        "runs": [str(run.path) for run in row.system.runs],
        "per_seed": [{metric: run.document["metrics"][metric] for metric in METRICS} for run in row.system.runs],
    }


def differences_json(differences: Mapping[str, PairedDifference]) -> dict[str, Any]:
    """Paired differences as plain data."""
    return {
        name: {"difference": each.difference, "low": each.low, "high": each.high, "p_value": each.p_value}
        for name, each in differences.items()
    }

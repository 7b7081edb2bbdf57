"""Systems on the same examples: each with the mean over its seeds, intervals, slices, and differences from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, stdev
from typing import Any, Literal

from mkmsr.errors import EvaluationError
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import PairedDifference, corrected_by_holm, pooled_difference
from mkmsr.paper.published import ABLATIONS, BASELINES, LITERAL
from mkmsr.reports.comparison import pooled_run
from mkmsr.reports.run_folder import EvaluatedRun, RunFolder

METRICS = ("hit@20", "mrr@20")
"""What the paper reports."""

SIGNIFICANT = 0.05
"""P-value, corrected by Holm, below which a difference counts."""

Group = Literal["paper", "talk", "authors", "rival", "flagship"]
Verdict = Literal["confirmed", "refuted", "undecided"]


@dataclass(frozen=True)
class System:
    """What is known about one system on one dataset.

    Args:
        label: What tables call it.
        group: A row of the paper's table; one exactly as in its talk or as in its authors' code; a rival that it left
            out; a model that we recommend.
        runs: Evaluated on the test split, one a seed, with ranks; empty if none is finished.
        published: The paper's values by metric, 0..1; empty if it has none.
        note: Why runs are missing.
    """

    label: str
    group: Group
    runs: Sequence[RunFolder]
    published: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def mean_seconds(self, name: str) -> float:
        """Mean `seconds` or `processor_seconds` of a run; wall time stands in where the other was not counted."""
        return mean(float(each.metrics.get(name, each.metrics["seconds"])) for each in self.runs)


@dataclass(frozen=True)
class SystemRow:
    """One system's row; all values 0..1, by metric.

    Args:
        system: What it is.
        run: All its seeds, pooled.
        deviations: Standard deviation over seeds; empty with one seed.
        differences: From the best rival, p-values corrected by Holm; the rival itself has none.
    """

    system: System
    run: EvaluatedRun
    deviations: Mapping[str, float]
    differences: Mapping[str, PairedDifference] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What tables call the system."""
        return self.system.label

    @property
    def ranks(self) -> RankTable:
        """Those of all seeds."""
        assert self.run.ranks is not None
        return self.run.ranks

    @property
    def values(self) -> dict[str, float]:
        """Mean over examples and seeds."""
        return _metrics(self.run)

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % over resampled sessions."""
        return {metric: tuple(self.run.document["intervals"][metric]) for metric in METRICS}

    @property
    def slices(self) -> dict[str, dict[str, float]]:
        """By slice, then by metric; a slice without examples is left out."""
        found = self.run.document["slices"].items()
        return {name: {metric: part[metric] for metric in METRICS} for name, part in found if part["examples"]}


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, and what our runs say.

    `text` reads "A above B", and differences are first minus second, p-values corrected by Holm over all claims on this
    data. By MRR@20 a significant one is "confirmed" or "refuted", any other "undecided".
    """

    question: str
    text: str
    verdict: Verdict
    differences: Mapping[str, PairedDifference]


@dataclass(frozen=True)
class SystemTable:
    """Table 2 for one dataset.

    The best rivals are the best systems that are no flagship, by metric; `missing` ones have no finished run.
    """

    title: str
    examples: int
    candidates: int
    rows: tuple[SystemRow, ...]
    missing: tuple[System, ...]
    best_rivals: Mapping[str, str]
    claims: tuple[Claim, ...]

    def row(self, label: str) -> SystemRow | None:
        """The row of that label, if there is one."""
        return next((row for row in self.rows if row.label == label), None)

    def to_json(self) -> dict[str, Any]:
        """The table as plain data."""
        claims = [
            {
                "question": claim.question,
                "claim": claim.text,
                "verdict": claim.verdict,
                "differences": {name: each.to_json() for name, each in claim.differences.items()},
            }
            for claim in self.claims
        ]
        return {
            "data": self.title,
            "examples": self.examples,
            "candidates": self.candidates,
            "metrics": list(METRICS),
            "best_rivals": dict(self.best_rivals),
            "rows": [_row_json(row) for row in self.rows],
            "missing": {system.label: system.note for system in self.missing},
            "claims": claims,
        }


def compare_systems(title: str, systems: Sequence[System], *, samples: int = 10_000) -> SystemTable:
    """Return the table of some systems on one dataset, in their order; every run has ranks.

    No finished run at all, or runs that ranked different examples, raise EvaluationError.
    """
    rows = [_measured(system, samples) for system in systems if system.runs]
    if not rows:
        raise EvaluationError(f"no system has a finished run on {title}")
    rivals = [row for row in rows if row.system.group != "flagship"]
    best = {metric: _best(rivals, metric) for metric in METRICS} if rivals else {}
    first = rows[0].system.runs[0].run.document
    return SystemTable(
        title=title,
        examples=int(first["examples"]),
        candidates=int(first["candidates"]),
        rows=tuple(_differences(rows, best, samples)),
        missing=tuple(system for system in systems if not system.runs),
        best_rivals={metric: row.label for metric, row in best.items()},
        claims=_claims({row.label: row for row in rows}, samples),
    )


def _measured(system: System, samples: int) -> SystemRow:
    """The row of a system with at least one run, not yet tested against another."""
    runs = [each.run for each in system.runs]
    seeds = [_metrics(run) for run in runs]
    deviations = {metric: stdev(each[metric] for each in seeds) for metric in METRICS} if len(seeds) > 1 else {}
    return SystemRow(system, pooled_run(runs, system.label, (20,), samples=samples), deviations)


def _differences(rows: Sequence[SystemRow], best: Mapping[str, SystemRow], samples: int) -> list[SystemRow]:
    """The rows with their differences from the best rival by each metric, corrected by Holm over all of them."""
    found = [
        {
            metric: pooled_difference(row.ranks, other.ranks, metric, samples=samples)
            for metric, other in best.items()
            if other is not row
        }
        for row in rows
    ]
    return [replace(row, differences=each) for row, each in zip(rows, corrected_by_holm(found), strict=True)]


def verdict(difference: PairedDifference) -> Verdict:
    """Whether the first system is better than the second beyond what other sessions would change."""
    if difference.p_value >= SIGNIFICANT:
        return "undecided"
    return "confirmed" if difference.difference > 0 else "refuted"


def _metrics(run: EvaluatedRun) -> dict[str, float]:
    return {metric: float(run.document["metrics"][metric]) for metric in METRICS}


def _best(rows: Sequence[SystemRow], metric: str) -> SystemRow:
    return max(rows, key=lambda row: row.values[metric])


def _claims(rows: Mapping[str, SystemRow], samples: int) -> tuple[Claim, ...]:
    """The paper's answers to its research questions 1 to 3, as far as the rows are there; Figure 3 has the fourth."""
    compared = [row for row in rows.values() if row.label in BASELINES]
    best = _best(compared, "mrr@20").label if compared else ""
    asked = []
    for setting in ("", *(f" ({source})" for source in LITERAL)):
        whole, without_knowledge = f"MKM-SR{setting}", f"M-SR{setting}"
        asked += [
            ("1: does MKM-SR outperform the compared models?", whole, best),
            ("2: are micro-behaviours useful?", whole, f"KM-SR{setting}"),
            ("2: is knowledge as a second task useful?", whole, without_knowledge),
            *(
                ("3: items by a graph network, operations by a GRU?", without_knowledge, f"{each}{setting}")
                for each in ABLATIONS
                if each not in ("KM-SR", "M-SR")
            ),
        ]
    asked = [each for each in asked if each[1] in rows and each[2] in rows]
    raw = [
        {m: pooled_difference(rows[one].ranks, rows[other].ranks, m, samples=samples) for m in METRICS}
        for _, one, other in asked
    ]
    return tuple(
        Claim(question, f"{one} above {other}", verdict(found["mrr@20"]), found)
        for (question, one, other), found in zip(asked, corrected_by_holm(raw), strict=True)
    )


def _row_json(row: SystemRow) -> dict[str, Any]:
    system = row.system
    documents = [each.run.document for each in system.runs]
    return {
        "system": system.label,
        "model": str(documents[0]["model"]),
        "group": system.group,
        "seeds": len(documents),
        "published": dict(system.published),
        "metrics": row.values,
        "deviations": dict(row.deviations),
        "intervals": {name: list(each) for name, each in row.intervals.items()},
        "slices": row.slices,
        "differences": {name: each.to_json() for name, each in row.differences.items()},
        "seconds": system.mean_seconds("seconds"),
        "processor_seconds": system.mean_seconds("processor_seconds"),
        "runs": [str(each.folder) for each in system.runs],
        "per_seed": [_metrics(each.run) for each in system.runs],
    }

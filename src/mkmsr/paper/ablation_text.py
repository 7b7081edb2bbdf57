"""Variants of one model beside the whole one: means over seeds, intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import PairedDifference, bootstrap_intervals
from mkmsr.paper.system_table import METRICS, corrected_by_holm, differences_json, paired, pooled, ranks_of
from mkmsr.reports.run_folder import EvaluatedRun
from mkmsr.reports.tables import TextTable, difference_text, metric_title, p_value_text, percent
from mkmsr.reports.write_up import Section, WriteUp

__all__ = ["AblationTable", "Variant", "VariantRow", "ablation_table", "ablation_write_up"]

_KS = (20,)


@dataclass(frozen=True)
class Variant:
    """A variant's evaluations, one a seed, with ranks; the first variant of a table is the whole model."""

    label: str
    runs: tuple[EvaluatedRun, ...]


@dataclass(frozen=True)
class VariantRow:
    """A variant's row; all values 0..1, by metric.

    Args:
        label: What was changed.
        seeds: Runs.
        values: Mean over examples and seeds.
        intervals: 95 % over resampled sessions.
        slices: By slice, then by metric; a slice without examples is left out.
        differences: From the whole model, p-values corrected by Holm; the whole model has none.
    """

    label: str
    seeds: int
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    slices: Mapping[str, Mapping[str, float]]
    differences: Mapping[str, PairedDifference]


@dataclass(frozen=True)
class AblationTable:
    """All variants on one dataset."""

    title: str
    examples: int
    rows: tuple[VariantRow, ...]

    def to_json(self) -> dict[str, Any]:
        """The table as plain data."""
        return {
            "data": self.title,
            "examples": self.examples,
            "rows": [
                {
                    "variant": row.label,
                    "seeds": row.seeds,
                    "metrics": dict(row.values),
                    "intervals": {name: list(each) for name, each in row.intervals.items()},
                    "slices": {name: dict(each) for name, each in row.slices.items()},
                    "differences": differences_json(row.differences),
                }
                for row in self.rows
            ],
        }


def ablation_table(title: str, variants: Sequence[Variant], *, samples: int = 10_000, seed: int = 0) -> AblationTable:
    """The table of a model and its variants on one dataset.

    Args:
        title: What tables call the data.
        variants: The whole model first; every run has ranks.
        samples: Resamples of every interval and test.
        seed: Of the resampling.

    Raises:
        EvaluationError: Runs ranked different examples, or kept no ranks.
    """
    ranks = [pooled([ranks_of(run) for run in variant.runs]) for variant in variants]
    raw: list[dict[str, PairedDifference]] = [{}]
    raw += [{m: paired(each, ranks[0], m, samples=samples, seed=seed) for m in METRICS} for each in ranks[1:]]
    rows = tuple(
        VariantRow(
            label=variant.label,
            seeds=len(variant.runs),
            values=_metrics(table),
            intervals={m: bootstrap_intervals(table, _KS, samples=samples, seed=seed)[m] for m in METRICS},
            slices={name: _metrics(part) for name, part in table.slices().items() if len(part)},
            differences=differences,
        )
        for variant, table, differences in zip(variants, ranks, corrected_by_holm(raw), strict=True)
    )
    return AblationTable(title, len(ranks[0]) // len(variants[0].runs), rows)


def ablation_write_up(tables: Sequence[AblationTable], *, command: str) -> WriteUp:
    """The tables as Markdown, LaTeX and a page."""
    return WriteUp(
        name="ablation",
        title="What each part of COMPASS is worth",
        lead=(
            "The model without one part at a time, trained anew with all other settings as they are, refitted on train "
            "and validation, and ranked on the test. Values are means over examples and seeds, in per cent, with the "
            "interval that holds 95 % of resamples of sessions; differences are paired, in percentage points, and p is "
            "corrected by Holm within a table."
        ),
        sections=tuple(
            Section(table.title, tables=(_text(table), _slices(table)), own=table.rows[0].label) for table in tables
        ),
        command=command,
    )


def _text(table: AblationTable) -> TextTable:
    header = ["variant", "seeds"]
    for metric in METRICS:
        header += [metric_title(metric), "from the whole", "p"]
    rows = []
    for row in table.rows:
        cells = [row.label, str(row.seeds)]
        for metric in METRICS:
            low, high = row.intervals[metric]
            found = row.differences.get(metric)
            cells.append(f"{percent(row.values[metric])} [{percent(low)}, {percent(high)}]")
            cells += [difference_text(found), p_value_text(found.p_value)] if found else ["", ""]
        rows.append(tuple(cells))
    return TextTable(f"{table.title}: {table.examples:,} examples", tuple(header), tuple(rows))


def _slices(table: AblationTable) -> TextTable:
    names = list(table.rows[0].slices)
    rows = tuple(
        (row.label, *(" / ".join(percent(row.slices[name][metric]) for metric in METRICS) for name in names))
        for row in table.rows
    )
    title = f"{table.title}: {' / '.join(map(metric_title, METRICS))} by kind of next item, per cent"
    return TextTable(title, ("variant", *names), rows)


def _metrics(table: RankTable) -> dict[str, float]:
    values = table.metrics(_KS)
    return {metric: values[metric] for metric in METRICS}

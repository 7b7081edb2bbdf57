"""What each part of COMPASS is worth: the model without one part at a time, on the same examples as the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkmsr.config import laid_over, validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import EvaluationError
from mkmsr.paper.runs import Reproduction, RunOptions, Runs, data_title, finish_runs
from mkmsr.paper.systems import METRICS, System, SystemRow, measure, with_differences
from mkmsr.reports.tables import TextTable, difference_text, metric_title, p_value_text, percent, slice_title
from mkmsr.reports.write_up import Section, WriteUp
from mkmsr.runs.config import ExperimentConfig

WHOLE = "COMPASS"

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    WHOLE: {},
    "without ids": {"ids": False},
    "without attributes": {"attributes": False},
    "without copies": {"copy_past": False},
    "without neighbours": {"neighbours": False},
    "without earlier visits": {"earlier_visits": False},
    "without operations": {"operations": False},
    "without attributes and operations": {"attributes": False, "operations": False},
}
"""What each row of the table changes in the settings of the model."""


def reproduce_ablation(
    datasets: Sequence[Path],
    out: Path,
    options: RunOptions,
) -> Reproduction:
    """Train COMPASS whole and without each part, refitted on train and validation, and compare in pairs.

    A variant that changes nothing on some data, because its settings have the part off already, is left out there.
    Arguments and errors are those of `reproduce_table_2`.
    """

    def variants(data: Path) -> dict[str, ExperimentConfig]:
        return _variants(options.experiment(data, "compass"))

    runs, failures = finish_runs(datasets, variants, out / "runs", options)
    tables = [_table(data, found) for data, found in runs.items()]
    document = {"seeds": options.seeds, "tables": [table.to_json() for table in tables]}
    return Reproduction(_write_up(tables), document, failures)


def folder_name(variant: str) -> str:
    """What the folder of a variant's runs is called."""
    return "compass" if variant == WHOLE else f"compass-{variant.replace(' ', '-')}"


@dataclass(frozen=True)
class _Table:
    """All variants on one dataset, the whole model first."""

    title: str
    examples: int
    rows: tuple[SystemRow, ...]

    def to_json(self) -> dict[str, Any]:
        rows = []
        for row in self.rows:
            values = row.to_json()
            del values["deviations"]
            rows.append({"variant": row.label, "seeds": len(row.system.runs), **values})
        return {"data": self.title, "examples": self.examples, "rows": rows}


def _variants(base: ExperimentConfig) -> dict[str, ExperimentConfig]:
    experiments = {}
    for name, changes in VARIANTS.items():
        variant = validate(ExperimentConfig, {**base.model_dump(), "model": laid_over(base.model, changes)})
        if name == WHOLE or variant.model != base.model:
            experiments[folder_name(name)] = variant
    return experiments


def _table(data: Path, runs: Runs) -> _Table:
    title = data_title(data, PreparedDataset.load(data))
    found = {name: runs.found[folder_name(name)] for name in VARIANTS if folder_name(name) in runs.found}
    if WHOLE not in found:
        raise EvaluationError(f"the whole model has no finished run on {title}")
    rows = [measure(System(name, "variant", each)) for name, each in found.items()]
    whole = dict.fromkeys(METRICS, rows[0])
    examples = len(rows[0].ranks) // len(rows[0].system.runs)
    return _Table(title, examples, with_differences(rows, whole))


def _write_up(tables: Sequence[_Table]) -> WriteUp:
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
            Section(table.title, tables=(_metrics_table(table), _slices_table(table)), own=WHOLE) for table in tables
        ),
    )


def _metrics_table(table: _Table) -> TextTable:
    header = ["variant", "seeds", *(cell for m in METRICS for cell in (metric_title(m), "from the whole", "p"))]
    rows = []
    for row in table.rows:
        cells = [row.label, str(len(row.system.runs))]
        for metric in METRICS:
            low, high = row.intervals[metric]
            found = row.differences.get(metric)
            cells.append(f"{percent(row.values[metric])} [{percent(low)}, {percent(high)}]")
            cells += [difference_text(found), p_value_text(found.p_value)] if found else ["", ""]
        rows.append(tuple(cells))
    return TextTable(f"{table.title}: {table.examples:,} examples", tuple(header), tuple(rows))


def _slices_table(table: _Table) -> TextTable:
    names = list(table.rows[0].slices)
    rows = tuple(
        (row.label, *(" / ".join(percent(row.slices[name][metric]) for metric in METRICS) for name in names))
        for row in table.rows
    )
    title = f"{table.title}: {' / '.join(map(metric_title, METRICS))} by kind of next item, per cent"
    return TextTable(title, ("variant", *map(slice_title, names)), rows)

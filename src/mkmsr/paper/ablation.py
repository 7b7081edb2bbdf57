"""What each part of COMPASS is worth: the model without one part at a time, on the same examples as the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mkmsr.config import laid_over, validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import EvaluationError
from mkmsr.paper.runs import Reproduction, RunOptions, Runs, data_title, finish_runs
from mkmsr.paper.systems import METRICS
from mkmsr.reports.comparison import Comparison, compare_runs, pooled_label
from mkmsr.reports.tables import comparison_table, slices_table
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


def reproduce_ablation(datasets: Sequence[Path], out: Path, options: RunOptions) -> Reproduction:
    """Train COMPASS whole and without each part, refitted on train and validation, and compare in pairs.

    A variant that changes nothing on some data, because its settings have the part off already, is left out there.
    Arguments and errors are those of `reproduce_table_2`.
    """

    def variants(data: Path) -> dict[str, ExperimentConfig]:
        return _variants(options.experiment(data, "compass"))

    runs, failures = finish_runs(datasets, variants, out / "runs", options)
    found = {data_title(data, PreparedDataset.load(data)): each for data, each in runs.items()}
    tables = {title: _comparison(title, each) for title, each in found.items()}
    document = {"seeds": options.seeds, "tables": [{"data": title, **each.to_json()} for title, each in tables.items()]}
    return Reproduction(_write_up(tables), document, failures)


def folder_name(variant: str) -> str:
    """What the folder of a variant's runs is called."""
    return "compass" if variant == WHOLE else f"compass-{variant.replace(' ', '-')}"


def _variants(base: ExperimentConfig) -> dict[str, ExperimentConfig]:
    experiments = {}
    for name, changes in VARIANTS.items():
        variant = validate(ExperimentConfig, {**base.model_dump(), "model": laid_over(base.model, changes)})
        if name == WHOLE or variant.model != base.model:
            experiments[folder_name(name)] = variant
    return experiments


def _comparison(title: str, runs: Runs) -> Comparison:
    """All variants on one dataset, tested against the whole model."""
    found = [replace(each.run, label=name) for name in VARIANTS for each in runs.found.get(folder_name(name), ())]
    seeds = sum(each.label == WHOLE for each in found)
    if not seeds:
        raise EvaluationError(f"the whole model has no finished run on {title}")
    return compare_runs(found, metrics=METRICS, reference=pooled_label(WHOLE, seeds), pool_seeds=True)


def _write_up(tables: Mapping[str, Comparison]) -> WriteUp:
    return WriteUp(
        name="ablation",
        title="What each part of COMPASS is worth",
        lead=(
            "The model without one part at a time, trained anew with all other settings as they are, refitted on train "
            "and validation, and ranked on the test. Values are means over examples and seeds."
        ),
        sections=tuple(_section(title, comparison) for title, comparison in tables.items()),
    )


def _section(title: str, comparison: Comparison) -> Section:
    runs = [row.run for row in comparison.rows]
    slices = [slices_table(runs, metric) for metric in METRICS]
    shown = [comparison_table(comparison), replace(slices[0], notes=()), *slices[1:]]
    tables = tuple(replace(each, title=f"{title}: {each.title}") for each in shown)
    return Section(title, tables=tables, own=f"{comparison.reference} (reference)")

"""The HTML report of one run: a single file without outside parts, drawn from the files of a run folder.

Needs no model, so a report can be drawn again at any time, beside other runs or with a newer template.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mkmsr.errors import EvaluationError
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import bootstrap_intervals
from mkmsr.reports.canvas import MissingMatplotlibError, inline_svg
from mkmsr.reports.comparison import Comparison, check_same_examples, compare_evaluations, read_runs
from mkmsr.reports.figures import FigureRow, draw_learning_curves, draw_metrics, draw_slices
from mkmsr.reports.pages import template
from mkmsr.reports.report_view import main_metric, report_view
from mkmsr.reports.run_folder import EvaluatedRun, RunFolder, read_run_folder
from mkmsr.reports.tables import metric_title
from mkmsr.runtime.files import atomic_write

__all__ = ["write_run_report"]

REPORT = "report.html"
_BASELINES = "baselines"

_logger = logging.getLogger(__name__)


def write_run_report(
    folder: str | Path, *, baselines: Sequence[str | Path | Mapping[str, Any]] = (), samples: int = 10_000
) -> Path:
    """Write `report.html` and `figures/` into a run folder.

    Args:
        folder: The run.
        baselines: Run folders, files of metrics or evaluation documents of other models on the same examples. What is
            shown of them is copied into the folder's `baselines/`, and used again when none are given and the examples
            are still the same.
        samples: Resamples of the paired differences.

    Returns:
        The report's path.

    Raises:
        DataError: The folder holds no run, or a baseline no evaluation.
        EvaluationError: A baseline was evaluated on other examples.
    """
    run = read_run_folder(folder)
    beside = read_runs(baselines) if baselines else _remembered(run)
    own, *others = read_runs([run.run, *beside])
    run = replace(run, run=own)
    metrics = _longest_list(own)
    comparison = compare_evaluations([own, *others], metrics=metrics, reference=own.label, samples=samples)
    if baselines:
        _remember(run.folder, others)
    figures = _figures(run, comparison)
    page = template("run_report.html").render(report_view(run, comparison, figures))
    path = run.folder / REPORT
    atomic_write(path, page)
    return path


def _longest_list(run: EvaluatedRun) -> list[str]:
    """The metrics at the greatest k: `["hit@20", "mrr@20", "ndcg@20"]`."""
    names = list(run.document["metrics"])
    longest = max(int(name.partition("@")[2]) for name in names)
    return [name for name in names if name.endswith(f"@{longest}")]


def _remembered(run: RunFolder) -> list[EvaluatedRun]:
    """Baselines that an earlier report copied, or that were run into the folder.

    Those of other examples are left out: they belong to an earlier run of the same folder, on other data.
    """
    found = sorted((run.folder / _BASELINES).glob("*"))
    same = []
    for each in read_runs([path for path in found if path.suffix == ".json" or (path / "metrics.json").is_file()]):
        try:
            check_same_examples(run.run, each)
        except EvaluationError as error:
            _logger.info("left out of the report of %s: %s", run.folder, error)
        else:
            same.append(each)
    return same


def _remember(folder: Path, baselines: Sequence[EvaluatedRun]) -> None:
    """Keep what the report needs of baselines that lie elsewhere, instead of those kept before."""
    target = folder / _BASELINES
    if target.resolve() in [parent for each in baselines if each.path for parent in each.path.resolve().parents]:
        return
    for old in [*target.glob("*.json"), *target.glob("*.parquet")]:
        old.unlink()
    for number, each in enumerate(baselines, start=1):
        name = f"{number:02d}-{re.sub(r'[^a-z0-9]+', '-', each.label.lower()).strip('-')}"
        document = {**each.document, "fitted_on": each.fitted_on}
        atomic_write(target / f"{name}.json", json.dumps(document, ensure_ascii=False, indent=2) + "\n")
        if each.ranks is not None:
            each.ranks.save(target / f"{name}.parquet")


def _figures(run: RunFolder, comparison: Comparison) -> dict[str, str]:
    """Markup of each figure by name; what is missing cannot or need not be drawn. Also writes them as files."""
    metrics = comparison.metrics
    main = main_metric(metrics)
    drawings: dict[str, tuple[Callable[[], bytes], str]] = {
        "metrics": (
            lambda: draw_metrics([_metric_row(row.run, run.run) for row in comparison.rows], metrics),
            "Metrics of every model with 95 per cent intervals; the table below has the numbers.",
        ),
        "slices": (
            lambda: draw_slices([_slice_row(row.run, run.run, main) for row in comparison.rows], main),
            f"{metric_title(main)} of every model on repeated, new and other items; the table below has the numbers.",
        ),
    }
    if run.history:
        best = run.metrics.get("best_epoch")
        drawings["curves"] = (
            lambda: draw_learning_curves(run.history, [metrics[0], main], best),
            f"Training losses and validation metrics over {len(run.history)} epochs.",
        )
    markup = {}
    for name, (draw, description) in drawings.items():
        try:
            svg = draw()
        except MissingMatplotlibError:
            return {}
        atomic_write(run.folder / "figures" / f"{name}.svg", svg)
        markup[name] = inline_svg(svg, name=name, description=description)
    return markup


def _metric_row(run: EvaluatedRun, own: EvaluatedRun) -> FigureRow:
    intervals = {name: (low, high) for name, (low, high) in run.document["intervals"].items()}
    return FigureRow(run.label, run.document["metrics"], intervals, highlight=run.label == own.label)


def _slice_row(run: EvaluatedRun, own: EvaluatedRun, metric: str) -> FigureRow:
    slices = run.document["slices"]
    values = {name: float(part[metric]) for name, part in slices.items() if part.get(metric) is not None}
    tables: Mapping[str, RankTable] = run.ranks.slices() if run.ranks is not None else {}
    k = int(metric.partition("@")[2])
    intervals = {name: bootstrap_intervals(table, (k,))[metric] for name, table in tables.items() if len(table)}
    return FigureRow(run.label, values, intervals, highlight=run.label == own.label)

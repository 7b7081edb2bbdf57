"""`mkmsr compare` and `mkmsr report`: what runs left behind, as tables and as a page. No model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mkmsr.cli.console import AT_LEAST_ONE, COMMON, Common, terminal

__all__ = ["compare", "report"]


def compare(
    runs: Annotated[tuple[Path, ...], Parameter(negative=())],
    /,
    *,
    metrics: str = "hit@20,mrr@20",
    reference: str | None = None,
    samples: Annotated[int, AT_LEAST_ONE] = 10_000,
    common: Common = COMMON,
) -> None:
    """Set runs on the same examples side by side, with paired significance.

    Args:
        runs: Run folders, or metrics saved from `mkmsr evaluate --json`.
        metrics: Metrics to compare, separated by commas; the first one orders the rows.
        reference: Label of the run that the others are tested against; the best one by default.
        samples: Resamples of the paired bootstrap over sessions.
    """
    with terminal(common) as screen:
        from mkmsr.reports.comparison import compare_runs
        from mkmsr.reports.tables import comparison_table

        names = [name.strip() for name in metrics.split(",")]
        comparison = compare_runs(runs, metrics=names, reference=reference, samples=samples)
        screen.document(comparison.to_json())
        screen.show_report(comparison_table(comparison))


def report(
    run: Path,
    /,
    *,
    beside: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative=())] = (),
    common: Common = COMMON,
) -> None:
    """Draw a run's report.html again from the files of its folder.

    Args:
        run: Run folder.
        beside: Run folders or metrics of other models on the same data, to be shown beside it.
    """
    with terminal(common) as screen:
        from mkmsr.reports.run_report import write_run_report

        path = write_run_report(run, baselines=list(beside))
        screen.document({"report": str(path)})
        screen.print(f"report: {path}")

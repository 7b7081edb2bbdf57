"""Tables of runs as rows of text, and as Markdown. Here and only here shares become per cent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mkmsr.evaluation.ranks import SLICES
from mkmsr.evaluation.significance import PairedDifference
from mkmsr.reports.comparison import Comparison
from mkmsr.reports.run_folder import EvaluatedRun

__all__ = [
    "TextTable",
    "comparison_table",
    "difference_text",
    "interval_text",
    "metric_title",
    "metrics_table",
    "p_value_text",
    "percent",
    "slices_table",
]


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are ready to be shown; the first column is text, the others are numbers.

    Args:
        title: What it shows, with units.
        header: One a column.
        rows: Cells, row by row.
        notes: What a reader must know, one sentence each.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The table in Markdown, columns aligned in the text too."""
        cells = [self.header, *self.rows]
        cells = [tuple(_markdown_cell(cell) for cell in row) for row in cells]
        widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(self.header))]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines = [_line(row, widths) for row in [cells[0], tuple(rule), *cells[1:]]]
        return "\n".join([f"**{self.title}**", "", *lines, *(f"\n{note}" for note in self.notes)]) + "\n"


def metrics_table(runs: Sequence[EvaluatedRun], metrics: Sequence[str]) -> TextTable:
    """Each run's metrics with their intervals, per cent."""
    rows = tuple(
        (
            run.label,
            *(f"{percent(run.document['metrics'][name])} {interval_text(run, name)}".strip() for name in metrics),
        )
        for run in runs
    )
    header = ("model", *(metric_title(name) for name in metrics))
    return TextTable("Metrics, per cent [95 % interval over sessions]", header, rows)


def slices_table(runs: Sequence[EvaluatedRun], metric: str) -> TextTable:
    """One metric of each run on each slice of the examples, per cent."""
    counts = [int(runs[0].document["slices"][name]["examples"]) for name in SLICES] if runs else [0] * len(SLICES)
    header = ("model", *(f"{_slice_title(name)} ({count:,})" for name, count in zip(SLICES, counts, strict=True)))
    rows = tuple((run.label, *(percent(run.document["slices"][name].get(metric)) for name in SLICES)) for run in runs)
    notes = tuple(f"{_slice_title(name)}: {meaning}." for name, meaning in SLICES.items())
    return TextTable(f"{metric_title(metric)} by kind of next item, per cent (examples)", header, rows, notes)


def comparison_table(comparison: Comparison) -> TextTable:
    """Runs with their metrics and their differences from the reference, per cent and percentage points.

    A run by itself has its metrics alone.
    """
    intervals = f"Split: {comparison.split}. Intervals hold 95 % of resamples of whole sessions."
    if len(comparison.rows) == 1:
        return replace(metrics_table([comparison.rows[0].run], comparison.metrics), notes=(intervals,))
    header = ["model"]
    for name in comparison.metrics:
        header += [metric_title(name), "difference", "p"]
    rows = []
    for row in comparison.rows:
        cells = [f"{row.run.label} (reference)" if row.is_reference else row.run.label]
        for name in comparison.metrics:
            found = row.differences.get(name)
            cells += [
                f"{percent(row.run.document['metrics'][name])} {interval_text(row.run, name)}".strip(),
                difference_text(found) if found else "",
                p_value_text(found.p_value) if found else "",
            ]
        rows.append(tuple(cells))
    notes = [
        intervals,
        f"Difference: percentage points from {comparison.reference} on the same examples [95 % interval]; "
        "p: two-sided paired bootstrap over sessions, corrected by Holm for all tests of the table.",
    ]
    without = [row.run.label for row in comparison.rows if not row.is_reference and not row.differences]
    if without:
        notes.append(f"Not tested, since ranks are missing on one side: {', '.join(without)}.")
    notes += _unlike(comparison)
    return TextTable("Runs on the same examples, per cent", tuple(header), tuple(rows), tuple(notes))


def _unlike(comparison: Comparison) -> list[str]:
    """Which models learnt from what, if not all from the same splits; nothing otherwise."""
    labels: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.run.fitted_on is not None:
            labels.setdefault(row.run.fitted_on, []).append(row.run.label)
    if len(labels) < 2:
        return []
    parts = (f"{', '.join(each)} on {fitted_on}" for fitted_on, each in labels.items())
    return [f"Not fitted alike, which favours those that read more: {'; '.join(parts)}."]


def percent(share: float | None) -> str:
    """A share 0..1 in per cent with two decimals, or a dash for none."""
    return "-" if share is None else f"{100 * share:.2f}"


def interval_text(run: EvaluatedRun, metric: str) -> str:
    """A metric's interval in per cent, as `[24.1, 26.3]`; empty if it has none."""
    if metric not in run.document["intervals"]:
        return ""
    low, high = run.document["intervals"][metric]
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def difference_text(found: PairedDifference) -> str:
    """A difference in percentage points with its interval, as `+1.20 [+0.4, +2.0]`."""
    return f"{100 * found.difference:+.2f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def p_value_text(p_value: float) -> str:
    """A p-value with as many digits as mean something."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def metric_title(name: str) -> str:
    """A metric's name as tables write it: `Hit@20`, `MRR@20`, `NDCG@20`."""
    kind, _, k = name.partition("@")
    return f"{kind.capitalize() if kind == 'hit' else kind.upper()}@{k}"


def _slice_title(name: str) -> str:
    return name.replace("_", " ")


def _markdown_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        cell.ljust(widths[0]) if column == 0 else cell.rjust(widths[column]) for column, cell in enumerate(cells)
    ]
    return "| " + " | ".join([first, *others]) + " |"

"""Tables of runs as rows of text, and as Markdown and LaTeX. Here and only here shares become per cent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tabulate import LATEX_ESCAPE_RULES, tabulate

from mkmsr.evaluation.ranks import SLICES
from mkmsr.evaluation.significance import PairedDifference
from mkmsr.reports.comparison import Comparison
from mkmsr.reports.run_folder import EvaluatedRun


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are ready to be shown; the first column is text, the others are numbers.

    The title says what it shows, with units; each note is a sentence that a reader must know.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return the table in Markdown, columns aligned in the text too."""
        header, *rows = ([_markdown_cell(cell) for cell in row] for row in (self.header, *self.rows))
        return "\n".join(
            [f"**{self.title}**", "", _laid_out(header, rows, "pipe"), *(f"\n{each}" for each in self.notes)]
        )

    def latex(self, *, own: str = "") -> str:
        """Return the table in LaTeX, for booktabs; the row that begins with `own` is bold."""
        lines = _laid_out(self.header, self.rows, "latex_booktabs").splitlines()
        labels = [row[0] for row in self.rows]
        if own in labels:
            place = lines.index(r"\midrule") + 1 + labels.index(own)
            cells = (cell.strip() for cell in lines[place].removesuffix(r"\\").split(" & "))
            lines[place] = " & ".join(rf"\textbf{{{cell}}}" if cell else "" for cell in cells) + r" \\"
        body = re.sub(r"(?<![\w$])-(?=\d)", "$-$", "\n".join(lines))
        notes = [rf"\par\footnotesize {_tex(note)}" for note in self.notes]
        return "\n".join([r"\begin{table}", rf"\caption{{{_tex(self.title)}}}", body, *notes, r"\end{table}", ""])


def metrics_table(runs: Sequence[EvaluatedRun], metrics: Sequence[str]) -> TextTable:
    """Return each run's metrics with their intervals, per cent."""
    rows = tuple((run.label, *(_with_interval(run, name) for name in metrics)) for run in runs)
    header = ("model", *(metric_title(name) for name in metrics))
    return TextTable("Metrics, per cent [95 % interval over sessions]", header, rows)


def slices_table(runs: Sequence[EvaluatedRun], metric: str) -> TextTable:
    """Return one metric of each run on each slice that has examples, per cent; at least one run."""
    slices = runs[0].document["slices"]
    counts = {name: int(slices[name]["examples"]) for name in SLICES if slices[name]["examples"]}
    header = ("model", *(f"{slice_title(name)} ({count:,})" for name, count in counts.items()))
    rows = tuple((run.label, *(percent(run.document["slices"][name].get(metric)) for name in counts)) for run in runs)
    notes = tuple(f"{slice_title(name)}: {SLICES[name]}." for name in counts)
    return TextTable(f"{metric_title(metric)} by kind of next item, per cent (examples)", header, rows, notes)


def comparison_table(comparison: Comparison) -> TextTable:
    """Return runs with their metrics and their differences from the reference, per cent and percentage points.

    A run by itself has its metrics alone.
    """
    intervals = f"Split: {comparison.split}. Intervals hold 95 % of resamples of whole sessions."
    if len(comparison.rows) == 1:
        return replace(metrics_table([comparison.rows[0].run], comparison.metrics), notes=(intervals,))
    header = ["model", *(cell for name in comparison.metrics for cell in (metric_title(name), "difference", "p"))]
    rows = []
    for row in comparison.rows:
        cells = [f"{row.run.label} (reference)" if row.is_reference else row.run.label]
        for name in comparison.metrics:
            found = row.differences.get(name)
            cells.append(_with_interval(row.run, name))
            cells += [difference_text(found), p_value_text(found.p_value)] if found else ["", ""]
        rows.append(tuple(cells))
    notes = [
        intervals,
        f"Difference: percentage points from {comparison.reference} on the same examples [95 % interval]; "
        "p: two-sided paired bootstrap over sessions, corrected by Holm for all tests of the table.",
    ]
    resolved = [
        f"{metric_title(name)} {100 * max(each):.1f}"
        for name in comparison.metrics
        if (each := [row.differences[name].resolution for row in comparison.rows if row.differences])
    ]
    if resolved:
        notes.append(f"A true difference is found four times in five if it is at least {' or '.join(resolved)} points.")
    without = [row.run.label for row in comparison.rows if not row.is_reference and not row.differences]
    if without:
        notes.append(f"Not tested, since ranks are missing on one side: {', '.join(without)}.")
    notes += _fitted_on(comparison)
    return TextTable("Runs on the same examples, per cent", tuple(header), tuple(rows), tuple(notes))


def percent(share: float | None) -> str:
    """Return a share 0..1 in per cent with two decimals, or a dash for none."""
    return "-" if share is None else f"{100 * share:.2f}"


def interval_text(interval: Sequence[float] | None) -> str:
    """Return an interval 0..1 in per cent, as `[24.1, 26.3]`; empty for none."""
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""


def difference_text(found: PairedDifference) -> str:
    """Return a difference in percentage points with its interval, as `+1.20 [+0.4, +2.0]`."""
    return f"{100 * found.difference:+.2f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def p_value_text(p_value: float) -> str:
    """Return a p-value with as many digits as mean something."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def metric_title(name: str) -> str:
    """Return a metric's name as tables write it: `Hit@20`, `MRR@20`, `NDCG@20`."""
    kind, _, k = name.partition("@")
    return f"{kind.capitalize() if kind == 'hit' else kind.upper()}@{k}"


def slice_title(name: str) -> str:
    """Return a slice's name as tables write it: `new item`."""
    return name.replace("_", " ")


def _with_interval(run: EvaluatedRun, metric: str) -> str:
    interval = run.document["intervals"].get(metric)
    return f"{percent(run.document['metrics'][metric])} {interval_text(interval)}".strip()


def _fitted_on(comparison: Comparison) -> list[str]:
    """Which models learnt from which splits, if not all from the same ones; nothing otherwise."""
    labels: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.run.fitted_on is not None:
            labels.setdefault(row.run.fitted_on, []).append(row.run.label)
    if len(labels) < 2:
        return []
    parts = (f"{', '.join(each)} on {fitted_on}" for fitted_on, each in labels.items())
    return [f"Not fitted alike, which favours those that read more: {'; '.join(parts)}."]


def _laid_out(header: Sequence[str], rows: Sequence[Sequence[str]], form: str) -> str:
    alignment = ("left", *("right" for _ in header[1:]))
    return str(tabulate(rows, header, tablefmt=form, colalign=alignment, disable_numparse=True))


def _markdown_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _tex(text: str) -> str:
    return "".join(LATEX_ESCAPE_RULES.get(character, character) for character in text)

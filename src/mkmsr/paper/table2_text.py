"""Table 2 as a write-up: Markdown, LaTeX, CSV, one HTML page, and the short table of the README."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from mkmsr.evaluation.ranks import SLICES
from mkmsr.evaluation.significance import PairedDifference
from mkmsr.paper.system_table import METRICS, SIGNIFICANT, SystemRow, SystemTable
from mkmsr.reports.canvas import MissingMatplotlibError
from mkmsr.reports.figures import FigureRow, draw_metrics
from mkmsr.reports.tables import TextTable, difference_text, metric_title, p_value_text, percent
from mkmsr.reports.write_up import Drawing, Section, WriteUp

__all__ = ["claims_table", "long_csv", "results_tables", "slice_tables", "summary_table", "table_2"]


_COLUMNS = (
    *("data", "system", "model", "group", "seeds", "metric", "slice"),
    *("published", "value", "deviation", "low", "high"),
    *("best_rival", "difference", "difference_low", "difference_high", "p_holm", "seconds"),
)


def table_2(tables: Sequence[SystemTable], *, command: str, fitted_on: str) -> WriteUp:
    """The whole write-up.

    Args:
        tables: One a dataset.
        command: What writes it.
        fitted_on: What the models of the test numbers have read.
    """
    flagship = _flagship(tables)
    return WriteUp(
        name="table2",
        title="Table 2: all systems, on the same examples",
        lead=(
            "Every system through one protocol: the whole catalogue ranked, ties against the model, settings and "
            f"epochs chosen on validation. The models of these test numbers were fitted on {fitted_on}. Values are "
            "means over examples and seeds, in per cent, with the interval that holds 95 % of resamples of sessions."
        ),
        sections=tuple(_section(table, flagship) for table in tables),
        command=command,
        attachments={"table2.csv": long_csv(tables)},
    )


def results_tables(table: SystemTable) -> tuple[TextTable, ...]:
    """A table a metric: published and own values, and the paired difference from the best rival."""
    header = ("system", "seeds", "published", "ours", "± seeds", "against the best rival", "p")
    notes = [
        f"{table.examples:,} examples, {table.candidates:,} candidates each. ± seeds: standard deviation over seeds; a "
        "model that only counts has none.",
        "Against the best rival: percentage points [95 % interval] on the same examples; p: two-sided paired bootstrap "
        "over sessions, corrected by Holm over both tables. The best rival is chosen on these very examples, which "
        "favours it.",
        *(f"No finished run of {', '.join(labels)}: {note}." for note, labels in _missing(table).items()),
    ]
    return tuple(
        TextTable(
            f"{table.title}: {metric_title(metric)}, per cent",
            header,
            tuple(_result(table, row, metric) for row in table.rows),
            tuple(notes) if metric == METRICS[-1] else (),
        )
        for metric in METRICS
    )


def slice_tables(table: SystemTable) -> tuple[TextTable, ...]:
    """A table a metric: each system on each kind of next item."""
    counts = _slice_counts(table)
    names = [name for name in SLICES if counts.get(name)]
    header = ("system", *(f"{name.replace('_', ' ')} ({counts[name]:,})" for name in names))
    notes = tuple(f"{name.replace('_', ' ')}: {SLICES[name]}." for name in names)
    return tuple(
        TextTable(
            f"{table.title}: {metric_title(metric)} by kind of next item, per cent (examples)",
            header,
            tuple(
                (row.system.label, *(percent(row.slices.get(name, {}).get(metric)) for name in names))
                for row in table.rows
            ),
            notes if metric == METRICS[-1] else (),
        )
        for metric in METRICS
    )


def claims_table(table: SystemTable) -> TextTable:
    """The paper's statements and what our runs say."""
    header = (
        "research question",
        "claim",
        *(f"{metric_title(metric)} difference" for metric in METRICS),
        "p",
        "verdict",
    )
    rows = tuple(
        (
            claim.question,
            claim.text,
            *(difference_text(claim.differences[metric]) for metric in METRICS),
            p_value_text(claim.differences["mrr@20"].p_value),
            claim.verdict,
        )
        for claim in table.claims
    )
    note = (
        "Differences in percentage points [95 % interval]; p of MRR@20, corrected by Holm over these claims. A claim "
        f"is confirmed or refuted where p is below {SIGNIFICANT}, else undecided."
    )
    return TextTable(f"{table.title}: what the paper concludes, tested", header, rows, (note,))


def summary_table(tables: Sequence[SystemTable]) -> TextTable:
    """The README's table: published and own Hit@20 / MRR@20 of every system, the best of each column marked."""
    labels = list(dict.fromkeys(row.system.label for table in tables for row in table.rows))
    header = ["system"]
    for table in tables:
        header += [f"{table.title} published"] if _has_published(table) else []
        header.append(table.title)
    rows = []
    for label in labels:
        cells = [label]
        for table in tables:
            row = table.row(label)
            if _has_published(table):
                cells.append(_pair(row.system.published) if row and row.system.published else "")
            cells.append(_pair(row.values) if row else "")
        rows.append(tuple(cells))
    seeds = max(len(row.system.runs) for table in tables for row in table.rows)
    note = (
        f"Hit@20 / MRR@20, per cent; where there are weights, mean of up to {seeds} seeds; whole catalogue ranked. "
        "Systems of the paper come first. Each row's seeds, intervals, paired tests and slices: docs/reproduction.md."
    )
    return TextTable("All systems on the same examples", tuple(header), tuple(rows), (note,))


def long_csv(tables: Sequence[SystemTable]) -> str:
    """One line for each dataset, system, metric and slice ("all" for all examples); shares 0..1."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for table in tables:
        for row in table.rows:
            system = row.system
            head = [table.title, system.label, str(system.runs[0].document["model"]), system.group, len(system.runs)]
            for metric in METRICS:
                low, high = row.intervals[metric]
                found = row.differences.get(metric)
                tested = [found.difference, found.low, found.high, found.p_value] if found else [None] * 4
                values = [system.published.get(metric), row.values[metric], row.deviations.get(metric), low, high]
                rival = table.best_rivals.get(metric, "")
                writer.writerow(_numbers([*head, metric, "all", *values, rival, *tested, round(system.seconds, 1)]))
                for name, part in row.slices.items():
                    writer.writerow(_numbers([*head, metric, name, None, part[metric], *[None] * 9]))
    return buffer.getvalue()


def _section(table: SystemTable, flagship: str) -> Section:
    tables = [*results_tables(table), *slice_tables(table), *([claims_table(table)] if table.claims else [])]
    return Section(table.title, tuple(_sentences(table)), _drawings(table), tuple(tables), own=flagship)


def _sentences(table: SystemTable) -> list[str]:
    """What the numbers come to, in words."""
    found = []
    published = [row for row in table.rows if row.system.published]
    if published:
        reached = [row for row in published if all(row.values[name] >= row.system.published[name] for name in METRICS)]
        below = [row.system.label for row in published if row not in reached]
        text = f"{len(reached)} of {len(published)} published rows are reached or passed on both metrics"
        found.append(text + (f"; not by {', '.join(below)}." if below else "."))
    if table.best_rivals:
        parts = [f"{label} by {metric_title(metric)}" for metric, label in table.best_rivals.items()]
        same = len(set(table.best_rivals.values())) == 1
        best = f"{next(iter(table.best_rivals.values()))} by both metrics" if same else " and ".join(parts)
        found.append(f"The best rival is {best}.")
    found.append(_cost(table))
    flagships = [row for row in table.rows if row.system.group == "flagship"]
    found += [f"{row.system.label}: {_against(row.differences)}." for row in flagships if row.differences]
    return found


def _cost(table: SystemTable) -> str:
    """How long the runs took."""
    runs = sum(len(row.system.runs) for row in table.rows)
    wall = sum(row.system.seconds * len(row.system.runs) for row in table.rows) / 60
    busy = sum(row.system.processor_seconds * len(row.system.runs) for row in table.rows) / 60
    return (
        f"Runs of this table: {runs}. They took {_few(busy)} minutes of processor time, one thread each: "
        f"{_few(busy / 2)} on two idle cores. By the clock of the machine that made them, which had other work too, "
        f"it was {_few(wall)}."
    )


def _few(minutes: float) -> str:
    return f"{minutes:.1f}" if minutes < 10 else f"{minutes:.0f}"


def _against(differences: Mapping[str, PairedDifference]) -> str:
    parts = [
        f"{metric_title(metric)} {100 * each.difference:+.2f} points from the best rival "
        f"(95 % interval {100 * each.low:+.2f} to {100 * each.high:+.2f}, p {p_value_text(each.p_value)})"
        for metric, each in differences.items()
    ]
    return ", ".join(parts)


def _drawings(table: SystemTable) -> tuple[Drawing, ...]:
    """All systems with their intervals; nothing where matplotlib is missing."""
    rows = [
        FigureRow(row.system.label, row.values, row.intervals, highlight=row.system.group == "flagship")
        for row in table.rows
    ]
    try:
        svg = draw_metrics(rows, list(METRICS))
    except MissingMatplotlibError:
        return ()
    name = "".join(letter for letter in table.title.lower() if letter.isalnum())
    description = f"Hit@20 and MRR@20 of every system on {table.title} with 95 per cent intervals."
    return (
        Drawing(f"table2-{name}", svg, description, "Dots are means over examples and seeds, lines 95 % intervals."),
    )


def _result(table: SystemTable, row: SystemRow, metric: str) -> tuple[str, ...]:
    found = row.differences.get(metric)
    is_best = table.best_rivals.get(metric) == row.system.label
    return (
        row.system.label,
        str(len(row.system.runs)),
        percent(row.system.published.get(metric)),
        _with_interval(row, metric),
        percent(row.deviations.get(metric)),
        difference_text(found) if found else "best rival" if is_best else "-",
        p_value_text(found.p_value) if found else "-",
    )


def _with_interval(row: SystemRow, metric: str) -> str:
    low, high = row.intervals[metric]
    return f"{percent(row.values[metric])} [{100 * low:.1f}, {100 * high:.1f}]"


def _missing(table: SystemTable) -> dict[str, list[str]]:
    """Systems without a run, by the reason."""
    found: dict[str, list[str]] = {}
    for system in table.missing:
        found.setdefault(system.note.rstrip("."), []).append(system.label)
    return found


def _slice_counts(table: SystemTable) -> dict[str, int]:
    slices = table.rows[0].system.runs[0].document["slices"]
    return {name: int(part["examples"]) for name, part in slices.items()}


def _has_published(table: SystemTable) -> bool:
    return any(row.system.published for row in table.rows)


def _pair(values: Mapping[str, float]) -> str:
    return " / ".join(f"{100 * values[metric]:.1f}" for metric in METRICS)


def _flagship(tables: Sequence[SystemTable]) -> str:
    labels = (row.system.label for table in tables for row in table.rows if row.system.group == "flagship")
    return next(labels, "")


def _numbers(cells: Sequence[object]) -> list[object]:
    return ["" if cell is None else round(cell, 6) if isinstance(cell, float) else cell for cell in cells]

"""Table 2: every system of the paper, the rivals that it left out, and the flagships, on the same examples."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError, nearest
from mkmsr.evaluation.significance import PairedDifference
from mkmsr.paper.published import LITERAL, SYSTEMS, TABLE_2, published_name
from mkmsr.paper.runs import Reproduction, RunOptions, Runs, data_title, finish_runs
from mkmsr.paper.systems import METRICS, SIGNIFICANT, Group, System, SystemRow, SystemTable, compare_systems
from mkmsr.reports.figures import FigureRow, draw_metrics
from mkmsr.reports.tables import (
    TextTable,
    difference_text,
    interval_text,
    metric_title,
    p_value_text,
    percent,
    slices_table,
)
from mkmsr.reports.write_up import Section, WriteUp, draw_if_possible, file_name
from mkmsr.runs.config import ExperimentConfig

RIVALS: Mapping[str, str] = {
    "GRU4REC, well made": "gru4rec",
    "SASRec": "sasrec",
    "EMBSR": "embsr",
    "Pop": "pop",
    "S-Pop": "s-pop",
    "Recency": "recency",
    "Sequential rules": "sr",
    "Item-KNN": "item-knn",
    "S-KNN": "s-knn",
    "V-SkNN": "v-sknn",
    "STAN": "stan",
    "VSTAN": "vstan",
}
"""What the paper's table left out, and the models that they are here."""

FLAGSHIPS: Mapping[str, str] = {"COMPASS": "compass"}
"""What we recommend."""

_COLUMNS = (
    *("data", "system", "model", "group", "seeds", "metric", "slice"),
    *("published", "value", "deviation", "low", "high"),
    *("best_rival", "difference", "difference_low", "difference_high", "p_holm", "seconds"),
)


def reproduce_table_2(
    datasets: Sequence[Path],
    out: Path,
    options: RunOptions,
    *,
    models: Sequence[str] | None = None,
) -> Reproduction:
    """Run the grid of systems, data and seeds as far as it is not there yet, and compare.

    Run folders go to `out/runs`. `models` names some of the rows, None is all. Those of the talk and of the authors'
    code, which take hours, are trained only if they are named; a table of what is there has them on the paper's data.
    No run at all on a dataset is an EvaluationError.
    """
    rows = rows_of_table_2(models)

    def experiments(data: Path) -> dict[str, ExperimentConfig]:
        return {name: options.experiment(data, name) for _, name, _ in rows_on(data)}

    def rows_on(data: Path) -> list[tuple[str, str, Group]]:
        has_settings = options.settings is not None and all((options.settings / each).is_dir() for each in LITERAL)
        is_papers = not options.train and has_settings and published_name(PreparedDataset.load(data)) is not None
        wants_literal = models or is_papers
        return [row for row in rows if wants_literal or row[2] not in LITERAL]

    runs, failures = finish_runs(datasets, experiments, out / "runs", options)
    tables = [_table(data, found, rows_on(data)) for data, found in runs.items()]
    document = {
        "refit": options.refit,
        "seeds": options.seeds,
        "choose_epochs": options.choose_epochs,
        "tables": [table.to_json() for table in tables],
    }
    write_up = table_2(tables, fitted_on=_fitted_on(options))
    return Reproduction(write_up, document, failures, summary_table(tables))


def rows_of_table_2(models: Sequence[str] | None = None) -> list[tuple[str, str, Group]]:
    """Label, model and group of each row: the paper's systems in its order, its own literally, rivals, flagships.

    Of these models alone, or None for all; one that is no row of the table raises ConfigError.
    """
    groups: dict[Group, Mapping[str, str]] = {
        "paper": SYSTEMS,
        "talk": LITERAL["talk"],
        "authors": LITERAL["authors"],
        "rival": RIVALS,
        "flagship": FLAGSHIPS,
    }
    rows = [(label, name, group) for group, systems in groups.items() for label, name in systems.items()]
    known = [name for _, name, _ in rows]
    for name in models or ():
        if name not in known:
            hint = nearest(name, known) or f"; there are: {', '.join(known)}"
            raise ConfigError(f"no row for {name!r}{hint}", key="models")
    return [row for row in rows if models is None or row[1] in models]


def table_2(tables: Sequence[SystemTable], fitted_on: str) -> WriteUp:
    """Write up the tables, one a dataset; `fitted_on` says what the models of the test numbers have read."""
    labels = (row.label for table in tables for row in table.rows if row.system.group == "flagship")
    flagship = next(labels, "")
    sections = []
    for table in tables:
        shown = [*results_tables(table), *slice_tables(table), *([claims_table(table)] if table.claims else [])]
        sections.append(Section(table.title, tuple(_sentences(table)), _drawings(table), tuple(shown), own=flagship))
    return WriteUp(
        name="table2",
        title="Table 2: all systems, on the same examples",
        lead=(
            "Every system through one protocol: the whole catalogue ranked, ties against the model, settings and "
            f"epochs chosen on validation. The models of these test numbers were fitted on {fitted_on}. Values are "
            "means over examples and seeds, in per cent, with the interval that holds 95 % of resamples of sessions."
        ),
        sections=tuple(sections),
        attachments={"table2.csv": long_csv(tables)},
    )


def results_tables(table: SystemTable) -> tuple[TextTable, ...]:
    """A table a metric: published and own values, and the paired difference from the best rival."""
    header = ("system", "seeds", "published", "ours", "± seeds", "against the best rival", "p")
    missing: dict[str, list[str]] = {}
    for system in table.missing:
        missing.setdefault(system.note.rstrip("."), []).append(system.label)
    notes = (
        f"{table.examples:,} examples, {table.candidates:,} candidates each. ± seeds: standard deviation over seeds; a "
        "model that only counts has none.",
        "Against the best rival: percentage points [95 % interval] on the same examples; p: two-sided paired bootstrap "
        "over sessions, corrected by Holm over both tables. The best rival is chosen on these very examples, which "
        "favours it.",
        *(f"No finished run of {', '.join(labels)}: {note}." for note, labels in missing.items()),
    )
    return tuple(
        TextTable(
            f"{table.title}: {metric_title(metric)}, per cent",
            header,
            tuple(_result(table, row, metric) for row in table.rows),
            notes if metric == METRICS[-1] else (),
        )
        for metric in METRICS
    )


def slice_tables(table: SystemTable) -> tuple[TextTable, ...]:
    """A table a metric: each system on each kind of next item."""
    found = [slices_table([row.run for row in table.rows], metric) for metric in METRICS]
    return tuple(
        replace(
            each,
            title=f"{table.title}: {each.title}",
            header=("system", *each.header[1:]),
            notes=each.notes if each is found[-1] else (),
        )
        for each in found
    )


def claims_table(table: SystemTable) -> TextTable:
    """The paper's statements and what our runs say."""
    differences = (f"{metric_title(metric)} difference" for metric in METRICS)
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
    header = ("research question", "claim", *differences, "p", "verdict")
    return TextTable(f"{table.title}: what the paper concludes, tested", header, rows, (note,))


def summary_table(tables: Sequence[SystemTable]) -> TextTable:
    """The README's table: published and own Hit@20 / MRR@20 of every system."""
    header = ["system"]
    for table in tables:
        header += [f"{table.title} published"] if _has_published(table) else []
        header.append(table.title)
    rows = []
    for label in dict.fromkeys(row.label for table in tables for row in table.rows):
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
        "Systems of the paper come first. Each row's seeds, intervals, paired tests and slices: "
        "docs/reproduction/table2.md."
    )
    return TextTable("All systems on the same examples", tuple(header), tuple(rows), (note,))


def long_csv(tables: Sequence[SystemTable]) -> str:
    """One line for each dataset, system, metric and slice ("all" for all examples); shares 0..1."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for table in tables:
        for row in table.rows:
            system, published = row.system, row.system.published
            head = [table.title, row.label, system.runs[0].run.document["model"], system.group, len(system.runs)]
            for metric in METRICS:
                found = row.differences.get(metric)
                tested = (found.difference, found.low, found.high, found.p_value) if found else ("",) * 4
                rival, seconds = table.best_rivals.get(metric, ""), round(system.mean_seconds("seconds"), 1)
                values = (published.get(metric, ""), row.values[metric], row.deviations.get(metric, ""))
                cells = (*values, *row.intervals[metric], rival, *tested, seconds)
                writer.writerow([*head, metric, "all", *map(_rounded, cells)])
                for name, part in row.slices.items():
                    writer.writerow([*head, metric, name, "", _rounded(part[metric]), *[""] * 9])
    return buffer.getvalue()


def _fitted_on(options: RunOptions) -> str:
    """What the models of the test numbers have read, and for how long."""
    data = "train and validation" if options.refit else "train alone"
    own = options.choose_epochs == "each-seed"
    whose = "each seed by itself" if own else "with the first seed, for all seeds"
    return f"{data}, for the epochs that validation chose ({whose})"


def _table(data: Path, runs: Runs, rows: Sequence[tuple[str, str, Group]]) -> SystemTable:
    dataset = PreparedDataset.load(data)
    name = published_name(dataset)
    published = TABLE_2[name] if name is not None else {}
    systems = [
        System(label, group, runs.found.get(model, ()), published.get(_base(label), {}), runs.missing.get(model, ""))
        for label, model, group in rows
    ]
    return compare_systems(data_title(data, dataset), systems)


def _base(label: str) -> str:
    """What the paper calls a row of ours: "MKM-SR (talk)" is its MKM-SR."""
    return label.partition(" (")[0]


def _sentences(table: SystemTable) -> list[str]:
    """What the numbers come to, in words."""
    found = []
    published = [row for row in table.rows if row.system.group == "paper" and row.system.published]
    if published:
        reached = [row for row in published if all(row.values[name] >= row.system.published[name] for name in METRICS)]
        below = [row.label for row in published if row not in reached]
        text = f"{len(reached)} of {len(published)} published rows are reached or passed on both metrics"
        found.append(text + (f"; not by {', '.join(below)}." if below else "."))
    if table.best_rivals:
        best = list(dict.fromkeys(table.best_rivals.values()))
        parts = [f"{label} by {metric_title(metric)}" for metric, label in table.best_rivals.items()]
        found.append(f"The best rival is {' and '.join(parts) if len(best) > 1 else f'{best[0]} by both metrics'}.")
    found.append(_cost(table))
    flagships = [row for row in table.rows if row.system.group == "flagship"]
    return found + [f"{row.label}: {_against(row.differences)}." for row in flagships if row.differences]


def _cost(table: SystemTable) -> str:
    runs = sum(len(row.system.runs) for row in table.rows)
    wall, busy = (
        sum(row.system.mean_seconds(name) * len(row.system.runs) for row in table.rows) / 60
        for name in ("seconds", "processor_seconds")
    )
    half, busy_text, wall_text = (f"{each:.1f}" if each < 10 else f"{each:.0f}" for each in (busy / 2, busy, wall))
    return (
        f"Runs of this table: {runs}. They took {busy_text} minutes of processor time, one "
        f"thread each: {half} on two idle cores. By the clock of the machine that made them, which had other work too, "
        f"it was {wall_text}."
    )


def _against(differences: Mapping[str, PairedDifference]) -> str:
    parts = [
        f"{metric_title(metric)} {100 * each.difference:+.2f} points over the best rival "
        f"(95 % interval {100 * each.low:+.2f} to {100 * each.high:+.2f}, p {p_value_text(each.p_value)})"
        for metric, each in differences.items()
    ]
    return ", ".join(parts)


def _drawings(table: SystemTable) -> tuple[Any, ...]:
    """All systems with their intervals; nothing where matplotlib is missing."""
    rows = [
        FigureRow(row.label, row.values, row.intervals, highlight=row.system.group == "flagship") for row in table.rows
    ]
    return draw_if_possible(
        f"table2-{file_name(table.title)}",
        partial(draw_metrics, rows, METRICS),
        f"Hit@20 and MRR@20 of every system on {table.title} with 95 per cent intervals.",
        "Dots are means over examples and seeds, lines 95 % intervals.",
    )


def _result(table: SystemTable, row: SystemRow, metric: str) -> tuple[str, ...]:
    found = row.differences.get(metric)
    is_best = table.best_rivals.get(metric) == row.label
    return (
        row.label,
        str(len(row.system.runs)),
        percent(row.system.published.get(metric)),
        f"{percent(row.values[metric])} {interval_text(row.intervals[metric])}",
        percent(row.deviations.get(metric)),
        difference_text(found) if found else "best rival" if is_best else "-",
        p_value_text(found.p_value) if found else "-",
    )


def _rounded(cell: object) -> object:
    return round(cell, 6) if isinstance(cell, float) else cell


def _has_published(table: SystemTable) -> bool:
    return any(row.system.published for row in table.rows)


def _pair(values: Mapping[str, float]) -> str:
    return " / ".join(f"{100 * values[metric]:.1f}" for metric in METRICS)

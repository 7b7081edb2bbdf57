"""The HTML report of one run: a single file without outside parts, drawn from the files of a run folder.

Needs no model, so a report can be drawn again at any time, beside other runs or with a newer template. What the
template shows are plain values: every number is text, every id still unescaped.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mkmsr.errors import EvaluationError
from mkmsr.evaluation.significance import bootstrap_intervals
from mkmsr.reports.comparison import (
    VISITORS,
    Comparison,
    ComparisonRow,
    check_same_examples,
    compare_runs,
    read_runs,
    verdict,
)
from mkmsr.reports.figures import (
    FigureRow,
    MissingMatplotlibError,
    draw_learning_curves,
    draw_metrics,
    draw_slices,
    inline_svg,
)
from mkmsr.reports.run_folder import EvaluatedRun, RunFolder, read_run_folder
from mkmsr.reports.tables import (
    comparison_table,
    interval_text,
    metric_title,
    p_value_text,
    percent,
    slices_table,
)
from mkmsr.reports.write_up import table_view, template
from mkmsr.runtime.files import atomic_write

REPORT = "report.html"
_BASELINES = "baselines"
_MAX_ATTRIBUTES = 8
"""Attribute values shown of an item; an item may have dozens."""

_KINDS = {
    "found": "Found: the next item was not in the session yet",
    "repeat": "Found: the visitor came back to an item of the session",
    "missed": "Missed: the next item is not among the recommendations",
}

_logger = logging.getLogger(__name__)


def write_run_report(
    folder: str | Path, *, baselines: Sequence[str | Path | Mapping[str, Any]] = (), samples: int = 10_000
) -> Path:
    """Write `report.html` and `figures/` into a run folder, and return the report's path.

    Baselines are run folders, files of metrics or evaluation documents of other models on the same examples. What is
    shown of them is copied into `baselines/`, and used again when none are given and the examples are the same.
    """
    run = read_run_folder(folder)
    own, *others = read_runs([run.run, *(read_runs(baselines) if baselines else _remembered(run))])
    run = replace(run, run=own)
    metrics = _longest_list(own)
    comparison = compare_runs([own, *others], metrics=metrics, reference=own.label, samples=samples)
    if baselines:
        _remember(run.folder, others)
    figures = _figures(run, comparison)
    path = run.folder / REPORT
    atomic_write(path, template("run_report.html").render(_view(run, comparison, figures)))
    return path


def _longest_list(run: EvaluatedRun) -> list[str]:
    """The metrics at the greatest k: `["hit@20", "mrr@20", "ndcg@20"]`."""
    names = list(run.document["metrics"])
    longest = max(int(name.partition("@")[2]) for name in names)
    return [name for name in names if name.endswith(f"@{longest}")]


def _main_metric(metrics: Sequence[str]) -> str:
    """The metric that stands for all where only one is shown: MRR if it is among them."""
    return next((name for name in metrics if name.startswith("mrr@")), metrics[0])


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
    # Baselines that were read from that very folder must not be deleted under the reader.
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


def _figures(run: RunFolder, comparison: Comparison) -> dict[str, Markup] | None:
    """The figures by name; None where matplotlib is missing."""
    metrics, main = comparison.metrics, _main_metric(comparison.metrics)
    runs = [row.run for row in comparison.rows]
    drawings: dict[str, tuple[Callable[[], bytes], str]] = {}
    if len(runs) > 1:  # a single dot says less than the table below it
        drawings["metrics"] = (
            lambda: draw_metrics([_metric_row(each, run.run) for each in runs], metrics),
            "Metrics of every model with 95 per cent intervals; the table below has the numbers.",
        )
        drawings["slices"] = (
            lambda: draw_slices([_slice_row(each, run.run, main) for each in runs], main),
            f"{metric_title(main)} of every model on repeated, new and other items; the table below has the numbers.",
        )
    if len(run.history) > 1:
        drawings["curves"] = (
            lambda: draw_learning_curves(run.history, [metrics[0], main], run.metrics.get("best_epoch")),
            f"Training losses and validation metrics over {len(run.history)} epochs.",
        )
    markup = {}
    for name, (draw, description) in drawings.items():
        try:
            svg = draw()
        except MissingMatplotlibError:
            return None
        atomic_write(run.folder / "figures" / f"{name}.svg", svg)
        markup[name] = Markup(inline_svg(svg, name=name, description=description))
    return markup


def _metric_row(run: EvaluatedRun, own: EvaluatedRun) -> FigureRow:
    intervals = {name: (low, high) for name, (low, high) in run.document["intervals"].items()}
    return FigureRow(run.label, run.document["metrics"], intervals, highlight=run is own)


def _slice_row(run: EvaluatedRun, own: EvaluatedRun, metric: str) -> FigureRow:
    slices = run.document["slices"]
    values = {name: float(part[metric]) for name, part in slices.items() if part.get(metric) is not None}
    tables = run.ranks.slices() if run.ranks is not None else {}
    k = int(metric.partition("@")[2])
    intervals = {name: bootstrap_intervals(table, (k,))[metric] for name, table in tables.items() if len(table)}
    return FigureRow(run.label, values, intervals, highlight=run is own)


def _view(run: RunFolder, comparison: Comparison, figures: Mapping[str, Markup] | None) -> dict[str, Any]:
    """The values of `templates/run_report.html`."""
    document, dataset = run.run.document, run.examples.get("dataset", {})
    runs = [row.run for row in comparison.rows]
    model, label = str(document["model"]), run.run.label
    beside = comparison_table(comparison)
    own = next(cells[0] for cells, row in zip(beside.rows, comparison.rows, strict=True) if row.is_reference)
    return {
        "title": f"{model} on {dataset['name']}" if dataset.get("name") else model,
        "model": model,
        "split": str(document["split"]),
        "examples": f"{document['examples']:,}",
        "candidates": f"{document['candidates']:,}",
        "headline": [_headline(run, comparison, name) for name in comparison.metrics],
        "comparison": table_view(beside, own),
        "slices": table_view(slices_table(runs, _main_metric(comparison.metrics)), label),
        "figures": figures or {},
        "lacks_figures": figures is None,
        "verdict": verdict(comparison),
        "visitors": VISITORS,
        "facts": _facts(run),
        "is_refit": bool(run.metrics.get("refit")),
        "best_epoch": run.metrics.get("best_epoch"),
        "keeps_last": _keeps_last(run),
        "epochs": len(run.history),
        "counts": dataset.get("counts"),
        "sessions": _sessions(run.examples.get("sessions", [])),
        "rule": str(run.examples.get("rule", "")),
        "config": run.config.strip(),
        "command": _command(run),
        "is_continued": bool(run.metrics.get("continued_from")),
    }


def _headline(run: RunFolder, comparison: Comparison, metric: str) -> dict[str, str]:
    """One metric as a large number, its interval, and how the best of the others compares."""

    def value(row: ComparisonRow) -> float:
        return float(row.run.document["metrics"][metric])

    document = run.run.document
    note = ""
    others = [row for row in comparison.rows if not row.is_reference]
    if others:
        best = max(others, key=value)
        gain = 100 * (float(document["metrics"][metric]) - value(best))
        found = best.differences.get(metric)
        p = p_value_text(found.p_value) if found else ""
        tested = "not tested" if not found else f"p {p}" if p.startswith("<") else f"p = {p}"
        note = f"{gain:+.2f} points over {best.run.label}, the best baseline ({tested})"
    return {
        "title": metric_title(metric),
        "value": percent(document["metrics"][metric]),
        "interval": interval_text(document["intervals"].get(metric)),
        "note": note,
    }


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    metrics, document = run.metrics, run.run.document
    facts = [("run folder", run.folder.resolve().name)]
    if "seed" in metrics:
        facts.append(("seed", str(metrics["seed"])))
    if metrics.get("best_epoch"):
        name = "epoch kept, the last one" if _keeps_last(run) else "epoch chosen on validation"
        facts.append((name, f"{metrics['best_epoch']} of {len(run.history)}"))
        facts.append(("refit on training + validation", "yes" if metrics.get("refit") else "no"))
    if isinstance(metrics.get("seconds"), int | float):
        minutes, rest = divmod(round(metrics["seconds"]), 60)
        facts.append(("whole run", f"{minutes} min {rest} s" if minutes else f"{metrics['seconds']:.1f} s"))
    facts.append((f"ranking the {document['split']} split", f"{document.get('seconds', 0):.1f} s"))
    if isinstance(metrics.get("peak_mib"), int | float):
        facts.append(("peak memory", f"{metrics['peak_mib']:,.0f} MiB"))
    if metrics.get("data_fingerprint"):
        facts.append(("data fingerprint", str(metrics["data_fingerprint"])[:16]))
    return facts


def _keeps_last(run: RunFolder) -> bool:
    """Whether the last epoch is kept by the settings, and not one that validation chose."""
    training = run.metrics.get("config", {}).get("training", {})
    return bool(run.metrics.get("best_epoch")) and training.get("keep") == "last"


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    operations = sorted({event["operation"] for each in sessions for event in [*each["events"], each["target"]]})
    colours = {operation: index % 6 for index, operation in enumerate(operations)}
    return [_session(each, colours) for each in sessions]


def _session(session: Mapping[str, Any], colours: Mapping[str, int]) -> dict[str, Any]:
    events, target, recommendations = session["events"], session["target"], session["recommendations"]
    known = {(name, value) for event in events for name, values in event["attributes"].items() for value in values}

    def shown(each: Mapping[str, Any], shared: set[tuple[str, str]] = known, **more: Any) -> dict[str, Any]:
        return {**each, **_product(each, shared), **more}

    items = [event["item"] for event in events]
    kinds = [word for key, word in (("is_new_item", "new item"), ("is_repeat", "repeat")) if target[key]]
    return {
        "title": _KINDS.get(session["kind"], session["kind"]),
        "events": [
            shown(event, set(), colour=colours[event["operation"]], again=event["item"] in items[:place])
            for place, event in enumerate(events)
        ],
        "target": shown(
            target, colour=colours[target["operation"]], rank=f"{target['rank']:,}", kinds=", ".join(kinds)
        ),
        "recommendations": [shown(each, score=f"{each['score']:.3f}") for each in recommendations],
        "is_listed": any(each["is_target"] for each in recommendations),
    }


def _product(each: Mapping[str, Any], shared: set[tuple[str, str]]) -> dict[str, Any]:
    """What a product card shows. A picture must be in the page: the report asks nothing of the network."""
    display = dict(each.get("display", {}))
    name, price, image = (display.pop(key, "") for key in ("name", "price", "image"))
    told = {key: [value] for key, value in display.items() if not value.startswith(("data:", "http:", "https:"))}
    return {
        "name": name or each["item"],
        "price": price,
        "image": image if image.startswith("data:image/") else "",
        "attributes": _attributes(told | dict(each["attributes"]), shared),
    }


def _attributes(attributes: Mapping[str, Sequence[str]], known: set[tuple[str, str]]) -> dict[str, Any]:
    """The first few values, those shared with the session first to be kept, and how many more there are."""
    values = [
        {"relation": name, "value": value, "shared": (name, value) in known}
        for name, several in attributes.items()
        for value in several
    ]
    kept = sorted(range(len(values)), key=lambda place: not values[place]["shared"])[:_MAX_ATTRIBUTES]
    return {"values": [values[place] for place in sorted(kept)], "more": len(values) - len(kept)}


def _command(run: RunFolder) -> str:
    """The call that trains the run again; DATA and BUNDLE stand for folders whose place a run does not know."""
    model, folder = str(run.run.document["model"]), run.folder.resolve().name
    words = ["mkmsr", "train", "DATA", "--model", model]
    words += ["--config", f"{folder}/config.toml"] if run.config else []
    words += ["--seed", str(run.metrics["seed"])] if "seed" in run.metrics else []
    words += ["--from", "BUNDLE"] if run.metrics.get("continued_from") else []
    words += ["--refit"] if run.metrics.get("refit") else []
    return shlex.join([*words, "--out", f"{folder}-again"])

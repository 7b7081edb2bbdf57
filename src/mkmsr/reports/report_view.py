"""What the template of the run report shows, as plain values: every number is text here, every id still unescaped."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mkmsr.reports.comparison import Comparison, ComparisonRow
from mkmsr.reports.run_folder import RunFolder
from mkmsr.reports.tables import (
    TextTable,
    comparison_table,
    interval_text,
    metric_title,
    p_value_text,
    percent,
    slices_table,
)

__all__ = ["main_metric", "report_view"]

_MAX_ATTRIBUTES = 8
"""Attribute values shown of an item; an item may have dozens."""

_KINDS = {
    "found": "Found: the next item was not in the session yet",
    "repeat": "Found: the visitor came back to an item of the session",
    "missed": "Missed: the next item is not among the recommendations",
}


def report_view(run: RunFolder, comparison: Comparison, figures: Mapping[str, str]) -> dict[str, Any]:
    """The values of `templates/run_report.html`.

    Args:
        run: The run.
        comparison: The run, as the reference, and the models beside it.
        figures: Markup of the figures, trusted; empty where matplotlib is missing.
    """
    document, dataset = run.run.document, run.examples.get("dataset", {})
    runs = [row.run for row in comparison.rows]
    return {
        "title": f"{document['model']} on {dataset['name']}" if dataset.get("name") else str(document["model"]),
        "model": str(document["model"]),
        "own_label": run.run.label,
        "split": str(document["split"]),
        "examples": f"{document['examples']:,}",
        "candidates": f"{document['candidates']:,}",
        "headline": [_headline(run, comparison, name) for name in comparison.metrics],
        "comparison": _marked(comparison_table(comparison), comparison),
        "slices": _marked(slices_table(runs, main_metric(comparison.metrics)), comparison),
        "figures": {name: Markup(markup) for name, markup in figures.items()},
        "facts": _facts(run),
        "is_refit": bool(run.metrics.get("refit")),
        "best_epoch": run.metrics.get("best_epoch"),
        "keeps_last": _keeps_last(run),
        "epochs": len(run.history),
        "counts": _data_card(dataset.get("counts", {})),
        "sessions": _sessions(run.examples),
        "rule": str(run.examples.get("rule", "")),
        "config": run.config.strip(),
        "command": _command(run),
        "is_continued": bool(run.metrics.get("continued_from")),
    }


def main_metric(metrics: Sequence[str]) -> str:
    """The metric that stands for all where only one is shown: MRR if it is among them."""
    return next((name for name in metrics if name.startswith("mrr@")), metrics[0])


def _headline(run: RunFolder, comparison: Comparison, metric: str) -> dict[str, str]:
    """One metric as a large number, its interval, and how the best of the others compares."""
    document = run.run.document
    others = [row for row in comparison.rows if not row.is_reference]
    note = ""
    if others:
        best = max(others, key=lambda row: float(row.run.document["metrics"][metric]))
        gain = float(document["metrics"][metric]) - float(best.run.document["metrics"][metric])
        note = f"{100 * gain:+.2f} points from {best.run.label}, the best beside it{_tested(best, metric)}"
    return {
        "title": metric_title(metric),
        "value": percent(document["metrics"][metric]),
        "interval": interval_text(run.run, metric),
        "note": note,
    }


def _tested(row: ComparisonRow, metric: str) -> str:
    found = row.differences.get(metric)
    if found is None:
        return " (not tested)"
    p = p_value_text(found.p_value)
    return f" (p {p if p.startswith('<') else f'= {p}'})"


def _marked(table: TextTable, comparison: Comparison) -> dict[str, Any]:
    """A table with the place of the run's own row."""
    own = [row.is_reference for row in comparison.rows].index(True)
    return {"title": table.title, "header": table.header, "rows": table.rows, "notes": table.notes, "own": own}


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
        facts.append(("whole run", _duration(float(metrics["seconds"]))))
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


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _data_card(counts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Counts of the prepared data; None where the run did not keep them."""
    if not counts:
        return None
    splits = [name for name in ("train", "validation", "test") if name in counts]
    test = counts.get("test", {})
    shares = [
        ("mean session length", f"{counts['mean_session_length']:.2f} events"),
        ("mean item frequency", f"{counts['mean_item_frequency']:.2f} events"),
    ]
    for key, title in (
        ("new_item_event_share", "test events of new items"),
        ("new_item_target_share", "test targets that are new items"),
    ):
        if key in test:
            shares.append((title, f"{percent(test[key])} %"))
    return {
        "totals": [
            (name.replace("_", " "), f"{counts[name]:,}")
            for name in ("sessions", "events", "items", "operations", "relations", "triples")
        ],
        "splits": [
            (name, *(f"{counts[name][key]:,}" for key in ("sessions", "events", "examples"))) for name in splits
        ],
        "shares": shares,
    }


def _sessions(examples: Mapping[str, Any]) -> list[dict[str, Any]]:
    sessions = examples.get("sessions", [])
    operations = sorted({event["operation"] for each in sessions for event in [*each["events"], each["target"]]})
    colours = {operation: index % 6 for index, operation in enumerate(operations)}
    return [_session(each, colours) for each in sessions]


def _session(session: Mapping[str, Any], colours: Mapping[str, int]) -> dict[str, Any]:
    events, target = session["events"], session["target"]
    known = {(name, value) for event in events for name, values in event["attributes"].items() for value in values}
    seen: set[str] = set()
    rows = []
    for event in events:
        rows.append({**_shown(event, colours), "again": event["item"] in seen})
        seen.add(event["item"])
    kinds = [word for key, word in (("is_new_item", "new item"), ("is_repeat", "repeat")) if target[key]]
    return {
        "title": _KINDS.get(session["kind"], session["kind"]),
        "events": rows,
        "target": {**_shown(target, colours, known), "rank": f"{target['rank']:,}", "kinds": ", ".join(kinds)},
        "recommendations": [
            {
                "rank": each["rank"],
                "item": each["item"],
                "score": f"{each['score']:.3f}",
                "attributes": _attributes(each["attributes"], known),
                "is_target": each["is_target"],
                "in_prefix": each["in_prefix"],
            }
            for each in session["recommendations"]
        ],
        "is_listed": any(each["is_target"] for each in session["recommendations"]),
    }


def _shown(
    event: Mapping[str, Any], colours: Mapping[str, int], known: set[tuple[str, str]] | None = None
) -> dict[str, Any]:
    return {
        "item": event["item"],
        "operation": event["operation"],
        "colour": colours[event["operation"]],
        "attributes": _attributes(event["attributes"], known or set()),
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
    if isinstance(run.metrics.get("command"), str):
        return str(run.metrics["command"])
    model, folder = str(run.run.document["model"]), run.folder.resolve().name
    words = ["mkmsr", "train", "DATA", "--model", model]
    words += ["--config", f"{folder}/config.toml"] if run.config else []
    words += ["--seed", str(run.metrics["seed"])] if "seed" in run.metrics else []
    words += ["--from", "BUNDLE"] if run.metrics.get("continued_from") else []
    words += ["--refit"] if run.metrics.get("refit") else []
    return shlex.join([*words, "--out", f"{folder}-again"])

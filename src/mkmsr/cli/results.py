"""What several commands print: the counts of prepared data, evaluations, recommendations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mkmsr.cli.console import Terminal, counted, text_table

if TYPE_CHECKING:
    from mkmsr.data.dataset import PreparedDataset
    from mkmsr.recommend import Recommendations, Recommender

_SHOWN_EVENTS = 30
"""Most events of a session that a table shows."""

_SHOWN_NAMES = 12
"""Most operations, and most relations, that prepared data are said to have."""


def show_statistics(screen: Terminal, dataset: PreparedDataset, counts: dict[str, Any]) -> None:
    """Print the counts of prepared data, and the names of operations and relations."""
    splits = ("train", "validation", "test", "train_and_validation")
    rows = [
        [split.replace("_", " "), *(f"{counts[split][key]:,}" for key in ("sessions", "events", "examples"))]
        for split in splits
        if split in counts
    ]
    rows.append(["all", f"{counts['sessions']:,}", f"{counts['events']:,}", ""])
    screen.show(text_table(dataset.name, ["split", "sessions", "events", "examples"], rows))
    sizes = ("items", "operations", "relations", "triples")
    screen.print(", ".join(counted(counts[key], key.removesuffix("s")) for key in sizes))
    for kind, names in (("operations", dataset.operations.ids), ("relations", dataset.knowledge.relations.ids)):
        more = f" and {len(names) - _SHOWN_NAMES:,} more" if len(names) > _SHOWN_NAMES else ""
        if names:
            screen.print(f"{kind}: {', '.join(names[:_SHOWN_NAMES])}{more}")
    screen.print(
        f"{counts['mean_session_length']:.2f} events a session, {counts['mean_item_frequency']:.2f} events an item; "
        f"new items are {100 * counts['test']['new_item_event_share']:.2f} % of the test's events "
        f"and {100 * counts['test']['new_item_target_share']:.2f} % of its targets"
    )
    if "returning_sessions" in counts["test"]:
        returning = (f"{counts[split]['returning_sessions']:,} of {split.replace('_', ' ')}" for split in splits[:3])
        screen.print(f"sessions of visitors who came back: {', '.join(returning)}")


def show_evaluation(screen: Terminal, documents: Sequence[Mapping[str, Any]]) -> None:
    """Print the metrics and slices of evaluations of the same split: one in full, several at their longest lists."""
    from mkmsr.reports.comparison import read_runs
    from mkmsr.reports.tables import interval_text, metric_title, metrics_table, percent, slices_table

    first, runs = documents[0], read_runs(documents)
    names = list(first["metrics"])
    longest = max(int(name.partition("@")[2]) for name in names)
    examples, candidates = (counted(first[f"{each}s"], each) for each in ("example", "candidate"))
    screen.print(f"{first['split']}: {examples}, {candidates} each")
    if len(runs) == 1:
        rows = [
            [metric_title(name), percent(first["metrics"][name]), interval_text(first["intervals"].get(name))]
            for name in names
        ]
        screen.show(text_table(str(first["model"]), ["metric", "per cent", "95 % interval over sessions"], rows))
    else:
        screen.show_report(metrics_table(runs, [name for name in names if name.endswith(f"@{longest}")]))
    hits, ranks = (slices_table(runs, f"{kind}@{longest}") for kind in ("hit", "mrr"))
    screen.show_report(replace(hits, notes=()))
    screen.show_report(ranks)
    if "lists" in first:
        _show_lists(screen, first["lists"])
    if "details" in first:
        shown = [f"{kind}@{longest}" for kind in ("hit", "mrr")]
        rows = [
            [each["by"], each["part"], f"{each['examples']:,}", *(percent(each[name]) for name in shown)]
            for each in first["details"]
        ]
        header = ["by", "", "examples", *(metric_title(name) for name in shown)]
        screen.show(text_table("In detail, per cent", header, rows, numbers_from=2))
    if "probabilities" in first:
        _show_probabilities(screen, first["probabilities"], longest)
    if "order" in first:
        screen.print("What is lost when the events of each prefix stand in random order, points [95 % interval]:")
        for name, each in first["order"].items():
            found = f"{100 * each['difference']:+.2f} [{100 * each['low']:+.2f}, {100 * each['high']:+.2f}]"
            screen.print(f"{metric_title(name)} {found}")


def _show_probabilities(screen: Terminal, found: Mapping[str, Any], longest: int) -> None:
    """Print how often the next item is in the list, beside how often the model expected it."""
    from mkmsr.reports.tables import percent

    rows = [[f"{each['examples']:,}", percent(each["expected"]), percent(each["found"])] for each in found["groups"]]
    title = f"Next item in lists of {longest}, per cent"
    screen.show(text_table(title, ["examples", "expected", "found"], rows))
    screen.print(
        f"mean difference {percent(found['calibration_error'])}; log probability of the next item "
        f"{found['log_likelihood']:.3f} (natural logarithm)"
    )


def _show_lists(screen: Terminal, found: Mapping[str, float]) -> None:
    """Print what the lists of an evaluation are like."""
    from mkmsr.evaluation.lists import LIST_METRICS

    lengths = sorted({int(name.partition("@")[2]) for name in found})
    names = [name for name in LIST_METRICS if f"{name}@{lengths[-1]}" in found]
    rows = [
        [_words(name), *(f"{found[key]:.3f}" if (key := f"{name}@{k}") in found else "-" for k in lengths)]
        for name in names
    ]
    screen.show(text_table("Lists", ["", *(f"first {k}" for k in lengths)], rows))
    for name in names:
        screen.print(f"{_words(name)}: {LIST_METRICS[name]}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def show_recommendations(
    out: Terminal, recommender: Recommender, events: list[Any], ranked: Recommendations, *, title: str
) -> None:
    """Print a session and its ranked items, both with their attributes."""
    from mkmsr.recommend.sessions import item_and_operation

    shown = [item_and_operation(event, "an event") for event in events[-_SHOWN_EVENTS:]]
    rows = [[item, operation or "", _attributes(recommender, item)] for item, operation in shown]
    which = "events" if len(shown) == len(events) else f"the last {len(shown)} of {len(events):,} events"
    out.show(text_table(f"{title}: {which}, oldest first", ["item", "operation", "attributes"], rows, numbers_from=3))
    rows = [
        [str(each.rank), each.item, f"{each.score:.3f}", _attributes(recommender, each.item)] for each in ranked.items
    ]
    by = "" if ranked.ranked_by == "model" else ", by popularity: no event of a known item"
    out.show(text_table(f"Recommended{by}", ["rank", "item", "score", "attributes"], rows, numbers_from=4))
    if remarks := _remarks(recommender, ranked):
        out.print("; ".join(remarks))


def _remarks(recommender: Recommender, ranked: Recommendations) -> list[str]:
    """What was done with events that the model does not know."""
    from mkmsr.recommend.sessions import default_operation

    remarks = [f"{counted(ranked.skipped, 'event')} of unknown items skipped"] if ranked.skipped else []
    if ranked.replaced:
        operations = recommender.bundle.operations
        usual = operations.id(default_operation(recommender.bundle))
        verb = "counts" if ranked.replaced == 1 else "count"
        unknown = f"{counted(ranked.replaced, 'unknown operation')} {verb} as {usual!r}"
        remarks.append(f"{unknown}; known: {', '.join(operations.ids)}")
    return remarks


def _attributes(recommender: Recommender, item: str) -> str:
    if item not in recommender.bundle.items:
        return "(unknown item)"
    display = recommender.bundle.display.get(item, {})
    shown = {name: [value] for name, value in display.items() if not value.startswith(("data:", "http:", "https:"))}
    return ", ".join(f"{name}: {' | '.join(values)}" for name, values in (shown | recommender.attributes(item)).items())

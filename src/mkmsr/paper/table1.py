"""Table 1: counts of prepared data beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mkmsr.data.dataset import PreparedDataset, statistics
from mkmsr.paper.published import TABLE_1, PublishedData, published_name
from mkmsr.paper.runs import Reproduction, data_title
from mkmsr.reports.tables import TextTable, percent
from mkmsr.reports.write_up import Section, WriteUp

_Counted: TypeAlias = tuple[str, Mapping[str, Any], PublishedData | None]
"""What tables call some data, its counts as `mkmsr describe --json` prints them, and the published ones."""

_COUNTED = ("sessions", "events", "examples")


def reproduce_table_1(datasets: Sequence[Path]) -> Reproduction:
    """Count prepared data beside the published counts."""
    counted: list[_Counted] = []
    for data in datasets:
        dataset = PreparedDataset.load(data)
        name = published_name(dataset)
        counted.append((data_title(data, dataset), statistics(dataset), TABLE_1[name] if name is not None else None))
    write_up = WriteUp(
        name="table1",
        title="Table 1: the data",
        lead="Counts of the prepared data, beside the published ones where the data are the paper's own.",
        sections=(Section("Counts", tables=(_counts_table(counted), _splits_table(counted))),),
    )
    return Reproduction(write_up, {title: counts for title, counts, _ in counted})


def _counts_table(counted: Sequence[_Counted]) -> TextTable:
    header = ("data", "sessions", "events a session", "items", "new items' events", "events an item", "operations")
    rows, notes = [], []
    for title, counts, paper in counted:
        if paper is not None:
            published = (paper.sessions, paper.length, paper.items, paper.new_share, paper.frequency, paper.operations)
            rows.append(_row(f"{title}, published", *published))
            notes += [f"{title}: {paper.caveat}."] if paper.caveat else []
        new = counts["test"]["new_item_event_share"] or None
        length, frequency = counts["mean_session_length"], counts["mean_item_frequency"]
        rows.append(_row(title, counts["sessions"], length, counts["items"], new, frequency, counts["operations"]))
    notes.append("New items' events: share of the test's events, per cent, that have an item of no earlier session.")
    return TextTable("Data", header, tuple(rows), tuple(notes))


def _row(
    title: str, sessions: int, length: float, items: int, new: float | None, frequency: float, operations: int
) -> tuple[str, ...]:
    return title, f"{sessions:,}", f"{length:.3f}", f"{items:,}", percent(new), f"{frequency:.3f}", str(operations)


def _splits_table(counted: Sequence[_Counted]) -> TextTable:
    header = ("data", *(f"{split} {key}" for split in ("training", "test") for key in _COUNTED))
    rows = tuple(
        (title, *(f"{counts[split][key]:,}" for split in ("train_and_validation", "test") for key in _COUNTED))
        for title, counts, _ in counted
    )
    note = "Training: train and validation together. Examples: every prefix with its next item."
    return TextTable("Splits", header, rows, (note,))

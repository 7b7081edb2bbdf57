"""Table 1 done again: counts of prepared data beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mkmsr.paper.published import TABLE_1
from mkmsr.reports.tables import TextTable, percent
from mkmsr.reports.write_up import Section, WriteUp

__all__ = ["table_1"]


def table_1(data: Sequence[tuple[str, Mapping[str, Any], str | None]], *, command: str) -> WriteUp:
    """The write-up.

    Args:
        data: For each dataset what tables call it, its statistics as `mkmsr describe --json` prints them, and the
            paper's name for it, if it is one of the paper's.
        command: What writes it.
    """
    header = ("data", "sessions", "events a session", "items", "new items' events", "events an item", "operations")
    rows: list[tuple[str, ...]] = []
    notes = []
    for title, counts, name in data:
        if name is not None:
            row = TABLE_1[name]
            rows.append(
                (
                    f"{title}, published",
                    f"{row.sessions:,}",
                    f"{row.length:.3f}",
                    f"{row.items:,}",
                    percent(row.new_share),
                    f"{row.frequency:.3f}",
                    str(row.operations),
                )
            )
            notes += [f"{title}: {row.caveat}."] if row.caveat else []
        new = counts["test"]["new_item_event_share"]
        rows.append(
            (
                title,
                f"{counts['sessions']:,}",
                f"{counts['mean_session_length']:.3f}",
                f"{counts['items']:,}",
                percent(new) if new else "-",
                f"{counts['mean_item_frequency']:.3f}",
                str(counts["operations"]),
            )
        )
    notes.append("New items' events: share of the test's events, per cent, that have an item of no earlier session.")
    splits = tuple(
        (title, *(f"{counts[split][key]:,}" for split in ("train_and_validation", "test") for key in _COUNTED))
        for title, counts, _ in data
    )
    split_header = ("data", *(f"{split} {key}" for split in ("training", "test") for key in _COUNTED))
    return WriteUp(
        name="table1",
        title="Table 1: the data",
        lead="Counts of the prepared data, beside the published ones where the data are the paper's own.",
        sections=(
            Section(
                "Counts",
                tables=(
                    TextTable("Data", header, tuple(rows), tuple(notes)),
                    TextTable(
                        "Splits",
                        split_header,
                        splits,
                        ("Training: train and validation together. Examples: every prefix with its next item.",),
                    ),
                ),
            ),
        ),
        command=command,
    )


_COUNTED = ("sessions", "events", "examples")

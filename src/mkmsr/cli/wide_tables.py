"""Tables that are wider than the terminal, cut between columns rather than inside numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from mkmsr.reports.tables import TextTable

_BESIDE_A_CELL = 3
"""Columns of the terminal between the texts of two cells."""


def pieces_that_fit(table: TextTable, width: int) -> Iterator[TextTable]:
    """Return the table in pieces as wide as a terminal, if that can be; each has the first column, the first the title.

    What belongs to a metric (its difference, its p) stays with it.
    """
    widths = [max(map(cell_len, column)) + _BESIDE_A_CELL for column in zip(table.header, *table.rows, strict=True)]
    has_metrics = any("@" in name for name in table.header)
    taken, used = [0], widths[0] + 1
    title = table.title
    for group in _groups(table.header, has_metrics=has_metrics):
        needed = sum(widths[column] for column in group)
        if used + needed > width and len(taken) > 1:
            yield _columns(table, taken, title)
            taken, used, title = [0], widths[0] + 1, ""
        taken += group
        used += needed
    yield _columns(table, taken, title)


def _groups(header: tuple[str, ...], *, has_metrics: bool) -> list[list[int]]:
    """The columns after the first, those together that must not be parted."""
    groups: list[list[int]] = []
    for column in range(1, len(header)):
        if groups and has_metrics and "@" not in header[column]:
            groups[-1].append(column)
        else:
            groups.append([column])
    return groups


def _columns(table: TextTable, columns: list[int], title: str) -> TextTable:
    header, *rows = (tuple(row[column] for column in columns) for row in (table.header, *table.rows))
    return replace(table, title=title, header=header, rows=tuple(rows))

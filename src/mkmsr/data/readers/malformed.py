"""Malformed rows: found by stated rules, then left out, counted and reported with the first examples, or an error."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.readers.options import ReadOptions
from mkmsr.errors import DataError

logger = logging.getLogger(__name__)

ROW = " row"
"""Name of the added column of row numbers, from 0; the blank keeps it apart from a file's own column `row`."""
EXTRA = " extra"
"""Name of a column one past the last of a text: a row has something in it when it has too many fields."""
_FAULT = " fault"
"""Name of the added column that numbers a row's first fault; null in a good row."""
_FOUND = " found"
"""Name of the added column with the value at fault."""

EXAMPLES = 5
"""How many malformed rows are quoted."""


@dataclass(frozen=True)
class Fault:
    """A way in which a row can be malformed.

    `bad`, over the raw columns, is true where it is. In the text `{value}` stands for what was found in the file's
    column at fault, if one is. Rows that are `counted_as` something are left out under that note and not malformed; but
    one with a text is an error where a single malformed row is.
    """

    bad: pl.Expr
    text: str
    column: str | None = None
    counted_as: str | None = None


@dataclass(frozen=True)
class BadRow:
    """One malformed row: its line in the file from 1, its column if one is at fault, and what is wrong."""

    row: int
    column: str | None
    text: str


def empty(column: str) -> Fault:
    """The fault of a needed column without a value."""
    return Fault(pl.col(column).is_null() | (pl.col(column) == ""), "the value is empty", column)


class RowCheck:
    """The rows of one file as they come: how many are malformed, and which are the first.

    ROW 0 stands in line `first_row`, from 1. The options say whether malformed rows are errors. The notes of the log
    take `malformed_rows`, `malformed_examples`, and counts of rows left out for other reasons.
    """

    def __init__(
        self, path: Path | str, faults: Sequence[Fault], options: ReadOptions, notes: dict[str, Any], first_row: int
    ):
        self._path, self._faults, self._first_row = path, faults, first_row
        self._options, self._notes = options, notes
        self._left_out = {
            number: fault.counted_as
            for number, fault in enumerate(faults)
            if fault.counted_as is not None and not (options.strict and fault.text)
        }
        self._counts: dict[int | None, int] = {}
        self._examples: list[tuple[int, int, str | None]] = []

    def good(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Count the next rows by their first faults, and return the good ones."""
        rows = rows.with_columns(_marks(self._faults))
        for fault, count in rows.group_by(_FAULT).agg(pl.len()).collect().iter_rows():
            self._counts[fault] = self._counts.get(fault, 0) + int(count)
        if len(self._examples) < EXAMPLES and any(self._is_wrong(fault) for fault in self._counts):
            wrong = rows.filter(pl.col(_FAULT).is_not_null() & ~pl.col(_FAULT).is_in(list(self._left_out)))
            first = wrong.select(ROW, _FAULT, _FOUND).bottom_k(EXAMPLES, by=ROW).sort(ROW).collect()
            self._examples += list(first.iter_rows())[: EXAMPLES - len(self._examples)]
        return rows.filter(pl.col(_FAULT).is_null()).drop(_FAULT, _FOUND)

    def close(self, *, may_be_empty: bool = False) -> None:
        """Report what was found; malformed rows that may not be, and a file without any row, raise DataError."""
        counts, path, notes = self._counts, self._path, self._notes
        if not counts and not may_be_empty:
            text = "the file has a header but no rows" if self._first_row > 1 else "the file is empty"
            raise DataError(text, path=path)
        for number, name in self._left_out.items():
            if number in counts:
                notes[name] = notes.get(name, 0) + counts[number]
                logger.info("%s: %d rows are left out: %s", path, counts[number], name.replace("_", " "))
        if bad := sum(count for fault, count in counts.items() if self._is_wrong(fault)):
            examples = []
            for row, number, found in self._examples:
                fault = self._faults[number]
                examples.append(BadRow(row + self._first_row, fault.column, fault.text.replace("{value}", repr(found))))
            same = counts[self._examples[0][1]]
            report(path, examples, self._options, notes, bad=bad, same=same, total=sum(counts.values()))

    def _is_wrong(self, fault: int | None) -> bool:
        return fault is not None and fault not in self._left_out


def report(
    path: Path | str,
    examples: Sequence[BadRow],
    options: ReadOptions,
    notes: dict[str, Any],
    *,
    bad: int,
    total: int,
    same: int = 1,
) -> None:
    """Note a file's malformed rows: how many of all are `bad`, and how many have the fault of the first example.

    Where one is malformed and none may be, or too many are, DataError is raised.
    """
    first, limit = examples[0], options.malformed_limit
    if options.strict or bad > limit * total:
        more = f" ({same} such rows)" if same > 1 else ""
        if limit and not options.strict and bad > 1:
            more += f"; {bad} of {total} rows cannot be read, and at most {limit:.4g} of them may be left out"
            more += " (--malformed-limit)"
        raise DataError(first.text + more, path=path, row=first.row, column=first.column)
    name = path.name if isinstance(path, Path) else path.rpartition("/")[2]
    located = [str(DataError(each.text, path=name, row=each.row, column=each.column)) for each in examples]
    notes["malformed_rows"] = notes.get("malformed_rows", 0) + bad
    notes["malformed_examples"] = [*notes.get("malformed_examples", ()), *located][:EXAMPLES]
    logger.warning("%s: %d of %d rows are malformed and left out; the first: %s", path, bad, total, "; ".join(located))


def _marks(faults: Sequence[Fault]) -> list[pl.Expr]:
    """Expressions of the columns _FAULT and _FOUND; the first fault of a row counts."""
    number: pl.Expr = pl.lit(None, dtype=pl.Int8)
    found: pl.Expr = pl.lit(None, dtype=pl.String)
    for index in reversed(range(len(faults))):
        column = faults[index].column
        value = pl.lit(None, dtype=pl.String) if column is None else pl.col(column)
        number = pl.when(faults[index].bad).then(pl.lit(index, dtype=pl.Int8)).otherwise(number)
        found = pl.when(faults[index].bad).then(value).otherwise(found)
    return [number.alias(_FAULT), found.alias(_FOUND)]

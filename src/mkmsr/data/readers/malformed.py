"""Malformed rows: found by stated rules, then left out, counted and reported with the first examples, or an error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.readers.options import ReadOptions
from mkmsr.errors import DataError

__all__ = ["EXAMPLES", "EXTRA", "FAULT", "FOUND", "ROW", "BadRow", "Fault", "MalformedRows", "empty", "marks"]

logger = logging.getLogger(__name__)

ROW = " row"
"""Name of the added column of row numbers, from 0; the blank keeps it apart from a file's own column `row`."""
EXTRA = " extra"
"""Name of a column one past the last of a text: a row has something in it when it has too many fields."""
FAULT = " fault"
"""Name of the added column that numbers a row's first fault; null in a good row."""
FOUND = " found"
"""Name of the added column with the value at fault."""

EXAMPLES = 5
"""How many malformed rows are quoted."""


@dataclass(frozen=True)
class Fault:
    """A way in which a row can be malformed.

    Args:
        bad: True where it is; an expression over the raw columns.
        text: What is wrong; `{value}` stands for what was found in the column.
        column: The file's column at fault, or None.
        counted_as: The note that counts such rows, which are left out and not malformed; but one with a text is an
            error where a single malformed row is.
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


def marks(faults: Sequence[Fault]) -> list[pl.Expr]:
    """Expressions of the columns FAULT and FOUND; the first fault of a row counts."""
    number: pl.Expr = pl.lit(None, dtype=pl.Int8)
    found: pl.Expr = pl.lit(None, dtype=pl.String)
    for index in reversed(range(len(faults))):
        column = faults[index].column
        value = pl.lit(None, dtype=pl.String) if column is None else pl.col(column)
        number = pl.when(faults[index].bad).then(pl.lit(index, dtype=pl.Int8)).otherwise(number)
        found = pl.when(faults[index].bad).then(value).otherwise(found)
    return [number.alias(FAULT), found.alias(FOUND)]


class MalformedRows:
    """The malformed rows of all files of one log.

    Args:
        options: Say whether they are errors, and from which share on.
    """

    def __init__(self, options: ReadOptions):
        self._options = options
        self._count = 0
        self._examples: list[str] = []
        self._left_out: dict[str, int] = {}

    def check(self, path: Path | str, faults: Sequence[Fault], *, first_row: int = 2) -> RowCheck:
        """The check of one file, which is read piece by piece.

        Args:
            path: The file, for messages.
            faults: The rules behind the marks of its rows.
            first_row: Line of the file that holds ROW 0, from 1.
        """
        return RowCheck(self, path, faults, first_row)

    def drop(
        self,
        rows: pl.LazyFrame,
        faults: Sequence[Fault],
        path: Path | str,
        *,
        first_row: int = 2,
        total: Callable[[], int] | None = None,
    ) -> pl.LazyFrame:
        """The good rows, without the marks.

        Args:
            rows: Columns ROW, FAULT and FOUND among others.
            faults: The rules behind the marks.
            path: The file, for messages.
            first_row: Line of the file that holds ROW 0, from 1.
            total: Number of rows of the file, if these are not all of them.

        Raises:
            DataError: A row is malformed and that is not allowed, or too many are; or there are no rows at all.
        """
        check = self.check(path, faults, first_row=first_row)
        check.add(rows)
        check.close(total)
        return rows.filter(pl.col(FAULT).is_null()).drop(FAULT, FOUND)

    def is_left_out(self, fault: Fault) -> bool:
        """Whether rows with this fault are left out without being malformed."""
        return fault.counted_as is not None and not (self._options.strict and fault.text)

    def leave_out(self, path: Path | str, name: str, count: int) -> None:
        """Takes note of rows of a file that are left out and not malformed."""
        self._left_out[name] = self._left_out.get(name, 0) + count
        logger.info("%s: %d rows are left out: %s", path, count, name.replace("_", " "))

    def report(self, path: Path | str, examples: Sequence[BadRow], *, bad: int, total: int, same: int = 1) -> None:
        """Takes note of a file's malformed rows.

        Args:
            path: The file.
            examples: The first of them.
            bad: How many there are.
            total: Rows of the file, good and bad.
            same: How many have the fault of the first one.

        Raises:
            DataError: A row is malformed and that is not allowed, or too many are.
        """
        first = examples[0]
        limit = self._options.malformed_limit
        if self._options.strict or bad > limit * total:
            more = f" ({same} such rows)" if same > 1 else ""
            if not self._options.strict and bad > 1:
                more += f"; {bad} of {total} rows cannot be read, and at most {limit:.4g} of them may be left out"
                more += " (--malformed-limit)"
            raise DataError(first.text + more, path=path, row=first.row, column=first.column)
        self._count += bad
        name = path.name if isinstance(path, Path) else path.rpartition("/")[2]
        located = [str(DataError(each.text, path=name, row=each.row, column=each.column)) for each in examples]
        self._examples += located[: EXAMPLES - len(self._examples)]
        logger.warning(
            "%s: %d of %d rows are malformed and left out; the first: %s", path, bad, total, "; ".join(located)
        )

    def notes(self) -> dict[str, Any]:
        """`malformed_rows`, `malformed_examples` and the counts of rows left out for other reasons."""
        malformed = {"malformed_rows": self._count, "malformed_examples": list(self._examples)} if self._count else {}
        return {**malformed, **self._left_out}


class RowCheck:
    """The rows of one file as they come: how many are malformed, and which are the first."""

    def __init__(self, malformed: MalformedRows, path: Path | str, faults: Sequence[Fault], first_row: int):
        self._malformed, self._path, self._faults, self._first_row = malformed, path, faults, first_row
        self._skipped = [number for number, fault in enumerate(faults) if malformed.is_left_out(fault)]
        self._counts: dict[int | None, int] = {}
        self._examples: list[tuple[int, int, str | None]] = []

    def good(self, piece: pl.DataFrame) -> pl.DataFrame:
        """The good rows of the next piece, without the marks."""
        if piece[FAULT].null_count() == piece.height:
            self._counts[None] = self._counts.get(None, 0) + piece.height
            return piece.drop(FAULT, FOUND)
        self.add(piece.lazy())
        return piece.filter(pl.col(FAULT).is_null()).drop(FAULT, FOUND)

    def add(self, rows: pl.LazyFrame) -> None:
        """Counts the next rows, with their marks."""
        for fault, count in rows.group_by(FAULT).agg(pl.len()).collect().iter_rows():
            self._counts[fault] = self._counts.get(fault, 0) + int(count)
        if len(self._examples) < EXAMPLES and any(self._is_wrong(fault) for fault in self._counts):
            wrong = rows.filter(pl.col(FAULT).is_not_null() & ~pl.col(FAULT).is_in(self._skipped))
            first = wrong.select(ROW, FAULT, FOUND).bottom_k(EXAMPLES, by=ROW).sort(ROW).collect()
            self._examples += list(first.iter_rows())[: EXAMPLES - len(self._examples)]

    def close(self, total: Callable[[], int] | None = None, *, may_be_empty: bool = False) -> None:
        """Reports what was found.

        Args:
            total: Number of rows of the file, if not all of them were looked at.
            may_be_empty: Whether the file may have no rows at all.

        Raises:
            DataError: A row is malformed and that is not allowed, or too many are; or there are no rows at all.
        """
        counts, path = self._counts, self._path
        if not sum(counts.values()) and total is None and not may_be_empty:
            text = "the file has a header but no rows" if self._first_row > 1 else "the file is empty"
            raise DataError(text, path=path)
        for number in self._skipped:
            name = self._faults[number].counted_as
            if number in counts and name is not None:
                self._malformed.leave_out(path, name, counts[number])
        bad = sum(count for fault, count in counts.items() if self._is_wrong(fault))
        if bad:
            examples = [
                BadRow(
                    row + self._first_row,
                    self._faults[fault].column,
                    self._faults[fault].text.replace("{value}", repr(found)),
                )
                for row, fault, found in self._examples
            ]
            every = sum(counts.values()) if total is None else total()
            self._malformed.report(path, examples, bad=bad, same=counts[self._examples[0][1]], total=every)

    def _is_wrong(self, fault: int | None) -> bool:
        return fault is not None and fault not in self._skipped

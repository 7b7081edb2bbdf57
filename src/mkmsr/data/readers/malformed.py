"""Malformed rows: found by stated rules, then left out, counted and reported with the first examples, or an error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.table import ROW
from mkmsr.errors import DataError

__all__ = ["EXAMPLES", "FAULT", "FOUND", "BadRow", "Fault", "MalformedRows", "empty", "marks"]

logger = logging.getLogger(__name__)

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
    """

    bad: pl.Expr
    text: str
    column: str | None = None


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

    @property
    def count(self) -> int:
        """How many were left out so far."""
        return self._count

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
        marked = rows.group_by(FAULT).agg(pl.len().alias("rows")).collect()
        counts = {key: int(count) for key, count in marked.iter_rows()}
        if not counts and total is None:
            raise DataError("the file has a header but no rows" if first_row > 1 else "the file is empty", path=path)
        bad = sum(count for key, count in counts.items() if key is not None)
        if bad:
            first = rows.filter(pl.col(FAULT).is_not_null()).select(ROW, FAULT, FOUND).bottom_k(EXAMPLES, by=ROW)
            examples = [
                BadRow(row + first_row, faults[key].column, faults[key].text.replace("{value}", repr(found)))
                for row, key, found in first.sort(ROW).collect().iter_rows()
            ]
            same = counts[int(first.sort(ROW).collect()[FAULT][0])]
            self.report(path, examples, bad=bad, same=same, total=sum(counts.values()) if total is None else total())
        return rows.filter(pl.col(FAULT).is_null()).drop(FAULT, FOUND)

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
        """`malformed_rows` and `malformed_examples`; empty if there are none."""
        return {"malformed_rows": self._count, "malformed_examples": list(self._examples)} if self._count else {}

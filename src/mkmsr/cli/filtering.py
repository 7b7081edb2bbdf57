"""The flags of `mkmsr recommend` that say which items a list may hold."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from mkmsr.cli.console import WrongCall
from mkmsr.errors import DataError

if TYPE_CHECKING:
    from mkmsr.recommend import Filters

_GROUP = Group("Filters", sort_key=50)
_MANY = Parameter(consume_multiple=True, negative=(), group=_GROUP)


@Parameter(name="*")
@dataclass(frozen=True)
class Filtering:
    """Which items a list may hold.

    Args:
        exclude: Item ids that must not be recommended.
        exclude_session: Leave the items of each session out of its own list.
        exclude_operation: Leave out what the visitor did one of these operations with: order for what was bought.
        only: The only item ids that may appear.
        where: Conditions on attributes and facts: category=shoes,boots brand!=acme price=10..50
        at_most: How many items of a list may share a value: brand=2
        facts: Table (CSV or Parquet) of what the model does not know: a column item, and one for each fact, such as
            price or in_stock.
    """

    exclude: Annotated[tuple[str, ...], _MANY] = ()
    exclude_session: Annotated[bool, Parameter(negative=(), group=_GROUP)] = False
    exclude_operation: Annotated[tuple[str, ...], _MANY] = ()
    only: Annotated[tuple[str, ...], _MANY] = ()
    where: Annotated[tuple[str, ...], _MANY] = ()
    at_most: Annotated[tuple[str, ...], _MANY] = ()
    facts: Annotated[Path | None, Parameter(group=_GROUP)] = None

    def filters(self) -> Filters:
        """Return the same for the library; a flag of another form is a `WrongCall` or a `ConfigError`."""
        from mkmsr.recommend import Filters, parse_condition

        return Filters(
            exclude=self.exclude,
            exclude_session=self.exclude_session,
            exclude_operations=self.exclude_operation,
            only=self.only or None,
            where=[parse_condition(each) for each in self.where],
            at_most=dict(_cap(each) for each in self.at_most),
        )

    def unknown_ids(self, known: Container[str]) -> Iterator[str]:
        """Say, for each flag, which of its ids the catalogue lacks."""
        for flag, ids in (("--only", self.only), ("--exclude", self.exclude)):
            if unknown := [each for each in ids if each not in known]:
                yield f"{flag}: no such {'item' if len(unknown) == 1 else 'items'}: {', '.join(map(repr, unknown))}"


def read_facts(path: Path) -> dict[str, dict[str, Sequence[str]]]:
    """Return values by fact and item id; empty cells are no values, and an item may stand in several rows.

    A file that is missing, cannot be read, or lacks the column of items raises DataError.
    """
    import polars as pl

    from mkmsr.data.readers.sources import read_texts

    table = read_texts(path)
    if "item" not in table.columns:
        raise DataError(f"lacks the column 'item'; found {', '.join(table.columns)}", path=path, column="item")
    facts: dict[str, dict[str, Sequence[str]]] = {}
    for name in table.columns:
        if name != "item":
            filled = table.select("item", name).drop_nulls()
            grouped = filled.group_by("item").agg(pl.col(name).unique(maintain_order=True))
            facts[name] = dict(grouped.iter_rows())
    return facts


def _cap(text: str) -> tuple[str, int]:
    relation, _, most = text.rpartition("=")
    if not relation or not re.fullmatch(r"\d{1,9}", most):
        raise WrongCall(f"--at-most: {text!r} should read relation=number, for example brand=2")
    return relation, int(most)

"""What every command shares: its common flags, how its help looks, and where its output goes.

People read tables on standard output. With `--json`, standard output carries the machine-readable result and nothing
else: whatever a library prints meanwhile goes to standard error.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mkmsr.errors import ConfigError, DataError
from mkmsr.runtime.files import locked, may_replace

if TYPE_CHECKING:
    from mkmsr.reports.tables import TextTable

AT_LEAST_ONE = Parameter(validator=Number(gte=1))

CommandEntry: TypeAlias = tuple[str, str | Callable[..., None], str]
"""Name of a command, the function or where it is found, and examples, one a line."""

_PLAIN_WIDTH = 140
"""Columns of a table that no terminal shows, for example in a pipe."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of writing: a terminal acts on them instead of showing them."""

_BESIDE_A_CELL = 3
"""Columns of the terminal between the texts of two cells."""


@Parameter(name="*", group=Group("Everywhere", sort_key=99))
@dataclass(frozen=True)
class Common:
    """Flags of every command.

    Args:
        json: One JSON document on standard output; everything else goes to standard error.
        debug: Show the whole traceback of an error.
    """

    json: Annotated[bool, Parameter(negative=())] = False
    debug: Annotated[bool, Parameter(negative=())] = False


def known_device(_type: Any, name: str) -> None:
    """Accept a device of PyTorch that is at hand, or raise what Cyclopts shows as a wrong call."""
    from mkmsr.runtime.compute import compute_device

    try:
        compute_device(name)
    except ConfigError as error:
        raise ValueError(str(error)) from None


Device = Annotated[str, Parameter(validator=known_device, help="Where a model computes: cpu, cuda.")]

COMMON = Common()
"""The flags as they are when none is given."""


class WrongCall(Exception):
    """The arguments do not fit together; the message says what would be right."""


def command_group(name: str, summary: str, example: str, commands: Iterable[CommandEntry], **options: Any) -> App:
    """Return a program, or a group of its commands in order, whose help flows to the width of the terminal."""
    group = App(
        name=name,
        help=summary,
        help_epilogue=_examples(example),
        help_format="markdown",
        default_parameter=Parameter(show_default=_default),
        **options,
    )
    for place, (word, command, calls) in enumerate(commands):
        group.command(command, name=word, help_epilogue=_examples(calls), sort_key=place)
    return group


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun, such as "1 event" or "2,000 events"; many is the noun with an s if not given."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """Return one line of text in which control characters are written out, such as \\x1b, so that no id acts on the
    terminal or looks like another message."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LineConsole(Console):
    """A console that prints each string as one printable line: square brackets are text, long lines are not broken."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print strings as they are, apart from control characters, and anything else as Rich does."""
        if all(isinstance(each, str) for each in objects):
            options = {"soft_wrap": True, **options, "markup": False, "highlight": False}
        super().print(*(printable(each) if isinstance(each, str) else each for each in objects), **options)


class Terminal:
    """Where a command writes: its result to standard output, as JSON or for people."""

    def __init__(self, result: IO[str], *, json_mode: bool):
        self.json_mode = json_mode
        self._result = result
        self.progress = _console(sys.stderr)
        self._people = self.progress if json_mode else _console(result)

    def mute(self) -> None:
        """Print nothing from now on: another process speaks."""
        self.json_mode = False
        self.progress.quiet = self._people.quiet = True

    def document(self, value: Any) -> None:
        """Print a JSON value on one line of standard output. Only with `--json`, otherwise nothing."""
        if self.json_mode:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
            self._result.write(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")

    def flush(self) -> None:
        """Hand over what was printed, to whoever reads it while the command goes on."""
        self._result.flush()

    def print(self, text: str = "") -> None:
        """Print a line for people."""
        self._people.print(text)

    def next(self, *words: object) -> None:
        """Print the command that comes next, as a shell takes it."""
        self.print(f"Next: mkmsr {shlex.join(map(str, words))}")

    def show(self, what: RenderableType) -> None:
        """Print a table for people, unless `--json` was given."""
        if not self.json_mode:
            self._people.print(what)

    def show_report(self, table: TextTable) -> None:
        """Print a report's table with its notes, in pieces where the terminal is narrow, unless `--json` was given."""
        for piece in pieces_that_fit(table, self._people.width):
            self.show(text_table(piece.title, piece.header, piece.rows))
        if not self.json_mode:
            for note in table.notes:
                self.print(note)

    def note(self, text: str) -> None:
        """Print a line on standard error."""
        self.progress.print(text)


@contextmanager
def terminal(common: Common) -> Iterator[Terminal]:
    """Yield the terminal of a command; while it is open with `--json`, stray prints go to standard error."""
    result = sys.stdout  # before libraries that print are sent elsewhere
    if not common.json:
        yield Terminal(result, json_mode=False)
        return
    with redirect_stdout(sys.stderr):
        yield Terminal(result, json_mode=True)


@contextmanager
def output_folder(path: Path, marker: str) -> Iterator[None]:
    """Keep an output folder to this process while the block lasts; one that is neither ours nor new is a DataError."""
    if path.exists() and not path.is_dir():
        raise DataError("is a file; choose a folder", path=path)
    if not may_replace(path, marker):
        raise DataError(f"holds other files and no {marker}; it is not overwritten, choose another folder", path=path)
    with locked(path):
        yield


def text_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int = 1) -> Table:
    """Return a plain table; columns from `numbers_from` on are aligned as numbers, ids are never read as markup."""
    table = Table(
        title=Text(printable(title)) if title else None,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=SIMPLE_HEAD,
    )
    for number, column in enumerate(columns):
        table.add_column(
            Text(printable(column)), justify="right" if number >= numbers_from else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _console(file: IO[str]) -> LineConsole:
    console = LineConsole(file=file)
    return console if console.is_terminal else LineConsole(file=file, width=_PLAIN_WIDTH)


def _examples(calls: str) -> str:
    """Return what stands below a command's help: its examples, one a line, to be copied into a shell."""
    return f"**Example:**\n\n```\n{calls}\n```"


def _default(value: Any) -> str | None:
    """Return a default as one types it; None for one that only says that the flag may be left out."""
    text = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return None if value is False or text in (None, "") else str(text)


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

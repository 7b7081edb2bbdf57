"""How `--help` is laid out: sentences flow to the width of the terminal, and examples can be copied into a shell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cyclopts.help import DefaultFormatter
from cyclopts.help.inline_text import InlineText
from rich.text import Text

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

__all__ = ["FlowingHelp", "epilogue"]

_EXAMPLE_WIDTH = 78
"""Columns of an example's lines: a terminal of 80 does not break them elsewhere."""

_WORD = re.compile(r"(?:--?[\w-]+ (?!-))?(?:'[^']*'|\S)+")
"""A word of a shell, a flag with its first value; blanks between quotation marks belong to it."""

_PLAIN_DEFAULTS = {"False", "()", '""', "''", ""}
"""Defaults that say no more than that a flag may be left out."""


class FlowingHelp(DefaultFormatter):
    """Help in which the line breaks of docstrings are blanks, apart from those between paragraphs."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one panel."""
        for entry in panel.entries:
            _flow(entry.description)
        entries = [each.copy(default=None) if each.default in _PLAIN_DEFAULTS else each for each in panel.entries]
        super().__call__(console, options, panel.copy(entries=entries))

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        """Print what a command does."""
        _flow(description)
        super().render_description(console, options, description)


def epilogue(examples: str) -> str:
    """What stands below a command's help: its examples, one a line; a long one goes on behind backslashes."""
    return "[bold]Example:[/bold]\n\n" + "\n".join(map(_broken, examples.splitlines())).replace("[", r"\[")


def _broken(example: str) -> str:
    lines = [""]
    for word in _WORD.findall(example):
        if lines[-1].strip() and len(lines[-1]) + len(word) + 3 > _EXAMPLE_WIDTH:
            lines[-1] += " \\"
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def _flow(description: Any) -> None:
    if isinstance(description, InlineText) and isinstance(description.primary_renderable, Text):
        paragraphs = description.primary_renderable.split("\n\n")
        flowing = (Text(" ").join(paragraph.split("\n")) for paragraph in paragraphs)
        description.primary_renderable = Text("\n\n").join(flowing)

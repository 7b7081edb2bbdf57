"""How `--help` looks: docstrings and examples as Markdown, whose sentences flow to the width of the terminal."""

from __future__ import annotations

from typing import Any

from cyclopts import App, Parameter

__all__ = ["command_group", "examples"]


def command_group(name: str, summary: str, example: str, **options: Any) -> App:
    """Return a program, or a group of its commands, whose help follows the rules of this project.

    Args:
        name: What one types.
        summary: What it is for.
        example: One of its calls.
        options: More settings of Cyclopts.
    """
    return App(
        name=name,
        help=summary,
        help_epilogue=examples(example),
        help_format="markdown",
        default_parameter=Parameter(show_default=_default),
        **options,
    )


def examples(calls: str) -> str:
    """Return what stands below a command's help: its examples, one a line, to be copied into a shell."""
    return f"**Example:**\n\n```\n{calls}\n```"


def _default(value: Any) -> str | None:
    """Return a default as one types it; None for one that says no more than that the flag may be left out."""
    text = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return None if value is False or text in (None, "") else str(text)

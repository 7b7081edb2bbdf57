"""A piece of the reproduction as text, tables and drawings: the same content as Markdown, LaTeX and one HTML page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mkmsr.errors import DataError
from mkmsr.reports.canvas import inline_svg
from mkmsr.reports.pages import template
from mkmsr.reports.tables import TextTable
from mkmsr.runtime.files import atomic_write

__all__ = ["Drawing", "Section", "WriteUp", "latex_table", "rewrite_between"]


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Args:
        name: Of its file, without the ending.
        svg: What was drawn.
        description: What it shows, for those who cannot see it.
        caption: What a reader must know.
    """

    name: str
    svg: bytes
    description: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it: paragraphs, then drawings, then tables.

    Args:
        heading: One line.
        paragraphs: Plain sentences.
        drawings: Figures.
        tables: Tables.
        own: First cell of the rows that tables stress.
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[TextTable, ...] = ()
    own: str = ""


@dataclass(frozen=True)
class WriteUp:
    """One table or figure of the paper, done again.

    Args:
        name: Of its files: "table2".
        title: One line.
        lead: What was done, in a few sentences.
        sections: The content.
        command: What writes it.
    """

    name: str
    title: str
    lead: str
    sections: tuple[Section, ...]
    command: str
    attachments: Mapping[str, str] = field(default_factory=dict)
    """Further files: name, text."""

    def markdown(self, *, figures: str = "figures", level: int = 2) -> str:
        """The write-up in Markdown.

        Args:
            figures: Where the drawings lie, as seen from the file.
            level: Of the title's heading; 0 leaves the title and the command out.
        """
        parts = []
        if level:
            parts += [f"{'#' * level} {self.title}", f"```\n{self.command}\n```"]
        parts.append(self.lead)
        for section in self.sections:
            parts.append(f"{'#' * max(level + 1, 3)} {section.heading}")
            parts += section.paragraphs
            for drawing in section.drawings:
                parts += [f"![{drawing.description}]({figures}/{drawing.name}.svg)", drawing.caption]
            parts += [table.markdown().strip() for table in section.tables]
        return "\n\n".join(part for part in parts if part) + "\n"

    def latex(self) -> str:
        """All tables in LaTeX; needs the package booktabs."""
        tables = [latex_table(table, own=section.own) for section in self.sections for table in section.tables]
        return f"% {self.title}. Written by: {self.command}\n" + "\n".join(tables)

    def page(self) -> str:
        """The write-up as one HTML page without outside parts."""
        return template("write_up.html").render(
            title=self.title,
            lead=self.lead,
            command=self.command,
            sections=[
                {
                    "heading": section.heading,
                    "paragraphs": section.paragraphs,
                    "drawings": [
                        (Markup(inline_svg(each.svg, name=each.name, description=each.description)), each.caption)
                        for each in section.drawings
                    ],
                    "tables": [_table_view(table, section.own) for table in section.tables],
                }
                for section in self.sections
            ],
        )

    def save(self, folder: Path) -> tuple[Path, ...]:
        """Write NAME.md, NAME.tex (if there are tables), NAME.html, the drawings and the attachments.

        Returns:
            What was written, the page first.
        """
        files = {f"{self.name}.html": self.page(), f"{self.name}.md": self.markdown(), **self.attachments}
        if any(section.tables for section in self.sections):
            files[f"{self.name}.tex"] = self.latex()
        for name, text in files.items():
            atomic_write(folder / name, text)
        return (*(folder / name for name in files), *self.save_drawings(folder / "figures"))

    def save_drawings(self, folder: Path) -> tuple[Path, ...]:
        """Write the drawings into a folder."""
        paths = []
        for drawing in (each for section in self.sections for each in section.drawings):
            path = folder / f"{drawing.name}.svg"
            atomic_write(path, drawing.svg)
            paths.append(path)
        return tuple(paths)


def rewrite_between(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in a file.

    Raises:
        DataError: The file or a marker is missing, or a marker occurs twice.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    try:
        old = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"no such file; make one that holds the lines {begin} and {end}", path=path) from None
    for marker in (begin, end):
        if old.count(marker) != 1:
            raise DataError(f"must hold {marker} once, found {old.count(marker)} times", path=path)
    before, rest = old.split(begin)
    if end not in rest:
        raise DataError(f"{end} stands before {begin}", path=path)
    after = rest.split(end)[1]
    atomic_write(path, f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


def latex_table(table: TextTable, *, own: str = "") -> str:
    """A table in LaTeX, for booktabs; rows that begin with `own` are bold."""
    columns = "l" + "r" * (len(table.header) - 1)
    lines = [
        r"\begin{table}",
        rf"\caption{{{_tex(table.title)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(_tex(cell) for cell in table.header) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = [_tex(cell) for cell in row]
        if own and row[0] == own:
            cells = [rf"\textbf{{{cell}}}" if cell else "" for cell in cells]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {_tex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}", ""])


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
_TEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def _tex(text: str) -> str:
    escaped = re.sub(r"[\\~^<>&%$#_{}]", lambda found: _TEX[found.group()], text)
    return re.sub(r"(?<![\w$])-(?=\d)", "$-$", escaped)


def _table_view(table: TextTable, own: str) -> dict[str, Any]:
    stressed = next((place for place, row in enumerate(table.rows) if own and row[0] == own), -1)
    return {"title": table.title, "header": table.header, "rows": table.rows, "notes": table.notes, "own": stressed}

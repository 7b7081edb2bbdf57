"""Text, tables and drawings of one reproduction: the same content as Markdown, LaTeX and one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mkmsr.errors import DataError
from mkmsr.reports.figures import MissingMatplotlibError, inline_svg
from mkmsr.reports.tables import TextTable
from mkmsr.runtime.files import atomic_write


@dataclass(frozen=True)
class Drawing:
    """A figure: the name of its file without the ending, and a description for those who cannot see it."""

    name: str
    svg: bytes
    description: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it: paragraphs, then drawings, then tables.

    Tables stress the rows whose first cell is `own`.
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[TextTable, ...] = ()
    own: str = ""


@dataclass(frozen=True)
class WriteUp:
    """One table or figure of the paper, done again; whoever calls for it fills in the command that writes it.

    `attachments` are texts of further files, by name.
    """

    name: str
    title: str
    lead: str
    sections: tuple[Section, ...]
    attachments: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    @property
    def tables(self) -> tuple[TextTable, ...]:
        """Every table of every section."""
        return tuple(table for section in self.sections for table in section.tables)

    def markdown(self) -> str:
        """Return the write-up in Markdown, with drawings in `figures/`."""
        parts = [f"# {self.title}", f"```\n{self.command}\n```" if self.command else "", self.lead]
        for section in self.sections:
            parts += [f"## {section.heading}", *section.paragraphs]
            for drawing in section.drawings:
                parts += [f"![{drawing.description}](figures/{drawing.name}.svg)", drawing.caption]
            parts += [table.markdown() for table in section.tables]
        return "\n\n".join(part for part in parts if part) + "\n"

    def latex(self) -> str:
        """Return all tables in LaTeX; needs the package booktabs."""
        tables = [table.latex(own=section.own) for section in self.sections for table in section.tables]
        return f"% {self.title}. Written by: {self.command}\n" + "\n".join(tables)

    def page(self) -> str:
        """Return the write-up as one HTML page without outside parts."""
        sections = [
            {
                "heading": section.heading,
                "paragraphs": section.paragraphs,
                "drawings": [
                    (Markup(inline_svg(each.svg, name=each.name, description=each.description)), each.caption)
                    for each in section.drawings
                ],
                "tables": [table_view(table, section.own) for table in section.tables],
            }
            for section in self.sections
        ]
        values = {"title": self.title, "lead": self.lead, "command": self.command, "sections": sections}
        return template("write_up.html").render(values)

    def save(self, folder: Path) -> Path:
        """Write NAME.html, NAME.tex (if there are tables), the attachments and all of `save_markdown`; the page."""
        page = folder / f"{self.name}.html"
        files = {page.name: self.page(), **self.attachments}
        if self.tables:
            files[f"{self.name}.tex"] = self.latex()
        for name, text in files.items():
            atomic_write(folder / name, text)
        self.save_markdown(folder)
        return page

    def save_markdown(self, folder: Path) -> None:
        """Write NAME.md, and the drawings that it shows to `figures/`."""
        for drawing in (each for section in self.sections for each in section.drawings):
            atomic_write(folder / "figures" / f"{drawing.name}.svg", drawing.svg)
        atomic_write(folder / f"{self.name}.md", self.markdown())


def draw_if_possible(name: str, draw: Callable[[], bytes], description: str, caption: str) -> tuple[Drawing, ...]:
    """Return a drawing, see `Drawing`; none where matplotlib is missing."""
    try:
        return (Drawing(name, draw(), description, caption),)
    except MissingMatplotlibError:
        return ()


def file_name(title: str) -> str:
    """Return what a file calls the data with that title: its letters and digits."""
    return "".join(letter for letter in title.lower() if letter.isalnum())


def template(name: str) -> jinja2.Template:
    """Return the HTML template in that file of `templates/`: a page without outside parts, all text escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def table_view(table: TextTable, own: str) -> dict[str, Any]:
    """Return a table as templates show it: `own` is the place of the first row that begins with that cell, or -1."""
    labels = [row[0] for row in table.rows]
    return {**asdict(table), "own": labels.index(own) if own in labels else -1}


def rewrite_between(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`, each once in a file."""
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

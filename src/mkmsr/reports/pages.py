"""Templates of HTML pages: single files without outside parts, all text escaped."""

from __future__ import annotations

from pathlib import Path

import jinja2

__all__ = ["template"]


def template(name: str) -> jinja2.Template:
    """The template in that file of `templates/`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)

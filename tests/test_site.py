"""The documentation site: its pages can be reached, and its tables and reference state what the project has."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import mkmsr

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def pages(entry: Any) -> Iterator[str]:
    """The files that a part of the navigation names."""
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from pages(part)


NAVIGATION = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))


def text(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


def test_the_navigation_names_pages_that_are_there() -> None:
    assert [each for each in NAVIGATION if not (DOCS / each).is_file()] == []


def test_every_page_can_be_reached_from_the_navigation() -> None:
    reached, waiting = set(), [*NAVIGATION]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for target in re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", text(page)):
            linked = os.path.relpath(DOCS / page / ".." / target, DOCS)
            if "://" not in target and linked not in reached and (DOCS / linked).is_file():
                waiting.append(linked)
    assert sorted({path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - reached) == []


@pytest.mark.parametrize("name", mkmsr.__all__)
def test_every_public_name_stands_in_the_reference(name: str) -> None:
    assert re.search(rf"(::: \S*\.|`|\[|, ){name}\b", text("reference.md"))


def test_every_extra_stands_in_the_table_of_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    stated = re.findall(r"^\| `([a-z0-9]+)` \| \d", text("install.md"), re.MULTILINE)
    assert sorted(stated) == sorted(project["optional-dependencies"])


def test_the_times_of_models_are_those_of_the_kept_runs() -> None:
    runs = [json.loads(line) for line in (ROOT / "experiments/results/demo/runs.jsonl").read_text("utf-8").splitlines()]
    kept = {run["label"]: run.get("processor_seconds", run["seconds"]) for run in reversed(runs)}  # the first seed's
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| ([\d.]+) \|", text("choosing.md"), re.MULTILINE)
    assert len(rows) > 10
    for model, stated in [row for row in rows if row[0] in kept]:
        assert kept[model] / 3 - 1 < float(stated) < kept[model] * 3 + 1, model

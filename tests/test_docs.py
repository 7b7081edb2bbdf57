"""What the documents say can be done: commands are taken, links lead somewhere, no path is of one machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from mkmsr.cli.app import app
from mkmsr.config import dotted, validate
from mkmsr.runs.config import ExperimentConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def commands(text: str) -> list[str]:
    """Every call of mkmsr in the unlabelled and shell blocks of a document, variables of loops filled in."""
    found = []
    for label, block in FENCE.findall(text):
        if label not in ("", "sh", "bash"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = line.replace("$model", "pop").split("; done")[0]
            if match := re.search(r"(?:^|[|;] (?:do )?)(mkmsr .*)$", words.strip()):
                found.append(match[1])
    return found


CALLS = [
    (name, call) for name, path in zip(NAMES, DOCUMENTS, strict=True) for call in commands(path.read_text("utf-8"))
]


def test_the_readme_shows_the_whole_way_from_a_log_to_recommendations() -> None:
    shown = {call.split()[1] for name, call in CALLS if name == "README.md"}
    assert {"prepare", "describe", "train", "evaluate", "recommend", "compare"} <= shown


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_every_command_of_the_documents_is_one_that_the_program_takes(name: str, call: str) -> None:
    _, *arguments = shlex.split(call, comments=True)
    if "--help" in arguments:
        return
    app().parse_args(arguments, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("call", ["train data/demo --out runs/x --epoch 3", "prepare evnets a.csv --out b", "describe"])
def test_a_wrong_command_in_a_document_would_be_noticed(call: str) -> None:
    with pytest.raises(CycloptsError):
        app().parse_args(call.split(), exit_on_error=False, print_error=False)


def test_the_model_page_states_the_defaults_as_they_are() -> None:
    defaults = dotted(validate(ExperimentConfig, {"model": {"name": "mkm-sr"}}).model_dump())
    stated = re.findall(
        r"^\| `([a-z_.]+)`.*\| `([^`]+)`[^|]*\|$", (ROOT / "docs/model.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(stated) > 15
    for key, value in stated:
        assert json.loads(value) == defaults[key], key


@pytest.mark.slow
def test_the_python_page_runs_from_top_to_bottom(tmp_path: Path) -> None:
    page = (ROOT / "docs/python.md").read_text("utf-8")
    program = "\n".join(block for label, block in FENCE.findall(page) if label == "python")
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("did you mean 'epochs'?")
    assert (tmp_path / "runs/compass/bundle.json").is_file()


SETTINGS = [
    (name, block)
    for name, path in zip(NAMES, DOCUMENTS, strict=True)
    for label, block in FENCE.findall(path.read_text("utf-8"))
    if label == "toml"
]


def test_some_document_shows_a_settings_file() -> None:
    assert SETTINGS


@pytest.mark.parametrize(("name", "block"), SETTINGS)
def test_every_settings_file_of_the_documents_is_one_that_training_takes(name: str, block: str) -> None:
    validate(ExperimentConfig, tomllib.loads(block))


@pytest.mark.parametrize("name", NAMES)
def test_every_link_inside_the_project_leads_to_a_file(name: str) -> None:
    path = ROOT / name
    targets = [each for each in LINK.findall(path.read_text("utf-8")) if not each.startswith(("http", "#", "mailto:"))]
    missing = [each for each in targets if not (path.parent / each.partition("#")[0]).exists()]
    assert missing == []


def anchors(path: Path) -> set[str]:
    """What links may name in a document: its headings, in lower case, without marks, hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_to_a_heading_names_one_that_is_there(name: str) -> None:
    path = ROOT / name
    parts = [each.partition("#") for each in LINK.findall(path.read_text("utf-8")) if not each.startswith("http")]
    wanted = [(path.parent / file if file else path, heading) for file, _, heading in parts if heading]
    assert [(str(file), heading) for file, heading in wanted if heading not in anchors(file)] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_document_holds_a_path_of_one_machine(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert re.findall(r"(?<![\w.)/-])/(?:home|root|tmp|work|Users|var)/\S*", text) == []

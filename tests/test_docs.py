"""What the documents say can be done: commands are taken, blocks are valid, some pages run, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from mkmsr.cli.app import app, run
from mkmsr.config import dotted, validate
from mkmsr.runs.config import ExperimentConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OURS = "https://github.com/mkmsr/mkmsr/"
"""Where the pages of the site find files of the project that are no pages."""


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Label and text of every fenced block, indented ones moved to the margin."""
    for _, label, block in FENCE.findall(text):
        yield label, textwrap.dedent(block)


BLOCKS = [
    (name, label, block)
    for name, path in zip(NAMES, DOCUMENTS, strict=True)
    for label, block in blocks(path.read_text("utf-8"))
]


def labelled(label: str) -> list[tuple[str, str]]:
    return [(name, block) for name, found, block in BLOCKS if found == label]


def commands(block: str) -> list[str]:
    """Every call of mkmsr in a block of shell commands; `pop` for variables of loops and for models of one's own."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        words = line.replace("$model", "pop").replace("$seed", "1").split("; done")[0]
        if match := re.search(r"(?:^|[|;] (?:do )?)(MKMSR_MODELS=\S+ )?(?:PYTHONPATH=\S+ )?(mkmsr .*)$", words.strip()):
            found.append(re.sub(r"(--models?) \S+", r"\1 pop", match[2]) if match[1] else match[2])
    return found


CALLS = [(name, call) for name, label, block in BLOCKS if label in ("", "sh") for call in commands(block)]


def test_every_block_is_of_a_kind_that_a_test_looks_at() -> None:
    assert {label for _, label, _ in BLOCKS} == {"", "sh", "python", "toml", "json", "js"}


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


@pytest.mark.parametrize(("name", "block"), labelled("python"))
def test_every_python_block_is_valid_and_imports_names_that_are_there(name: str, block: str) -> None:
    for node in ast.walk(ast.parse(block, name)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mkmsr":
            module = importlib.import_module(str(node.module))
            assert [each.name for each in node.names if not hasattr(module, each.name)] == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "block"), labelled("js"))
def test_every_javascript_block_is_valid(name: str, block: str, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or pytest.skip("no Chromium to read JavaScript")
    said = "document.body.append"
    page = tmp_path / "page.html"
    page.write_text(
        f"<body><script>try {{ new Function({json.dumps(block)}); {said}('valid') }} catch (error) {{ {said}(error) }}"
        "</script>"
    )
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.rpartition("</script>")[2].startswith("valid")


@pytest.mark.parametrize(("name", "block"), labelled("json"))
def test_every_json_block_is_valid(name: str, block: str) -> None:
    json.loads(block)


@pytest.mark.parametrize(("name", "block"), labelled("toml"))
def test_every_settings_file_of_the_documents_is_one_that_training_takes(name: str, block: str) -> None:
    settings = tomllib.loads(block)
    if "project" not in settings:  # a part of a pyproject.toml
        validate(ExperimentConfig, settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "end"),
    [
        ("python.md", "epoch: no such setting, did you mean 'epochs'?"),
        ("own_model.md", "\\end{table}"),
        ("own_reader.md", "└──────┴───────┴───────┘"),
        ("own_metric.md", "}"),
    ],
)
def test_a_page_runs_from_top_to_bottom(page: str, end: str, tmp_path: Path) -> None:
    program = ""
    for label, block in blocks((ROOT / "docs" / page).read_text("utf-8")):
        if label == "python" and (named := re.match(r"# (\w+\.py)\n", block)):
            (tmp_path / named[1]).write_text(block, "utf-8")
        elif label == "python":
            program += block
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH", ""), str(tmp_path))))
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(end)


@pytest.mark.slow
def test_the_quickstart_leads_from_a_table_to_recommendations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    page = list(blocks((ROOT / "docs/quickstart.md").read_text("utf-8")))
    monkeypatch.chdir(tmp_path)
    shop_tables(tmp_path)
    (tmp_path / "settings.toml").write_text(next(block for label, block in page if label == "toml"), "utf-8")
    for label, block in page:
        for call in commands(block) if label in ("", "sh") else ():
            words = shlex.split(call)[1:]
            if words[0] == "serve":
                continue  # it would not end
            if "--session" in words:
                (tmp_path / "session.json").write_text('{"events": [{"item": "item-00042", "operation": "cart"}]}')
                words[words.index("--session") + 1] = "session.json"
            assert run(words) == 0, (call, capfd.readouterr().err)
    answer = capfd.readouterr().out.splitlines()[-1]
    assert len(json.loads(answer)["items"]) == 5
    exec(next(block for label, block in page if label == "python"), {})
    assert len(capfd.readouterr().out.splitlines()) == 5


def shop_tables(folder: Path) -> None:
    """The tables of the quickstart: `clicks.csv`, with its own and with the usual names, and `items.csv`."""
    from mkmsr import SimulateOptions, simulate

    shop = simulate(SimulateOptions(sessions=400, items=80))
    own = {"sku": "item", "type": "operation", "ts": "time", "uid": "user"}
    usual = shop.events.select("item", "operation", "time", "user")
    usual.with_columns(**{name: usual[of] for name, of in own.items()}).write_csv(folder / "clicks.csv")
    shop.attributes.pivot("relation", index="item", values="value", aggregate_function="first").rename(
        {"item": "sku"}
    ).write_csv(folder / "items.csv")


def test_the_model_page_states_the_defaults_as_they_are() -> None:
    defaults = dotted(validate(ExperimentConfig, {"model": {"name": "mkm-sr"}}).model_dump())
    stated = re.findall(
        r"^\| `([a-z_.]+)`.*\| `([^`]+)`[^|]*\|$", (ROOT / "docs/model.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(stated) > 15
    for key, value in stated:
        assert json.loads(value) == defaults[key], key


@pytest.mark.parametrize("name", NAMES)
def test_every_link_inside_the_project_leads_to_a_file(name: str) -> None:
    path = ROOT / name
    targets = [each for each in LINK.findall(path.read_text("utf-8")) if not each.startswith(("http", "#", "mailto:"))]
    missing = [each for each in targets if not (path.parent / each.partition("#")[0]).exists()]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_every_address_of_the_projects_own_files_names_one_that_is_there(name: str) -> None:
    targets = re.findall(rf"{OURS}(?:blob|tree)/main/([^)\s#\"]+)", (ROOT / name).read_text("utf-8"))
    assert [each for each in targets if not (ROOT / each).exists()] == []


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

"""The help texts: how they are broken into lines, and that examples can be copied."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from mkmsr.cli.app import COMMANDS, app, run


@pytest.mark.parametrize("example", [example for _, _, examples in COMMANDS for example in examples.splitlines()])
def test_an_example_is_a_call_that_fits_a_line_of_a_small_terminal(example: str) -> None:
    assert len(example) <= 78
    words = shlex.split(example)
    app().parse_args(words[words.index("mkmsr") + 1 :], exit_on_error=False, print_error=False)


def test_the_list_of_commands_says_what_each_does(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capfd.readouterr().out
    for name, about in (("train", "Fit a model"), ("bench", "Time training"), ("reproduce", "The paper's tables")):
        assert any(name in line and about in line for line in shown.splitlines())


def test_sentences_flow_to_the_width_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["recommend", "--help"]) == 0
    shown = capfd.readouterr().out
    assert "a column item, and one for each fact, such as price or in_stock." in shown
    assert "may hold the events of the visitor's earlier sessions, and" in shown


def test_a_flag_that_is_off_by_default_does_not_say_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help"]) == 0
    shown = capfd.readouterr().out
    assert "[default: False]" not in shown
    assert "[default: None]" not in shown
    assert "[default: 0]" in shown
    assert run(["evaluate", "--help"]) == 0
    assert "[default: 5,10,20]" in capfd.readouterr().out


def test_a_shell_learns_commands_and_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    assert run(["--install-completion"]) == 0
    script = Path(capfd.readouterr().out.removeprefix("written: ").partition(";")[0])
    ask = f"source {script}; COMP_WORDS=(mkmsr train --re); COMP_CWORD=2; _mkmsr; echo ${{COMPREPLY[@]}}"
    shown = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout
    assert {"--refit", "--resume"} <= set(shown.split())

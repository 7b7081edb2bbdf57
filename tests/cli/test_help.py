"""The help texts: how they are broken into lines, and that examples can be copied."""

from __future__ import annotations

import shlex

import pytest

from mkmsr.cli.app import COMMANDS, run
from mkmsr.cli.help import epilogue


@pytest.mark.parametrize("example", [example for _, _, examples in COMMANDS for example in examples.splitlines()])
def test_an_example_is_the_same_to_a_shell_when_broken_into_lines(example: str) -> None:
    text = epilogue(example).replace(r"\[", "[").partition("\n\n")[2]
    assert max(map(len, text.splitlines())) <= 78
    assert shlex.split(text.replace("\\\n", "")) == shlex.split(example)


def test_a_flag_stands_in_one_line_with_its_value() -> None:
    text = epilogue(f"mkmsr train {'d' * 50} --refit --model compass --out runs")
    assert text.endswith("--refit \\\n    --model compass --out runs")


def test_sentences_flow_to_the_width_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["recommend", "--help"]) == 0
    shown = capfd.readouterr().out
    assert "a column item, and one for each fact, such as price or in_stock." in shown
    assert "may hold the events of the visitor's earlier sessions. Unknown items are skipped and counted." in shown


def test_a_flag_that_is_off_by_default_does_not_say_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help"]) == 0
    shown = capfd.readouterr().out
    assert "[default: False]" not in shown
    assert "[default: 0]" in shown

"""What a terminal is given: lines in which no id acts on it, and tables of a readable size."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from small_shop import fitted, small_shop

from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.cli.app import run
from mkmsr.cli.console import LineConsole, Terminal, printable, text_table
from mkmsr.cli.progress import waiting

HOSTILE = "sku\x1b]0;title\x07\x1b[2J\x9b31m\u202eknab\nmkmsr: done"
SHOWN = r"sku\x1b]0;title\x07\x1b[2J\x9b31m\u202eknab\nmkmsr: done"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("console")
    shop = small_shop()
    config, model = fitted("pop", shop)
    return save_bundle(folder / "bundle", new_bundle(model, name="pop", config=config, dataset=shop, metrics={}))


def test_control_characters_are_written_out_and_other_letters_kept() -> None:
    assert printable(HOSTILE) == SHOWN
    assert printable("咖啡 <b> [red] é") == "咖啡 <b> [red] é"


def test_tables_lines_and_json_hold_no_control_characters() -> None:
    people, machine = io.StringIO(), io.StringIO()
    screen = Terminal(people, json_mode=False)
    screen.print(HOSTILE)
    screen.show(text_table(HOSTILE, ["id"], [[HOSTILE]]))
    Terminal(machine, json_mode=True).document(HOSTILE)
    assert people.getvalue().count(SHOWN) == 3
    for text in (people.getvalue(), machine.getvalue()):
        assert all(printable(line) == line for line in text.splitlines())
    assert json.loads(machine.getvalue()) == HOSTILE


def test_errors_and_warnings_hold_no_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", f"nowhere/{HOSTILE}"]) == 1
    logging.getLogger("mkmsr").warning("an item %s", HOSTILE)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith(f"mkmsr: nowhere/{SHOWN}: not a prepared dataset")
    assert [printable(line) for line in lines] == lines


def test_what_a_spinner_says_holds_no_control_characters() -> None:
    shown = io.StringIO()
    with waiting(LineConsole(file=shown, force_terminal=True, width=200), f"preparing {HOSTILE}"):
        pass
    assert SHOWN in shown.getvalue()
    assert "\x1b]0;title" not in shown.getvalue()


def test_a_traceback_that_was_asked_for_holds_no_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", f"nowhere/{HOSTILE}", "--debug"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert "Traceback" in lines[0]
    assert [printable(line) for line in lines] == lines


def test_the_ids_of_a_session_cannot_drive_the_terminal(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_text(json.dumps({"events": [{"item": HOSTILE, "operation": HOSTILE}]}))
    assert run(["recommend", str(bundle), "--session", str(path), "-k", "2"]) == 0
    shown = capfd.readouterr().out
    assert r"\x1b[2J" in shown
    assert all(printable(line) == line for line in shown.splitlines())


def test_a_long_session_is_shown_by_its_last_events(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"events": [f"item-{n:02d}" for n in (0, 1) * 16]}))
    assert run(["recommend", str(bundle), "--session", str(path), "-k", "2"]) == 0
    assert "the last 30 of 32 events" in capfd.readouterr().out


@pytest.mark.slow
def test_a_session_of_a_million_events_is_shown_by_its_last_ones_within_a_gibibyte(
    bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text('{"events": [' + ", ".join(f'{{"item": "item-{n % 30:02d}"}}' for n in range(1_000_000)) + "]}\n")
    call = ["recommend", str(bundle), "--session", str(path), "-k", "2"]
    code = f"from mkmsr.cli.app import run; run({call!r}); print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "the last 30 of 1,000,000 events" in done.stdout
    peak = int(done.stdout.partition("VmHWM:")[2].split()[0])
    assert peak < 1 << 20

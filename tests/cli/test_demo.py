"""The demo on a shop too small to be interesting; its real size takes minutes."""

from __future__ import annotations

import io
import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mkmsr.cli import demo
from mkmsr.cli.app import app, run
from mkmsr.cli.console import Terminal


def test_the_demo_goes_from_a_raw_log_to_a_report_and_says_what_next(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my demo"
    assert run(["demo", "--out", str(out), "--sessions", "600", "--items", "80", "--epochs", "1"]) == 0
    shown = capfd.readouterr()
    for name in ("compass", "mkm-sr", "v-sknn", "recency"):
        assert (out / name / "bundle" / "bundle.json").is_file()
        assert name in shown.out
    assert f"{out}/compass/report.html" in shown.out
    assert "What came next:" in shown.out
    assert "of 20 visitors found their next item in the first five" in shown.out
    assert "name: " in shown.out
    assert "data:image" not in shown.out
    assert f"mkmsr evaluate '{out}'/compass/bundle '{out}'/data" in shown.out
    page = (out / "compass" / "report.html").read_text(encoding="utf-8")
    assert '<img src="data:image/svg+xml,' in page
    assert "recency" in page
    for name in ("compass", "mkm-sr", "v-sknn", "recency"):
        assert json.loads((out / name / "metrics.json").read_text())["refit"] is True
    assert "Not fitted alike" not in page


def test_what_the_demo_says_to_type_next_are_calls_that_the_program_takes(tmp_path: Path) -> None:
    said = io.StringIO()
    demo._say_what_next(Terminal(said, json_mode=False), tmp_path / "my demo", tmp_path / "report.html", 60.0)
    calls = [shlex.split(line) for line in said.getvalue().splitlines() if " mkmsr " in line and "source" not in line]
    assert len(calls) == 5
    for words in calls:
        app().parse_args(words[words.index("mkmsr") + 1 :], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("name", ["data", "compass", "v-sknn"])
def test_the_demo_leaves_folders_alone_that_are_none_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    precious = tmp_path / name / "figures" / "precious.svg"
    precious.parent.mkdir(parents=True)
    precious.touch()
    assert run(["demo", "--out", str(tmp_path), "--sessions", "200", "--items", "50", "--epochs", "1"]) == 1
    assert "it is not overwritten, choose another folder" in capfd.readouterr().err
    assert precious.exists()
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.slow
def test_a_terminal_sees_a_bar_with_loss_speed_and_time_left(tmp_path: Path) -> None:
    data = tmp_path / "shop"
    assert run(["simulate", "--out", str(data), "--sessions", "300", "--items", "60"]) == 0
    assert run(["prepare", "events", str(data / "events.parquet"), "--out", str(data / "data")]) == 0
    ours, theirs = pty.openpty()
    arguments = ["train", data / "data", "--model", "m-sr", "--out", tmp_path / "run", "--epochs", "1"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    small = ["--set", "model.dim=8", "training.batch_size=2"]
    with subprocess.Popen(
        [sys.executable, "-m", "mkmsr", *map(str, arguments), *small],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment,
    ) as process:
        os.close(theirs)
        shown = _everything(ours)
    assert process.returncode == 0
    assert "epoch 1/1" in shown
    assert "loss" in shown
    assert "examples/s" in shown
    assert "left" in shown


def _everything(handle: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(handle, 65536)
        except OSError:  # Linux's way of saying that the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(handle)
    return b"".join(parts).decode("utf-8", errors="replace")


def test_make_serve_opens_the_page_on_the_demos_shop_with_a_second_model_beside() -> None:
    root = Path(__file__).parents[2]
    call = ["make", "--no-print-directory", "--dry-run", "serve", "PORT=8421"]
    said = subprocess.run(call, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "mkmsr serve runs/demo/compass/bundle --beside runs/demo/mkm-sr/bundle --port 8421" in said
    assert "--editable '.[serve]'" in said


def test_make_clean_removes_the_demo_and_no_run_of_ones_own() -> None:
    root = Path(__file__).parents[2]
    call = ["make", "--no-print-directory", "--dry-run", "clean"]  # Tests may themselves run under make.
    said = subprocess.run(call, cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["rm", "-rf", ".venv", "runs/demo", "build", "dist", "site", ".cache"]

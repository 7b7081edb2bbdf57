"""What the program says when the machine, the data or the call is beyond its bounds: one line, and no traceback."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from small_shop import fitted, small_shop

from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.cli.app import run

ADDRESS = "postgresql://me:s3cret@host/shop?table=events"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data, a bundle, and an event log."""
    folder = tmp_path_factory.mktemp("failures")
    data = small_shop()
    data.save(folder / "data")
    config, model = fitted("pop", data)
    save_bundle(folder / "bundle", new_bundle(model, name="pop", config=config, dataset=data, metrics={}))
    rows = [(f"s{n // 5}", f"item-{n % 30:02d}", "click", n) for n in range(50_000)]
    events = pl.DataFrame(rows, schema=["session", "item", "operation", "time"], orient="row")
    events.write_csv(folder / "events.csv")
    events.write_parquet(folder / "events.parquet")
    return folder


def limited(kind: int, amount: int) -> Callable[[], None]:
    """Give a child process a limit of the system."""
    return lambda: resource.setrlimit(kind, (amount, amount))


def complaint(*arguments: object, limit: Callable[[], None] | None = None) -> str:
    """The one line that a failing command ends with; it is not measured, since a full disk takes no measurement."""
    done = subprocess.run(
        [sys.executable, "-m", "mkmsr", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("mkmsr: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_training_that_needs_more_memory_than_there_is_says_what_takes_less(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def allocate_too_much(*_arguments: object, **_options: object) -> torch.Tensor:
        return torch.empty(
            1 << 50
        )  # PyTorch's own error: a limit for the process would end it at another place each time

    monkeypatch.setattr("mkmsr.runs.experiment.new_model", allocate_too_much)
    assert run(["train", str(shop / "data"), "--model", "narm", "--out", str(tmp_path / "run")]) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("mkmsr: not enough memory: ")
    assert said.endswith("; a smaller training.batch_size or model.dim takes less")


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("Unable to allocate 7.28 TiB for an array")])
def test_a_preparation_that_needs_more_memory_than_there_is_names_the_engine_on_disk(
    error: MemoryError, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("mkmsr.data.prepare.prepare", fail)
    assert run(["prepare", "events", str(shop / "events.csv"), "--out", str(tmp_path / "data")]) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("mkmsr: not enough memory")
    assert said.endswith("; --engine duckdb --memory-limit 4GB works on disk")


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_a_full_disk_of_temporary_files_is_told_with_the_way_out(engine: str, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    call = ["prepare", "events", shop / "events.csv", "--engine", engine, "--scratch", tmp_path / "scratch"]
    said = complaint(*call, "--out", tmp_path / "data", limit=limited(resource.RLIMIT_FSIZE, 10_000))
    assert "File too large" in said
    assert said.endswith("; --scratch FOLDER is another place for temporary files")
    assert not list((tmp_path / "scratch").iterdir())
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("size", [0, 10_000, 60_000])
def test_a_full_disk_in_a_search_is_one_line(size: int, shop: Path, tmp_path: Path) -> None:
    call = ["tune", shop / "data", "--model", "v-sknn", "--trials", 2, "--out", tmp_path / "tune"]
    said = complaint(*call, limit=limited(resource.RLIMIT_FSIZE, size))
    assert any(words in said for words in ("disk is full", "disk I/O error", "File too large"))


@pytest.mark.parametrize("size", [100, 20_000])
def test_a_full_disk_in_lists_for_many_sessions_is_one_line_and_the_next_call_goes_on(
    size: int, shop: Path, tmp_path: Path
) -> None:
    call = ["recommend", shop / "bundle", "--sessions", shop / "events.parquet", "--out", tmp_path / "lists"]
    assert "File too large" in complaint(*call, limit=limited(resource.RLIMIT_FSIZE, size))
    assert run([*map(str, call), "--resume"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["describe", ADDRESS],
        ["train", ADDRESS, "--model", "pop", "--out", "run"],
        ["prepare", "events", ADDRESS, ADDRESS, "--out", "data"],
        ["prepare", "events", f"--evnts={ADDRESS}", "--out", "data"],
        ["prepare", ADDRESS, "--out", "data"],
        ["compare", "postgresql://host/shop?password=s3cret&table=events"],
    ],
)
def test_no_complaint_shows_the_password_of_an_address(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) in (1, 2)
    shown = capfd.readouterr()
    assert "host" in shown.err
    assert "s3cret" not in shown.out + shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["recommend", "b", "--session", "-", "--at-most", f"brand={'9' * 5000}"],
        ["prepare", "events", "a", "--out", "b", "--buckets", f"price={'9' * 5000}"],
        ["prepare", "events", "a", "--out", "b", "--memory-limit", f"{'9' * 5000}GB"],
        ["evaluate", "a", "b", "--k", "9" * 5000],
        ["recommend", "a", "--session", "-", "-k", "9" * 5000],
        ["train", "a", "--out", "b", "--model", "pop", "--seed", "9" * 5000],
    ],
)
def test_numbers_of_thousands_of_digits_are_a_wrong_call(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert len(capfd.readouterr().err.splitlines()) <= 2


@pytest.mark.parametrize("event", ["9" * 5000, f'{{"item": {"9" * 5000}}}', f'["a", {"9" * 5000}]', "[" * 100_000])
def test_a_session_that_no_reader_gets_to_the_end_of_is_one_line(event: str, shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_text(f'{{"events": [{event}]}}\n')
    assert "sessions.jsonl, row 1: not JSON" in complaint("recommend", shop / "bundle", "--session", path)


def test_metrics_nested_too_deeply_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.json").write_text("[" * 100_000)
    assert run(["compare", str(tmp_path)]) == 1
    assert "cannot be read as JSON" in capfd.readouterr().err


def test_half_a_character_in_json_lines_is_a_malformed_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    rows = [json.dumps({"session": f"s{n // 3}", "item": f"i{n % 5}"}) for n in range(60)]
    path.write_text("\n".join([*rows, rows[0].replace("i0", r"\ud83d\ude00"), rows[0].replace("i0", r"\ud800")]))
    assert run(["prepare", "events", str(path), "--out", str(tmp_path / "data")]) == 1
    assert "row 62: not a JSON object" in capfd.readouterr().err

"""Training in two processes of PyTorch's distributed runtime: what one process comes to, and what happens to a kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.distributed import HashStore

from mkmsr.bundle.model_bundle import load_bundle
from mkmsr.cli.app import run
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError
from mkmsr.evaluation.ranks import RankTable
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.experiment import run_experiment
from mkmsr.runtime.process_group import ALONE, Processes, is_restarted, joined, own_rank
from mkmsr.training.checkpoint import read_history
from tests.small_shop import small_shop
from tests.training.distributed_fits import CASES, fitted

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


def torchrun(*arguments: str, size: int = 2) -> subprocess.Popen[str]:
    """`torchrun` with so many processes on this machine, heard by nobody else."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runtime = ["--nproc-per-node", str(size), "--master-addr", "127.0.0.1", "--master-port", str(port)]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *runtime, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status, output and errors, in bounded time."""
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output, errors


def pid_of_rank(launcher: int, rank: int) -> int:
    """The process of a rank among the children of torchrun."""
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except (OSError, ValueError, IndexError):
            continue
    raise AssertionError(f"no process of rank {rank}")


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What each of two processes came to, by `case/tensor`."""
    folder = tmp_path_factory.mktemp("fits")
    status, _, errors = ended(torchrun("-m", "tests.training.distributed_fits", str(folder)))
    assert status == 0, errors
    return [safetensors.torch.load_file(folder / f"rank{rank}.safetensors") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_come_to_what_one_comes_to(fits: list[dict[str, Tensor]], case: str) -> None:
    for name, value in fitted(CASES[case]).items():
        torch.testing.assert_close(fits[0][f"{case}/{name}"], value, rtol=1e-4, atol=1e-5, msg=f"{case}: {name}")


def test_all_processes_hold_the_same_bits(fits: list[dict[str, Tensor]]) -> None:
    assert fits[0].keys() == fits[1].keys()
    assert all(torch.equal(value, fits[1][name]) for name, value in fits[0].items())


def test_going_on_from_a_checkpoint_changes_no_bit_of_any_process(fits: list[dict[str, Tensor]]) -> None:
    names = [name.partition("/")[2] for name in fits[0] if name.startswith("interrupted/")]
    assert names
    assert all(torch.equal(fits[0][f"interrupted/{name}"], fits[0][f"uninterrupted/{name}"]) for name in names)


SETTINGS = ["model.dim=8", "model.dropout=0", "training.batch_size=32", "training.checkpoint_seconds=0"]
EPOCHS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shop"
    small_shop().save(folder)
    return folder


def train(data: Path, out: Path, *more: str, restarts: int = 0) -> subprocess.Popen[str]:
    command = ["-m", "mkmsr", "train", str(data), "--model", "mkm-sr", "--out", str(out), "--epochs", str(EPOCHS)]
    return torchrun("--max-restarts", str(restarts), *command, "--set", *SETTINGS, *more)


def kill_after_an_epoch(process: subprocess.Popen[str], out: Path, rank: int) -> None:
    until = time.monotonic() + PATIENCE
    while not ((out / "history.jsonl").is_file() and (out / "history.jsonl").stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(pid_of_rank(process.pid, rank), signal.SIGKILL)


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of two processes."""
    out = tmp_path_factory.mktemp("runs") / "two"
    status, output, errors = ended(train(data, out))
    assert status == 0, errors
    assert output.count("Next: echo") == 1, "one process speaks"
    assert errors.count("epoch 2/6") == 1
    return out


def losses(run: Path) -> list[float]:
    return [record.train_loss or 0.0 for record in read_history(run / "history.jsonl")]


@pytest.mark.slow
def test_the_curve_and_the_ranks_are_those_of_one_process(data: Path, two: Path, tmp_path: Path) -> None:
    values = {"name": "mkm-sr", "dim": 8, "dropout": 0}
    training = {"epochs": EPOCHS, "batch_size": 32, "checkpoint_seconds": 0}
    config = ExperimentConfig.model_validate({"model": values, "training": training})
    run_experiment(PreparedDataset.load(data), config, tmp_path, report=False)
    assert losses(two) == pytest.approx(losses(tmp_path), rel=1e-4)
    one_bundle, two_bundle = load_bundle(tmp_path / "bundle"), load_bundle(two / "bundle")
    for name, value in one_bundle.model.state_dict().items():
        torch.testing.assert_close(two_bundle.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    ranks = [RankTable.load(each / "ranks.parquet").rank for each in (tmp_path, two)]
    assert (ranks[0] == ranks[1]).mean() > 0.98
    assert json.loads((two / "metrics.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_a_killed_worker_stops_all_with_a_message_and_resume_ends_as_if_nothing_had_been(
    data: Path, two: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    process = train(data, out)
    kill_after_an_epoch(process, out, 1)
    began = time.monotonic()
    status, _, errors = ended(process)
    assert status == 1
    assert time.monotonic() - began < 60
    assert "mkmsr: rank 1 of 2 does not answer" in errors
    assert "--resume goes on from the last checkpoint" in errors
    assert not (out / "metrics.json").exists()

    status, _, errors = ended(train(data, out, "--resume"))
    assert status == 0, errors
    assert "resumed at epoch" in errors
    assert losses(out) == losses(two)
    weights = [safetensors.torch.load_file(each / "bundle" / "weights.safetensors") for each in (out, two)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.slow
def test_a_run_that_torchrun_starts_again_goes_on_by_itself(data: Path, two: Path, tmp_path: Path) -> None:
    process = train(data, tmp_path, restarts=1)
    kill_after_an_epoch(process, tmp_path, 0)
    status, _, errors = ended(process)
    assert status == 0, errors
    assert "mkmsr, rank 1: rank 0 of 2 does not answer" in errors
    assert "resumed at epoch" in errors
    assert losses(tmp_path) == losses(two)


@pytest.mark.slow
def test_what_stops_one_process_is_told_by_the_others(data: Path, two: Path) -> None:
    """The first process alone looks at the run folder; the second must not wait for it."""
    status, _, errors = ended(train(data, two, "--seed", "9", "--resume"))
    assert status == 1
    assert "mkmsr: " in errors
    assert "holds another finished run: seed is 0 there, 9 now" in errors
    assert "mkmsr, rank 1: rank 0 of 2 stopped: " in errors


def test_who_stopped_and_who_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mkmsr.runtime.process_group._SECONDS_TO_ANSWER", 0.1)
    store, before = HashStore(), signal.getsignal(signal.SIGTERM)
    Processes(1, 3, store).leave("the session loss is nan")
    try:
        said = str(Processes(0, 3, store).lost())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert said.startswith("rank 1 of 3 stopped: the session loss is nan; rank 2 of 3 does not answer: killed, stuck")
    assert "the same call with --resume goes on" in said


def test_alone_every_exchange_gives_back_what_went_in() -> None:
    tensor = torch.arange(3.0)
    ALONE.add_up(tensor)
    assert tensor.tolist() == [0.0, 1.0, 2.0]
    assert ALONE.from_first({"a": 1}) == {"a": 1}
    assert [each.tolist() for each in ALONE.gather(tensor)] == [[0.0, 1.0, 2.0]]
    with joined() as processes:
        assert processes is ALONE


@pytest.mark.parametrize(("count", "size"), [(10, 3), (1, 4), (0, 2), (128, 1)])
def test_parts_are_disjoint_even_and_complete(count: int, size: int) -> None:
    parts = [list(range(count))[Processes(rank, size).part(count)] for rank in range(size)]
    assert [each for part in parts for each in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_ranks_and_restarts_come_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    assert own_rank() == 0
    assert not is_restarted()
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert own_rank() == 3
    assert is_restarted()


def test_only_training_runs_in_several_processes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert run(["models"]) == 2
    assert "mkmsr, rank 1: under torchrun only `mkmsr train` shares its work" in capfd.readouterr().err


def test_several_processes_without_a_meeting_point_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match=r"MASTER_ADDR.*torchrun"), joined(timeout=1):
        pass

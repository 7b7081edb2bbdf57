"""A run that is killed and resumed ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mkmsr.errors import TrainingError
from mkmsr.runtime.events import BatchDone, EpochRecord, Event, Listener
from mkmsr.training.checkpoint import read_history
from mkmsr.training.config import TrainingConfig
from mkmsr.training.trainer import fit
from tests.training.tiny import TinyModel, tiny_training

ROOT = Path(__file__).parents[2]


def config(**values: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"epochs": 4, "batch_size": 16, "checkpoint_seconds": 0, **values})


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "how"), [("alternating", "anytime"), ("pretrain", "writing")])
def test_kills_at_random_moments_change_no_bit(tmp_path: Path, strategy: str, how: str) -> None:
    command = [sys.executable, "-m", "tests.training.killed_run", str(tmp_path), strategy, "11", how]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3, "the run was hardly killed"
    whole, killed = (
        safetensors.torch.load_file(tmp_path / each / "result.safetensors") for each in ("whole", "killed")
    )
    assert whole.keys() == killed.keys()
    for name, value in whole.items():
        assert torch.equal(value, killed[name]), name
    histories = [read_history(tmp_path / each / "history.jsonl") for each in ("whole", "killed")]
    without_times = [
        [{**asdict(record), "seconds": 0, "examples_per_second": 0} for record in each] for each in histories
    ]
    assert without_times[0] == without_times[1]
    left_over = [each.name for each in (tmp_path / "killed" / "checkpoint").iterdir() if each.suffix == ".part"]
    assert left_over == []


def stop_at(epoch: int) -> Listener:
    """Ends the run from inside, after an epoch."""

    def listener(event: Event) -> None:
        if isinstance(event, EpochRecord) and event.epoch == epoch:
            raise KeyboardInterrupt

    return listener


def interrupted(folder: Path, device: str = "cpu") -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(TinyModel(), tiny_training(), config(), seed=1, folder=folder, listener=stop_at(2), device=device)


def test_an_interruption_in_the_middle_of_an_epoch_changes_no_bit(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, BatchDone) and event.epoch == 2 and event.done < event.total:
            raise KeyboardInterrupt

    whole, cut, resumed = TinyModel(), TinyModel(), TinyModel()
    done = fit(whole, tiny_training(), config(batch_size=8), seed=1)
    with pytest.raises(KeyboardInterrupt):
        fit(cut, tiny_training(), config(batch_size=8), seed=1, folder=tmp_path, listener=stop)
    again = fit(resumed, tiny_training(), config(batch_size=8), seed=1, folder=tmp_path, resume=True)
    assert [each.train_loss for each in again.history] == [each.train_loss for each in done.history]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_resuming_a_finished_run_gives_its_result_again_without_training(tmp_path: Path) -> None:
    first, second = TinyModel(), TinyModel()
    done = fit(first, tiny_training(), config(), seed=1, folder=tmp_path)
    again = fit(second, tiny_training(), config(), seed=1, folder=tmp_path, resume=True)
    assert again == done
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_without_resume_the_old_checkpoint_is_gone_and_training_starts_over(tmp_path: Path) -> None:
    interrupted(tmp_path)
    result = fit(TinyModel(), tiny_training(), config(epochs=3), seed=2, folder=tmp_path)
    assert [record.epoch for record in result.history] == [1, 2, 3]
    assert len(read_history(tmp_path / "history.jsonl")) == 3


def test_resume_before_the_first_checkpoint_starts_at_the_beginning(tmp_path: Path) -> None:
    assert fit(TinyModel(), tiny_training(), config(), seed=1, folder=tmp_path, resume=True).epochs_run == 4


@pytest.mark.parametrize(
    ("values", "seed", "data", "message"),
    [
        ({"batch_size": 8}, 1, 0, r"training\.batch_size is 16 there, 8 now"),
        ({"optimiser": {"learning_rate": 0.5}}, 1, 0, r"training\.optimiser\.learning_rate is 0\.001 there, 0\.5 now"),
        ({}, 2, 0, "seed is 1 there, 2 now"),
        ({}, 1, 9, "training_data is .* there, .* now"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(
    tmp_path: Path, values: dict[str, object], seed: int, data: int, message: str
) -> None:
    interrupted(tmp_path)
    with pytest.raises(TrainingError, match=message):
        fit(TinyModel(), tiny_training(data), config(**values), seed=seed, folder=tmp_path, resume=True)


def test_other_first_weights_or_other_callers_settings_are_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    with pytest.raises(TrainingError, match="first_weights"):
        fit(TinyModel(seed=1), tiny_training(), config(), seed=1, folder=tmp_path, resume=True)
    settings = {"model_settings": {"dim": 8}}
    with pytest.raises(TrainingError, match=r"model_settings\.dim is None there, 8 now"):
        fit(TinyModel(), tiny_training(), config(), seed=1, folder=tmp_path, resume=True, depends_on=settings)


def test_how_often_checkpoints_are_written_may_change(tmp_path: Path) -> None:
    interrupted(tmp_path)
    again = fit(TinyModel(), tiny_training(), config(checkpoint_seconds=60), seed=1, folder=tmp_path, resume=True)
    assert again.epochs_run == 4


def test_a_damaged_or_incomplete_checkpoint_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    (state,) = (tmp_path / "checkpoint").glob("state-*.safetensors")
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    with pytest.raises(TrainingError, match=f"{state.name}: the checkpoint is damaged"):
        fit(TinyModel(), tiny_training(), config(), seed=1, folder=tmp_path, resume=True)
    state.unlink()
    with pytest.raises(TrainingError, match="missing"):
        fit(TinyModel(), tiny_training(), config(), seed=1, folder=tmp_path, resume=True)
    header = tmp_path / "checkpoint" / "checkpoint.json"
    written = header.read_text()
    for content, message in [
        (written.replace('"step": ', '"step": 1'), "the checkpoint is damaged"),
        (written.replace('"history"', '"histories"'), "the checkpoint is damaged"),
        ("{}", "not a checkpoint"),
        ('{"format_version": 1, "identity": {}}', "format 1, this version reads 2; start over"),
        ("[" * 100_000, "not a checkpoint"),
    ]:
        header.write_text(content)
        with pytest.raises(TrainingError, match=message):
            fit(TinyModel(), tiny_training(), config(), seed=1, folder=tmp_path, resume=True)


@pytest.mark.parametrize("line", [b'{"epoch": "\xff"}', b"[" * 100_000, b"7"])
def test_a_damaged_history_is_refused_by_its_line(tmp_path: Path, line: bytes) -> None:
    interrupted(tmp_path)
    history = tmp_path / "history.jsonl"
    before = len(read_history(history))
    history.write_bytes(history.read_bytes() + line)
    with pytest.raises(TrainingError, match=rf"line {before + 1}: not an epoch's record"):
        read_history(history)


def test_a_full_disk_leaves_the_last_checkpoint_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path)
    written = json.loads((tmp_path / "checkpoint" / "checkpoint.json").read_text())["progress"]

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(TrainingError, match=r"cannot write the checkpoint.*No space left"):
            fit(TinyModel(), tiny_training(), config(), seed=1, folder=tmp_path, resume=True)
    after = json.loads((tmp_path / "checkpoint" / "checkpoint.json").read_text())["progress"]
    assert after == written
    resumed, whole = TinyModel(), TinyModel()
    fit(resumed, tiny_training(), config(), seed=1, folder=tmp_path, resume=True)
    fit(whole, tiny_training(), config(), seed=1)
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")
def test_an_interrupted_run_on_a_cuda_device_goes_on_with_its_random_state(tmp_path: Path) -> None:
    interrupted(tmp_path, device="cuda")
    resumed, whole = TinyModel(), TinyModel()
    fit(resumed, tiny_training(), config(), seed=1, folder=tmp_path, resume=True, device="cuda")
    fit(whole, tiny_training(), config(), seed=1, device="cuda")
    for one, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other)

"""Trains in child processes that are killed again and again, and resumes until the run is over.

    python killed_run.py FOLDER STRATEGY SEED HOW

One process imports PyTorch once and forks a child for each attempt. HOW is "anytime" (SIGKILL after a random time) or
"writing" (SIGKILL at the next of the file operations that write a checkpoint, whichever comes n-th).
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
import torch._dynamo  # Every optimiser loads it at its first step; once here instead of in each child.

from mkmsr.data.batching import session_batches
from mkmsr.data.sessions import ExampleTable
from mkmsr.models.base import SessionModel
from mkmsr.training.config import TrainingConfig
from mkmsr.training.trainer import fit
from tests.training.tiny import TinyModel, tiny_sessions, tiny_training

MOST_KILLS = 8


def validate(model: SessionModel) -> dict[str, float]:
    (batch,) = session_batches(ExampleTable.from_sessions(tiny_sessions(seed=1)), 10_000)
    return {"mrr@20": -torch.nn.functional.cross_entropy(model.score(batch), batch.targets).item()}


def train(folder: Path, strategy: str, *, resume: bool) -> None:
    values = {"epochs": 3, "batch_size": 16, "triple_batch_size": 16, "pretrain_epochs": 1, "strategy": strategy}
    optimiser = {"schedule": "one-cycle", "learning_rate": 0.05, "clip_norm": 1.0}
    config = TrainingConfig.model_validate(
        {**values, "checkpoint_seconds": 0, "optimiser": optimiser, "loss": {"knowledge": "margin"}}
    )
    model = TinyModel()
    result = fit(model, tiny_training(), config, validate=validate, seed=3, folder=folder, resume=resume)
    losses = torch.tensor([record.train_loss or 0.0 for record in result.history], dtype=torch.float64)
    safetensors.torch.save_file({**model.state_dict(), "losses": losses}, folder / "result.safetensors")


def in_child(work: Callable[[], None], after: float | None = None) -> bool:
    """Run in a fork, killed after some seconds; whether it ended well."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if status not in (0, signal.SIGKILL):
        sys.exit(f"the child failed with status {status}")
    return status == 0


def kill_at_operation(number: int) -> None:
    """From now on, count the file operations of this process that writing a checkpoint consists of, and die at one."""
    left = [number]

    def dying(operation: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object, **keywords: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **keywords)

        return wrapper

    os.fsync = dying(os.fsync)  # type: ignore[assignment]
    os.replace = dying(os.replace)  # type: ignore[assignment]
    os.unlink = dying(os.unlink)  # type: ignore[assignment]
    safetensors.torch.save_file = dying(safetensors.torch.save_file)  # type: ignore[assignment]


def main() -> None:
    folder, strategy, seed, how = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(1)
    os.fsync = lambda _: None  # type: ignore[assignment]  # A kill loses nothing that the system holds, and it is slow.
    chance = random.Random(seed)
    whole = folder / "whole"
    whole.mkdir(parents=True)
    began = time.monotonic()
    assert in_child(lambda: train(whole, strategy, resume=False))
    duration = time.monotonic() - began
    killed = folder / "killed"
    killed.mkdir()
    for kills in range(MOST_KILLS + 1):
        after = chance.uniform(0, 0.4 * duration) if how == "anytime" and kills < MOST_KILLS else None
        operation = chance.randint(1, 40) if how == "writing" and kills < MOST_KILLS else 0

        def attempt(operation: int = operation) -> None:
            if operation:
                kill_at_operation(operation)
            train(killed, strategy, resume=True)

        done = in_child(attempt, after)
        if done and (killed / "result.safetensors").is_file():
            sys.stdout.write(str(kills))
            return
    sys.exit("never finished")


if __name__ == "__main__":
    main()

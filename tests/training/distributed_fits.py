"""Fits of small models, by one process or, under torchrun, by several together; writes what came out of each.

torchrun --nproc-per-node 2 -m tests.training.distributed_fits FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from mkmsr.data.batching import session_batches
from mkmsr.data.sessions import ExampleTable
from mkmsr.models.base import SessionModel
from mkmsr.runtime.process_group import ALONE, Processes, joined
from mkmsr.training.config import TrainingConfig
from mkmsr.training.trainer import fit
from tests.training.tiny import TinyModel, tiny_sessions, tiny_training

CASES: dict[str, dict[str, Any]] = {
    "alternating": {"strategy": "alternating", "optimiser": {"learning_rate": 0.02, "clip_norm": 0.5}},
    "joint, margin": {"strategy": "joint", "loss": {"knowledge": "margin"}},
    "pretrain": {"strategy": "pretrain", "pretrain_epochs": 2, "shuffle": "sessions"},
    "bce": {"strategy": "sessions", "loss": {"session": "bce"}},
    "in blocks, decayed": {"loss": {"catalogue_block": 7}, "optimiser": {"weight_decay": 0.01}},
    "sampled": {"loss": {"session": "sampled-cross-entropy", "negatives": {"number": 8}}},
    "bpr": {"loss": {"session": "bpr", "negatives": {"number": 8}}, "optimiser": {"name": "adagrad"}},
    "bpr-max": {"loss": {"session": "bpr-max", "negatives": {"number": 8}}, "strategy": "joint"},
    "touched rows": {
        "loss": {"session": "sampled-cross-entropy", "negatives": {"number": 4}},
        "optimiser": {"touched_rows": True, "clip_norm": 0.5},
    },
}
"""Settings of fits that several processes must come to as one does."""


def settings(values: Mapping[str, Any]) -> TrainingConfig:
    """Three epochs whose last batch has one example, so that a process has no part in it."""
    batch = next(size for size in range(9, 40) if len(tiny_training().examples) % size == 1)
    return TrainingConfig.model_validate({"epochs": 3, "batch_size": batch, "triple_batch_size": 13, **values})


def validate(model: SessionModel) -> dict[str, float]:
    (batch,) = session_batches(ExampleTable.from_sessions(tiny_sessions(seed=1)), 10_000)
    return {"mrr@20": -torch.nn.functional.cross_entropy(model.score(batch), batch.targets).item()}


def fitted(values: Mapping[str, Any], processes: Processes = ALONE) -> dict[str, torch.Tensor]:
    """Weights and losses of a fit without dropout."""
    model = TinyModel(dropout=0.0)
    result = fit(model, tiny_training(), settings(values), validate=validate, seed=3, processes=processes)
    losses = [[record.train_loss or 0.0, record.knowledge_loss or 0.0] for record in result.history]
    return {**model.state_dict(), "losses": torch.tensor(losses, dtype=torch.float64)}


class Stop(Exception):
    """Ends a fit in all processes alike."""


def interrupted(folder: Path, processes: Processes) -> dict[str, torch.Tensor]:
    """Weights of a fit with dropout that is stopped after its second epoch and goes on from its checkpoint."""
    epochs = 0

    def stopping(model: SessionModel) -> dict[str, float]:
        nonlocal epochs
        epochs += 1
        if epochs == 3:
            raise Stop
        return validate(model)

    config = settings({"epochs": 5, "checkpoint_seconds": 0})
    with suppress(Stop):
        fit(TinyModel(), tiny_training(), config, validate=stopping, seed=3, folder=folder, processes=processes)
    model = TinyModel()
    fit(model, tiny_training(), config, validate=validate, seed=3, folder=folder, resume=True, processes=processes)
    return dict(model.state_dict())


def uninterrupted(processes: Processes) -> dict[str, torch.Tensor]:
    """Weights of the same fit without the stop."""
    model, config = TinyModel(), settings({"epochs": 5, "checkpoint_seconds": 0})
    fit(model, tiny_training(), config, validate=validate, seed=3, processes=processes)
    return dict(model.state_dict())


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    with joined(timeout=60) as processes:
        found = {name: fitted(values, processes) for name, values in CASES.items()}
        found["uninterrupted"] = uninterrupted(processes)
        found["interrupted"] = interrupted(folder / "run", processes)
        flat = {f"{case}/{name}": value for case, tensors in found.items() for name, value in tensors.items()}
        safetensors.torch.save_file(flat, folder / f"rank{processes.rank}.safetensors")


if __name__ == "__main__":
    main()

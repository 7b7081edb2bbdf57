"""What an epoch of training costs, in turns with the floor under it: the work of a step that no encoder can save.

Dimension letters: B sessions, D embedding size, V catalogue + 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from mkmsr.config import StrictModel
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError
from mkmsr.models.base import TrainingData
from mkmsr.runs.config import build_model
from mkmsr.runtime.environment import environment, peak_mib, spread
from mkmsr.runtime.events import BatchDone, EpochRecord, Event
from mkmsr.training.config import OptimiserConfig, TrainingConfig
from mkmsr.training.optimisation import build_optimiser
from mkmsr.training.trainer import fit, fitting_data


def time_training(
    dataset: PreparedDataset,
    model: str,
    settings: StrictModel,
    config: TrainingConfig,
    *,
    repetitions: int = 5,
    share: float = 1.0,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Time an epoch of the real trainer, and the floor under it, in turns within the same epochs.

    After every few steps of the trainer, as many steps of the floor are timed, so that both meet the same load of the
    machine. An epoch learns from train and validation together, all steps of its strategy included; checkpoints and
    validation are not. The first epoch warms up: there memory is read, before the floor takes any. A `share` of an
    epoch's examples and triples, drawn at random, is timed and scaled up: for large logs.
    """
    training = training_data(dataset, share, seed)
    network = build_model(model, settings, dataset, seed)
    if not network.is_trainable:
        raise ConfigError(f"{model} has no weights to train; `mkmsr bench evaluation` times it", key="model")
    config = config.model_copy(update={"epochs": repetitions + 1, "pretrain_epochs": 1, "patience": repetitions + 1})
    session_steps = -(-len(training.examples) // config.batch_size)

    def floor() -> CatalogueFloor:
        dim, optimiser = int(getattr(settings, "dim", 100)), config.optimiser
        return CatalogueFloor(len(dataset.items), dim, config.batch_size, optimiser, device=device, seed=seed)

    turns = _Turns(session_steps, floor, torch.device(device))
    fit(network, training, config, seed=seed, device=device, listener=turns)
    epoch_seconds = [each / share for each in turns.epoch_seconds]
    floor_seconds = [each / share for each in turns.floor_seconds]
    ratios = [mine / bare for mine, bare in zip(epoch_seconds, floor_seconds, strict=True)]
    examples = len(training.examples) / share
    return {
        "model": model,
        "threads": config.threads or torch.get_num_threads(),
        "batch_size": config.batch_size,
        "epoch_seconds": median(epoch_seconds),
        "floor_seconds": median(floor_seconds),
        "ratio": median(ratios),
        "examples_per_second": examples / median(epoch_seconds),
        "peak_mib": turns.peak_mib,
        "case": "training",
        "data": dataset.name,
        "items": len(dataset.items),
        "examples": round(examples),
        "share": share,
        "device": str(device),
        "strategy": config.strategy if turns.triple_steps else "sessions",
        "session_steps": session_steps,
        "triple_steps": turns.triple_steps,
        "triple_seconds": median(each / share for each in turns.triple_seconds),
        "settings": {"model": settings.model_dump(mode="json"), "loss": config.loss.session},
        "spread": spread(epoch_seconds=epoch_seconds, floor_seconds=floor_seconds, ratio=ratios),
        "environment": environment(),
    }


def training_data(dataset: PreparedDataset, share: float, seed: int) -> TrainingData:
    """Train and validation together; of their examples and of the triples a random share."""
    whole = fitting_data(dataset, refit=True)
    if share >= 1:
        return whole
    examples, knowledge, rng = whole.examples, whole.knowledge, np.random.default_rng(seed)
    examples = examples.rows(np.sort(rng.permutation(len(examples))[: max(1, round(share * len(examples)))]))
    kept = np.sort(rng.permutation(len(knowledge))[: round(share * len(knowledge))])
    return replace(whole, examples=examples, knowledge=replace(knowledge, triples=knowledge.triples[kept]))


class CatalogueFloor:
    """What a step of exact training cannot do without: B x V scores, softmax, both gradients, the item table's step.

    Written out without automatic differentiation, in plain PyTorch operations, into memory that is there already.
    """

    def __init__(
        self,
        num_items: int,
        dim: int,
        batch_size: int,
        config: OptimiserConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ):
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Embedding(num_items + 1, dim)
        with torch.no_grad():
            self.table.weight.normal_(std=dim**-0.5, generator=generator)
        self.table.to(device)
        self.table.weight.grad = torch.zeros_like(self.table.weight)
        self.optimiser = build_optimiser(self.table, config)
        self.queries = torch.randn(batch_size, dim, generator=generator).to(device)
        self.targets = torch.randint(1, num_items + 1, (batch_size, 1), generator=generator).to(device)
        self.scores = torch.empty(batch_size, num_items + 1, device=device)
        self.query_gradient = torch.empty_like(self.queries)
        self.minus_one = torch.full((batch_size, 1), -1.0, device=device)

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        items, gradient = self.table.weight, self.table.weight.grad
        assert gradient is not None
        torch.mm(self.queries, items.T, out=self.scores)
        torch.softmax(self.scores, 1, out=self.scores)
        self.scores.scatter_add_(1, self.targets, self.minus_one)
        torch.mm(self.scores, items, out=self.query_gradient)
        torch.mm(self.scores.T, self.queries, out=gradient)
        self.optimiser.step()


@dataclass
class _Turns:
    """Listens to the trainer, and at each event takes as many steps of the floor as the trainer took.

    The floor is made after the first epoch. Steps with triples alone follow the `session_steps` of an epoch.
    """

    session_steps: int
    make_floor: Callable[[], CatalogueFloor]
    device: torch.device
    epoch_seconds: list[float] = field(default_factory=list)
    floor_seconds: list[float] = field(default_factory=list)
    triple_seconds: list[float] = field(default_factory=list)
    triple_steps: int = 0
    peak_mib: float | None = None
    _floor: CatalogueFloor | None = None
    _spent: list[float] = field(default_factory=lambda: [0.0] * 3)
    _done: int = 0
    _since: float = 0.0

    def __call__(self, event: Event) -> None:
        """Take turns after some steps, and close an epoch."""
        if isinstance(event, BatchDone):
            self._take_turns(event.done, event.total)
        elif isinstance(event, EpochRecord):
            self._close_epoch(event)

    def _take_turns(self, done: int, total: int) -> None:
        """Take the time of the steps since the last word, then of the floor's."""
        self._wait()
        elapsed = time.perf_counter() - self._since
        steps, of_sessions = done - self._done, min(done, self.session_steps) - min(self._done, self.session_steps)
        self._spent[0] += elapsed
        self._spent[2] += elapsed * (steps - of_sessions) / steps
        self.triple_steps = total - self.session_steps
        self._done = done
        if self._floor is not None:
            began = time.perf_counter()
            for _ in range(of_sessions):
                self._floor.step()
            self._wait()
            self._spent[1] += time.perf_counter() - began
        self._since = time.perf_counter()

    def _close_epoch(self, record: EpochRecord) -> None:
        """Close an epoch over sessions; after the first one, read memory and make the floor."""
        self._spent[0] += time.perf_counter() - self._since
        if self._floor is not None:
            lists = (self.epoch_seconds, self.floor_seconds, self.triple_seconds)
            for values, spent in zip(lists, self._spent, strict=True):
                values.append(spent)
        elif record.phase == "sessions":
            self.peak_mib = peak_mib()
            self._floor = self.make_floor()
            self._floor.step()
            self._wait()
        self._spent, self._done, self._since = [0.0] * 3, 0, time.perf_counter()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

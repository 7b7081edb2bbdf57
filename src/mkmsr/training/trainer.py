"""`fit`: trains a model, keeps the best validation epoch, and resumes after a kill with the same result."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mkmsr.config import dotted
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError, TrainingError, nearest
from mkmsr.models.base import SessionModel, TrainingData
from mkmsr.runtime.compute import keep_freed_memory, own_random_state, set_random_state, torch_threads
from mkmsr.runtime.events import BatchDone, EpochRecord, Listener, ignore
from mkmsr.runtime.process_group import ALONE, Processes
from mkmsr.training import checkpoint
from mkmsr.training.checkpoint import CheckpointFolder, Progress
from mkmsr.training.config import TrainingConfig
from mkmsr.training.distributed import all_random_states, check_same_run, own_part, share_checkpoint
from mkmsr.training.estimate import estimate_training
from mkmsr.training.optimisation import (
    ADVICE,
    EpochLosses,
    build_optimiser,
    learning_rate_factor,
    restore_optimiser,
    take_step,
)
from mkmsr.training.strategies import Plan, effective_strategy

Validate = Callable[[SessionModel], Mapping[str, float]]

HISTORY_FILE = "history.jsonl"

_STEPS_BETWEEN_LOOKS = 10
"""Steps between two looks at the loss: each look waits for the device."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """What a fit came to.

    The model now holds the weights of the best epoch, from 1 (knowledge epochs of "pretrain" count); 0 for a model
    without weights. Its validation metrics, 0..1, are empty without validation. The history has a record for each
    epoch.
    """

    best_epoch: int
    epochs_run: int
    best_metrics: Mapping[str, float]
    history: tuple[EpochRecord, ...]


def fit(
    model: SessionModel,
    training: TrainingData,
    config: TrainingConfig,
    *,
    validate: Validate | None = None,
    seed: int,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    resume: bool = False,
    listener: Listener = ignore,
    stop_after: int | None = None,
    depends_on: Mapping[str, Any] | None = None,
    processes: Processes = ALONE,
) -> FitResult:
    """Train a model in place; afterwards it holds the best epoch's weights.

    The result is a function of the model's first weights, the data, the settings and the seed, on a CPU bit for bit;
    kills and resumptions in between change nothing. The caller's random state is left alone. Several processes come to
    what one comes to, but for rounding and what dropout drops: each takes the gradient of its part of every batch.
    Where there is nothing to learn from, the loss is not finite, or the checkpoint is of another run, TrainingError is
    raised.

    Args:
        model: The model with its first weights. It first observes the training data; one without weights is done then.
        training: What it may learn from.
        config: How.
        validate: Metrics of the model on a validation split, `config.select` among them; after every epoch over
            sessions. None: no early stopping, and the last epoch is the best one.
        seed: Of the order of examples, false triples and dropout.
        device: Where to train.
        folder: Where history and checkpoint go; None keeps everything in memory.
        resume: Go on from the folder's checkpoint, if there is one yet; otherwise an old one is deleted.
        listener: Told `TrainingEstimate`, `BatchDone` and `EpochRecord`.
        stop_after: Stop after this epoch, although the schedule of the learning rate is planned for `config.epochs`. A
            refit uses it: it repeats the schedule that validation saw up to the chosen epoch.
        depends_on: What else a checkpoint must agree on, such as the model's settings.
        processes: Who trains together. All of them call this with the same arguments; only the first writes files.
    """
    device = torch.device(device)
    model.to(device)
    model.observe(training)
    model.to(device)  # Observing may have made new buffers, on the CPU.
    if not model.is_trainable:
        return FitResult(0, 0, _validation(model, validate), ())
    if len(training.examples) == 0:
        raise TrainingError("there is no example to learn from: every training session has fewer than two events")
    keep_freed_memory()
    config = config.for_catalogue(model.sizes.num_items)
    with torch_threads(config.threads), own_random_state(seed, device, processes.rank):
        plan = Plan(effective_strategy(config, model, training), training, config, seed)
        store = None
        if folder is not None or processes.size > 1:
            what = {"seed": seed, "stop_after": stop_after, "validated": validate is not None}
            known = {**(depends_on or {}), **what, **checkpoint.fit_depends_on(model, training, config)}
            check_same_run(processes, known)
            if folder is not None:
                store = CheckpointFolder(folder / checkpoint.CHECKPOINT_FOLDER, known)
        run = _Run(model, plan, config, validate, store, folder, listener, stop_after, processes)
        run.start(resume=resume)
        if listener is not ignore and not run.progress.finished:
            listener(estimate_training(model, training, config, processes))
        while not run.progress.finished:
            run.run_epoch()
        return run.result()


def fitting_data(dataset: PreparedDataset, *, refit: bool = False) -> TrainingData:
    """Return what a model may learn from: train, or for a refit train and validation, and all triples."""
    sessions = dataset.fitting_sessions(refit=refit)
    return TrainingData(sessions, dataset.examples(sessions), dataset.knowledge, dataset.new_items == "keep")


class _Run:
    """The state of one fit between two steps."""

    def __init__(
        self,
        model: SessionModel,
        plan: Plan,
        config: TrainingConfig,
        validate: Validate | None,
        store: CheckpointFolder | None,
        folder: Path | None,
        listener: Listener,
        stop_after: int | None,
        processes: Processes,
    ):
        self.model, self.plan, self.config, self.validate = model, plan, config, validate
        self.store, self.listener, self.processes = store, listener, processes
        self.history_path = folder / HISTORY_FILE if folder is not None and processes.is_first else None
        planned = plan.knowledge_epochs + config.epochs
        self.last_epoch = min(planned, stop_after) if stop_after is not None else planned
        self.device = next(model.parameters()).device
        self.optimiser = build_optimiser(model, config.optimiser)
        self.progress = Progress()
        self.losses = EpochLosses(plan.num_steps(1), self.device)
        self.best: dict[str, Tensor] | None = None
        self.saved_at = time.monotonic()

    def start(self, *, resume: bool) -> None:
        """Begin at the checkpoint or at the first step, and make the history file agree."""
        if self.store is not None:
            found = self.store.load() if resume and self.processes.is_first else None
            if found is None and self.processes.is_first:
                self.store.clear()
            found = share_checkpoint(self.processes, found)
            if found is not None:
                self.progress, state, self.best = found
                self._restore(state)
                _logger.info("resumed at epoch %d, step %d", self.progress.epoch, self.progress.step)
        if self.history_path is not None:
            checkpoint.write_history(self.history_path, self.progress.history)

    def run_epoch(self) -> None:
        """Take the steps of the epoch that are left, validate, and save."""
        epoch, done = self.progress.epoch, self.progress.step
        total = self.plan.num_steps(epoch)
        began = time.perf_counter() - self.progress.seconds
        self.model.train()
        rate = self.config.optimiser.learning_rate
        for index, step in enumerate(self.plan.steps(epoch)):
            if index < done:
                continue  # Taken before the kill; drawn again because the rest of the epoch's draws follow from it.
            rate = self._set_learning_rate(epoch, index / total)
            optimiser, loss = self.config.optimiser, self.config.loss
            step_losses = take_step(
                self.model, self.optimiser, step, loss, clip_norm=optimiser.clip_norm, processes=self.processes
            )
            self.losses.add(index, step, step_losses)
            if (index + 1) % _STEPS_BETWEEN_LOOKS == 0 or index + 1 == total:
                self._look(epoch, index + 1, total)
            due = time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
            if index + 1 < total and self.store is not None and self.processes.from_first(due):
                self.losses.check(epoch, index + 1)
                self.progress = replace(self.progress, step=index + 1, seconds=time.perf_counter() - began)
                self._save()
        self._end_epoch(time.perf_counter() - began, rate)

    def result(self) -> FitResult:
        """Give the model the best epoch's weights and sum up."""
        if self.best is not None:
            self.model.load_state_dict(self.best)
        self.model.eval()
        progress = self.progress
        return FitResult(progress.best_epoch, len(progress.history), progress.best_metrics, progress.history)

    def _end_epoch(self, seconds: float, rate: float) -> None:
        epoch, phase = self.progress.epoch, self.plan.phase(self.progress.epoch)
        for name, weight in self.model.named_parameters():
            if not weight.isfinite().all():
                raise TrainingError(f"{name} holds weights that are not finite; {ADVICE}", epoch=epoch)
        validation = _validation(self.model, self.validate) if phase == "sessions" else {}
        validation = self.processes.from_first(validation)  # One judgement for all: they stop together.
        record = EpochRecord(
            epoch=epoch,
            phase=phase,
            train_loss=self.losses.mean("sessions"),
            knowledge_loss=self.losses.mean("knowledge"),
            validation=validation,
            seconds=seconds,
            examples_per_second=self.losses.visited(phase) / seconds,
            learning_rate=rate,
        )
        best = self._judge(record)
        self.losses = EpochLosses(self.plan.num_steps(epoch + 1), self.device)
        self._save(best=best)
        if self.history_path is not None:
            checkpoint.write_history(self.history_path, self.progress.history)
        self.listener(record)

    def _judge(self, record: EpochRecord) -> dict[str, Tensor] | None:
        """Enter an epoch into the progress; its weights, if it is the best so far."""
        before, epoch = self.progress, record.epoch
        now = Progress(epoch + 1, 0, 0.0, before.best_epoch, before.best_metrics, (*before.history, record))
        best = None
        if self.validate is None:
            now = replace(now, best_epoch=epoch)
        elif record.phase == "sessions":
            value = self._selected(record.validation, epoch)
            is_kept = self.config.keep == "last" or before.best_epoch == 0
            if is_kept or value > self._selected(before.best_metrics, before.best_epoch):
                now = replace(now, best_epoch=epoch, best_metrics=dict(record.validation))
                best = self.best = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        waited = epoch - max(now.best_epoch, self.plan.knowledge_epochs)
        self.progress = replace(now, finished=epoch >= self.last_epoch or waited >= self.config.patience)
        return best

    def _selected(self, metrics: Mapping[str, float], epoch: int) -> float:
        name = self.config.select
        if name not in metrics:
            hint = nearest(name, metrics) or f"; there are: {', '.join(metrics)}"
            raise ConfigError(f"validation gives no metric {name!r}{hint}", key="training.select")
        if not math.isfinite(metrics[name]):
            raise TrainingError(f"validation metric {name} is {metrics[name]}, not a finite number", epoch=epoch)
        return metrics[name]

    def _set_learning_rate(self, epoch: int, share: float) -> float:
        of_sessions = epoch - 1 - self.plan.knowledge_epochs
        factor = 1.0
        if of_sessions >= 0:
            factor = learning_rate_factor(self.config.optimiser.schedule, (of_sessions + share) / self.config.epochs)
        rate = self.config.optimiser.learning_rate * factor
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return rate

    def _look(self, epoch: int, done: int, total: int) -> None:
        self.losses.check(epoch, done)
        phase = self.plan.phase(epoch)
        loss = self.losses.mean(phase) or 0.0
        self.listener(BatchDone(done, total, loss, epoch, self.last_epoch, self.losses.visited(phase)))

    def _save(self, *, best: Mapping[str, Tensor] | None = None) -> None:
        if self.store is None:
            return
        random = all_random_states(self.processes, self.device)
        if not self.processes.is_first:
            return
        parts = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()["state"], "random": random}
        self.store.save(self.progress, dotted({**parts, "losses": self.losses.tensors()}), best=best)
        self.saved_at = time.monotonic()

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}, "losses": {}, "random": {}}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.model.load_state_dict(parts["model"])
        restore_optimiser(self.optimiser, parts["optimiser"])
        self.losses = EpochLosses.from_tensors(parts["losses"], self.device)
        if own := own_part(self.processes, parts["random"]):
            set_random_state(own, self.device)


def _validation(model: SessionModel, validate: Validate | None) -> dict[str, float]:
    if validate is None:
        return {}
    model.eval()
    with torch.no_grad():
        return dict(validate(model))

"""The two sides of a comparison, trained by one rule on the same examples and ranked by one evaluator."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from pairs import USUAL, Habits, Pair
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.data.dataset import PreparedDataset
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.ranks import RankTable
from mkmsr.runs.config import ExperimentConfig, new_model
from mkmsr.runs.experiment import validator
from mkmsr.runtime.events import EpochRecord, Event
from mkmsr.runtime.files import atomic_write
from mkmsr.training.config import TrainingConfig
from mkmsr.training.trainer import fit, fitting_data


class Peer(Protocol):
    """A model of another library.

    Args:
        examples: Training examples that an epoch visits.
    """

    examples: int

    def train_epoch(self) -> None:
        """Train for one more epoch, nothing else."""

    def score(self, batch: SessionBatch) -> Tensor:
        """Scores of the whole catalogue in our order of items; column 0 means nothing. Shape [B, V]."""

    def weights(self) -> dict[str, Tensor]:
        """A copy of all weights."""

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Put weights back."""

    def close(self) -> None:
        """End what still waits."""


@dataclass(frozen=True)
class Run:
    """One trained side: the epoch that validation chose, and the test ranks of its weights.

    Args:
        seed: Of the run.
        best_epoch: The chosen epoch, from 1.
        epochs: Epochs trained.
        validation: The metric that chose, after each epoch, 0..1.
        ranks: Of the test examples.
    """

    seed: int
    best_epoch: int
    epochs: int
    validation: tuple[float, ...]
    ranks: RankTable

    def save(self, path: Path) -> None:
        """Write PATH.parquet and, last, PATH.json."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.ranks.save(path.with_suffix(".parquet"))
        values = {
            "seed": self.seed,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "validation": self.validation,
        }
        atomic_write(path.with_suffix(".json"), json.dumps(values) + "\n")

    @classmethod
    def load(cls, path: Path) -> Run | None:
        """What `save` wrote, or None."""
        if not path.with_suffix(".json").is_file():
            return None
        values: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        validation = tuple(values.pop("validation"))
        return cls(**values, validation=validation, ranks=RankTable.load(path.with_suffix(".parquet")))


def our_config(pair: Pair) -> ExperimentConfig:
    """Our side's settings."""
    return ExperimentConfig(
        model={"name": pair.model, **pair.settings}, training=TrainingConfig.model_validate(dict(pair.training))
    )


def run_ours(pair: Pair, dataset: PreparedDataset, seed: int) -> Run:
    """Fit our model on train, keep the epoch with the best validation metric, rank the test."""
    config = our_config(pair)
    model = new_model(dataset, config, seed)
    validate = validator(dataset, config.training.select)
    found = fit(model, fitting_data(dataset), config.training, validate=validate, seed=seed)
    course = tuple(record.validation[config.training.select] for record in found.history)
    return Run(seed, found.best_epoch, found.epochs_run, course, evaluate(model, dataset.evaluation_split("test")))


def run_peer(pair: Pair, dataset: PreparedDataset, seed: int, folder: Path) -> Run:
    """The same for the peer, by the same rule: at most as many epochs, with the same patience, by the same metric."""
    rule = our_config(pair).training
    validation = dataset.evaluation_split("validation")
    peer = new_peer(pair, dataset, seed=seed, folder=folder)
    course: list[float] = []
    best, kept = 0, peer.weights()
    most = pair.peer_epochs or rule.epochs
    while len(course) < most and len(course) - best < rule.patience:
        seconds = peer_epoch_time(peer).wall
        course.append(evaluate(peer.score, validation).metrics()[rule.select])
        if best == 0 or course[-1] > course[best - 1]:
            best, kept = len(course), peer.weights()
        print(f"{pair.label} of {pair.library}, epoch {len(course)}: {seconds:.1f} s, {rule.select} {course[-1]:.4f}")
    peer.restore(kept)
    ranks = evaluate(peer.score, dataset.evaluation_split("test"))
    peer.close()
    return Run(seed, best, len(course), tuple(course), ranks)


def new_peer(pair: Pair, dataset: PreparedDataset, *, seed: int, folder: Path, habits: Habits = USUAL) -> Peer:
    """The other library's model with first weights; each library is imported in its own environment alone."""
    if pair.library == "hopwise":
        from hopwise_peer import HopwisePeer

        settings = dict(pair.peer_settings)
        return HopwisePeer(pair.peer, settings, dataset, seed=seed, folder=folder, habits=habits)
    from cornac_peer import CornacPeer

    return CornacPeer(pair.peer, dict(pair.peer_settings), dataset, hook=pair.hook, seed=seed)


class Seconds(NamedTuple):
    """What an epoch took.

    Args:
        wall: By the clock on the wall.
        processor: Of this process on processors, which others at work lengthen little.
    """

    wall: float
    processor: float


def peer_epoch_time(peer: Peer) -> Seconds:
    """Time of one more epoch of the peer."""
    began = _now()
    peer.train_epoch()
    return _since(began)


def our_epoch_time(pair: Pair, dataset: PreparedDataset, seed: int) -> Seconds:
    """Time of our trainer's second epoch from fresh weights, the first warms up; without gradient checks of others."""
    config, ends = our_config(pair), [_now()]

    def clock(event: Event) -> None:
        if isinstance(event, EpochRecord):
            ends.append(_since(ends[0]))

    twice = config.training.model_copy(update={"epochs": 2, "patience": 2})
    with torch.autograd.set_detect_anomaly(False):
        fit(new_model(dataset, config, seed), fitting_data(dataset), twice, seed=seed, listener=clock)
    return Seconds(ends[2].wall - ends[1].wall, ends[2].processor - ends[1].processor)


def _now() -> Seconds:
    return Seconds(time.perf_counter(), time.process_time())


def _since(began: Seconds) -> Seconds:
    return Seconds(*(end - begin for begin, end in zip(began, _now(), strict=True)))


torch.set_num_threads(1)

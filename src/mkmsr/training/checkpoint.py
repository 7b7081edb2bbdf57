"""Where a run stands, on disk: tensors in safetensors, the rest in JSON, nothing that executes when it is read.

    history.jsonl                            one record an epoch
    checkpoint/checkpoint.json               what the run is, how far it is, its history, the SHA-256 of all files
    checkpoint/state-EPOCH-STEP.safetensors  weights, optimiser, random number generators
    checkpoint/best-EPOCH.safetensors        the best epoch's weights

A kill at any moment leaves a whole checkpoint: tensors go into files of new names, `checkpoint.json` is replaced
atomically to name them, and only then the old files are removed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from mkmsr.config import differences
from mkmsr.errors import TrainingError
from mkmsr.models.base import SessionModel, TrainingData
from mkmsr.runtime.events import EpochRecord
from mkmsr.runtime.files import atomic_file, atomic_write, is_signed, sha256, signed_json, unshared
from mkmsr.training.config import TrainingConfig

FORMAT_VERSION = 2

CHECKPOINT_FOLDER, CHECKPOINT_FILE = "checkpoint", "checkpoint.json"
"""Where the checkpoint of a fit stands in its folder, and what is written there last."""

_SHOWN_DIFFERENCES = 5
_START_OVER = "start over without resume (mkmsr train --overwrite)"
_WITHOUT_EFFECT = {"checkpoint_seconds"}
"""Settings that change nothing in the result of a fit."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: in which epoch, from 1, and how many of its steps are done, in so many seconds of wall time.

    The best epoch is that by validation so far, 0 before the first; the history has the epochs that are over.
    """

    epoch: int = 1
    step: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[EpochRecord, ...] = ()
    finished: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Progress:
        """Return the progress whose `asdict` went through JSON."""
        return cls(**{**values, "history": tuple(EpochRecord(**each) for each in values["history"])})


class CheckpointFolder:
    """Reads and writes the checkpoint of one run, in a folder that the first one makes.

    `depends_on` is what the run is (settings, seed, data, first weights), as JSON values; a checkpoint of anything
    else is refused.
    """

    def __init__(self, path: Path, depends_on: Mapping[str, Any]):
        self.path = path
        self._depends_on = json.loads(json.dumps(depends_on))
        self._best: dict[str, str] = {}

    def clear(self) -> None:
        """Forget the checkpoint, if there is one."""
        (self.path / CHECKPOINT_FILE).unlink(missing_ok=True)
        self._remove_all_but(())

    def save(
        self, progress: Progress, state: Mapping[str, Tensor], *, best: Mapping[str, Tensor] | None = None
    ) -> None:
        """Replace the checkpoint by the tensors needed to go on, and the best epoch's weights if they are new.

        Where the disk is full or cannot be written, TrainingError is raised and the checkpoint before is intact.
        """
        name = f"state-{progress.epoch:05d}-{progress.step:07d}.safetensors"
        header = {"format_version": FORMAT_VERSION, "depends_on": self._depends_on, "progress": asdict(progress)}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if best is not None:
                best_name = f"best-{progress.best_epoch:05d}.safetensors"
                self._best = {best_name: _write_tensors(self.path / best_name, best)}
            files = {name: _write_tensors(self.path / name, state), **self._best}
            atomic_write(self.path / CHECKPOINT_FILE, signed_json({**header, "state": name, "files": files}))
        except (OSError, ValueError, SafetensorError) as error:
            raise TrainingError(f"{self.path}: cannot write the checkpoint: {error}") from error
        self._remove_all_but(files)

    def load(self) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor] | None] | None:
        """Return the progress, the tensors to go on with and the best epoch's weights; None without a checkpoint.

        One of another run, of another format, or damaged raises TrainingError.
        """
        path = self.path / CHECKPOINT_FILE
        if not path.is_file():
            return None
        try:
            content = path.read_bytes()
            header = json.loads(content)
            if (found := header["format_version"]) != FORMAT_VERSION:
                raise TrainingError(f"{path}: format {found}, this version reads {FORMAT_VERSION}; {_START_OVER}")
            is_whole, found_inputs = is_signed(content, header["sha256"]), header["depends_on"]
            fields, state, files = dict(header["progress"]), str(header["state"]), dict(header["files"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TrainingError(f"{path}: not a checkpoint: {error}; {_START_OVER}") from None
        if not is_whole:
            raise TrainingError(f"{path}: the checkpoint is damaged; {_START_OVER}")
        other = differences(found_inputs, self._depends_on)
        if other:
            shown = "; ".join(other[:_SHOWN_DIFFERENCES])
            more = f"; and {len(other) - _SHOWN_DIFFERENCES} more" if len(other) > _SHOWN_DIFFERENCES else ""
            raise TrainingError(
                f"{path}: this is the checkpoint of another run: {shown}{more}. "
                "Resume with the old settings, or start over without resume (mkmsr train --overwrite)"
            )
        tensors = {name: _read_tensors(self.path / name, digest) for name, digest in files.items()}
        self._best = {name: digest for name, digest in files.items() if name != state}
        best = next((tensors[name] for name in self._best), None)
        return Progress.from_json(fields), tensors[state], best

    def _remove_all_but(self, kept: Mapping[str, str] | tuple[()]) -> None:
        for pattern in ("*.safetensors", "*.part"):
            for file in self.path.glob(pattern):
                if file.name not in kept:
                    file.unlink(missing_ok=True)


def write_history(path: Path, records: Iterable[EpochRecord]) -> None:
    """Write a whole history file, so that it holds exactly these records."""
    atomic_write(path, "".join(json.dumps(asdict(each)) + "\n" for each in records))


def read_history(path: str | Path) -> tuple[EpochRecord, ...]:
    """Return the records of a history file."""
    path = Path(path)
    if not path.is_file():
        raise TrainingError(f"{path}: no such history file")
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            records.append(EpochRecord(**json.loads(line)))
        except (ValueError, TypeError, RecursionError) as error:
            raise TrainingError(f"{path}, line {number}: not an epoch's record: {error}") from None
    return tuple(records)


def fit_depends_on(model: SessionModel, training: TrainingData, config: TrainingConfig) -> dict[str, Any]:
    """Return what a fit's result depends on as JSON values, but for its seed; data and weights by their SHA-256."""
    examples, sessions = training.examples, training.sessions
    arrays: list[NDArray[Any]] = [examples.session, examples.begin, examples.end]
    arrays += [sessions.items, sessions.operations, sessions.offsets, training.knowledge.triples]
    weights = {name: value.detach().cpu() for name, value in sorted(model.state_dict().items())}
    return {
        "model": type(model).__name__,
        "training": config.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
        "training_data": _digest(arrays),
        "shapes": {name: list(value.shape) for name, value in weights.items()},
        "first_weights": _digest([each.contiguous().flatten().view(torch.uint8).numpy() for each in weights.values()]),
    }


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint from the folder of a fit, if there is one."""
    shutil.rmtree(folder / CHECKPOINT_FOLDER, ignore_errors=True)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a whole safetensors file or none, and return its SHA-256."""
    with atomic_file(path) as part:
        safetensors.torch.save_file(unshared(tensors), part)
        return sha256(part)


def _read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise TrainingError(f"{path}: missing; {_START_OVER}")
    found = sha256(path)
    if found != digest:
        raise TrainingError(f"{path}: the checkpoint is damaged: SHA-256 {found}, written as {digest}")
    return safetensors.torch.load_file(path)


def _digest(arrays: list[NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

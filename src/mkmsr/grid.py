"""Grids of experiments: models x data x seeds into run folders, resumed after a kill, in parallel.

A run's folder is named after everything its result depends on, so that a changed setting or other data leads to a new
folder and never to a mixture; the folder of the old run stays until somebody deletes it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mkmsr.data.dataset import PreparedDataset
from mkmsr.experiments import ExperimentConfig, run_experiment
from mkmsr.jobs import Job, JobListener, JobOutcome, Reporter, run_jobs
from mkmsr.models import ModelSizes

__all__ = ["GridRun", "depends_on_seed", "plan_grid", "run_grid", "settings_key"]


@dataclass(frozen=True)
class GridRun:
    """One experiment of a grid.

    Args:
        data: Folder of the prepared data.
        label: What the row of a table is called: the model's name, or another where a model has several settings.
        config: Model and training.
        seed: Of first weights, order and dropout.
        refit: Whether the test numbers are those of a model fitted on train and validation.
        folder: Run folder.
    """

    data: Path
    label: str
    config: ExperimentConfig
    seed: int
    refit: bool
    folder: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.data.resolve().name} {self.label} seed {self.seed}"

    def job(self, device: str = "cpu") -> Job:
        """The run as a job."""
        return Job(self.name, self.folder, _run, (self.data, self.config, self.folder, self.seed, self.refit, device))


def plan_grid(
    datasets: Sequence[Path],
    experiments: Mapping[str, ExperimentConfig],
    seeds: Sequence[int],
    folder: Path,
    *,
    refit: bool = True,
) -> list[GridRun]:
    """Every experiment on every dataset with every seed; a model without chance in it gets the first seed alone.

    Args:
        datasets: Folders of prepared data, with distinct names.
        experiments: Settings by label.
        seeds: At least one.
        folder: Runs go to `folder/<data>/<label>/seed-<seed>-<key>`.
        refit: Whether to fit again on train and validation for the test numbers.
    """
    runs = []
    for data in datasets:
        fingerprint = PreparedDataset.load(data).fingerprint
        for label, config in experiments.items():
            key = settings_key(config, refit, fingerprint)
            for seed in seeds if depends_on_seed(config) else seeds[:1]:
                place = folder / data.resolve().name / label / f"seed-{seed}-{key}"
                runs.append(GridRun(data, label, config, seed, refit, place))
    return runs


def run_grid(
    runs: Iterable[GridRun], *, workers: int = 1, device: str = "cpu", listener: JobListener | None = None
) -> tuple[JobOutcome, ...]:
    """Carry out a grid: finished runs are skipped, begun ones resumed, failing ones reported; the rest go on.

    The first seed of everything comes first, so that an interrupted grid has a whole table of one seed.

    Args:
        runs: See `plan_grid`.
        workers: Processes, of one torch thread each.
        device: Where models compute.
        listener: Told what happens.

    Returns:
        An outcome for each run, first seeds first.
    """
    ordered = sorted(runs, key=lambda run: run.seed)
    return run_jobs([run.job(device) for run in ordered], workers=workers, listener=listener)


def depends_on_seed(config: ExperimentConfig) -> bool:
    """Whether the model has weights to draw; one that only counts comes out the same with every seed."""
    return config.entry.build(config.settings(), ModelSizes(2, 1, 1, 1)).is_trainable


def settings_key(config: ExperimentConfig, *others: object) -> str:
    """Eight hexadecimal digits that change with any setting or other value."""
    text = json.dumps([config.model_dump(mode="json"), *others], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _run(
    reporter: Reporter, data: Path, config: ExperimentConfig, folder: Path, seed: int, refit: bool, device: str
) -> None:
    """One run, in a process of its own. Checkpoints, most of a folder's bytes, are of no use once it is finished."""
    dataset = PreparedDataset.load(data)
    run_experiment(
        dataset, config, folder, seed=seed, device=device, refit=refit, resume=True, report=False, listener=reporter
    )
    for checkpoint in (folder / "checkpoint", folder / "refit" / "checkpoint"):
        shutil.rmtree(checkpoint, ignore_errors=True)

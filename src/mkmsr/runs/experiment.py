"""One experiment in one folder: fit on train, choose on validation, rank the test once, keep everything.

config.toml        every setting, as `mkmsr train --config` takes it
history.jsonl      one line an epoch          checkpoint/     exact resume
refit/             the same two of the refit, if there is one
bundle/            the model                  ranks.parquet   one row a test example
examples.json      sessions for the report    report.html, figures/
metrics.json       written after all but the report: a folder that has it is a finished run
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mkmsr.bundle.alignment import carry_over
from mkmsr.bundle.model_bundle import ModelBundle, new_bundle, save_bundle
from mkmsr.config import differences, to_toml
from mkmsr.data.dataset import PreparedDataset, SplitName
from mkmsr.errors import TrainingError
from mkmsr.evaluation.document import evaluation_document, showcase
from mkmsr.evaluation.evaluator import check_examples, evaluate
from mkmsr.evaluation.metrics import list_lengths
from mkmsr.evaluation.ranks import RankTable
from mkmsr.models.base import SessionModel
from mkmsr.models.capabilities import FittedForward
from mkmsr.reports.run_folder import has_checkpoint
from mkmsr.reports.run_report import write_run_report
from mkmsr.runs.config import ExperimentConfig, new_model
from mkmsr.runtime.compute import compute_device, torch_threads
from mkmsr.runtime.environment import peak_mib
from mkmsr.runtime.events import Listener, PhaseStarted, ignore
from mkmsr.runtime.files import atomic_write, locked
from mkmsr.runtime.process_group import ALONE, Processes
from mkmsr.training.checkpoint import remove_checkpoint
from mkmsr.training.trainer import FitResult, Validate, fit, fitting_data

METRICS_FILE = "metrics.json"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """A run's folder, the contents of its `metrics.json`, and whether the folder held the finished run already."""

    folder: Path
    metrics: Mapping[str, Any]
    skipped: bool = False


def run_experiment(
    dataset: PreparedDataset,
    config: ExperimentConfig,
    folder: str | Path,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    refit: bool = False,
    resume: bool = False,
    report: bool = True,
    start_from: ModelBundle | None = None,
    chosen_epochs: int | None = None,
    listener: Listener = ignore,
    processes: Processes = ALONE,
) -> RunResult:
    """Fit a model, keep its best epoch on validation, rank the test once at the end, and write the run folder.

    With `refit`, a second model with the same seed learns from train and validation together, for as many epochs as
    validation chose, along the same schedule of the learning rate; the test numbers and the bundle are its own. Recent
    sessions are the most informative, so this is worth much, and `metrics.json` states it.

    Args:
        dataset: Prepared data.
        config: Model and training.
        folder: Run folder; files of an earlier run are replaced.
        seed: Of first weights, order and dropout.
        device: Where the model computes.
        refit: See above.
        resume: Go on from the folder's checkpoints; a finished run of the same experiment is returned as it is.
        report: Whether to draw `report.html` and `figures/`, which takes some seconds.
        start_from: An older model of the same kind to go on from: rows of known ids start from its weights, and its
            retired items stay retired.
        chosen_epochs: Epochs that validation chose already, with another seed; then the fit that would choose them is
            left out, and `metrics.json` has no validation.
        listener: Told `PhaseStarted`, and what `fit` and `evaluate` tell.
        processes: Who trains and ranks together. All of them call this with the same arguments; the first alone reads
            and writes the folder and should have the listener.

    Raises:
        TrainingError: Training cannot go on, or the folder holds another experiment that cannot be resumed as this one.
        ConfigError: The selection metric does not exist, or another process writes to the folder.
        EvaluationError: Validation or test has no examples.
    """
    list_lengths(config.training.select)
    for split in ("validation", "test"):
        check_examples(dataset.evaluation_split(split))  # Before the fit, and before an older run is removed.
    folder, device = Path(folder), compute_device(device)
    run = _Experiment(
        dataset, config, folder, seed, device, refit, resume, start_from, chosen_epochs, listener, processes
    )
    with locked(run.folder if processes.is_first else None):
        if processes.from_first(resume and (run.folder / METRICS_FILE).is_file()):
            metrics = run.finished_before() if processes.is_first else {}
            result = RunResult(run.folder, processes.from_first(metrics), skipped=True)
        else:
            result = RunResult(run.folder, run.carry_out())
        if report and processes.is_first and not (result.skipped and (run.folder / "report.html").is_file()):
            write_run_report(run.folder)
    return result


def validator(dataset: PreparedDataset, select: str, processes: Processes = ALONE) -> Validate:
    """Return what `fit` asks after each epoch: a model's metrics on validation, the selection metric among them."""
    split, ks = dataset.evaluation_split("validation"), list_lengths(select)
    return lambda model: evaluate(model, split, threads=0, processes=processes).metrics(ks)


def fit_new_model(
    dataset: PreparedDataset,
    config: ExperimentConfig,
    *,
    seed: int,
    refit: bool = False,
    stop_after: int | None = None,
    calibrated: SessionModel | None = None,
    start_from: ModelBundle | None = None,
    validate: Validate | None = None,
    processes: Processes = ALONE,
    **options: Any,
) -> tuple[SessionModel, FitResult]:
    """Return a new model fitted on train, or with `refit` on train and validation, and what the fit came to.

    Validation chooses the epoch, unless `stop_after` names it, and calibrates a model that is `FittedForward`, unless
    `calibrated` is one that it has calibrated before. `validate` is asked in place of `validator`. The other options,
    and the errors, are those of `run_experiment` and `fit`.
    """
    model = new_model(dataset, config, seed)
    if stop_after is None:
        validate = validate or validator(dataset, config.training.select, processes)
    if start_from is not None:
        _logger.info("%s", carry_over(model, config.settings(), dataset, start_from))
    result = fit(
        model,
        fitting_data(dataset, refit=refit),
        config.training,
        validate=validate,
        seed=seed,
        stop_after=stop_after,
        depends_on={"model_settings": config.model, "dataset": dataset.fingerprint},
        processes=processes,
        **options,
    )
    if isinstance(model, FittedForward):
        if calibrated is not None:
            model.calibrate_like(calibrated)
        elif not refit:
            model.calibrate(dataset.evaluation_split("validation").examples)
    return model, result


@dataclass(frozen=True)
class _Experiment:
    """One experiment: its arguments, and what is done with them, in the order in which it happens."""

    dataset: PreparedDataset
    config: ExperimentConfig
    folder: Path
    seed: int
    device: torch.device
    refit: bool
    resume: bool
    start_from: ModelBundle | None
    chosen_epochs: int | None
    listener: Listener
    processes: Processes

    def depends_on(self) -> dict[str, Any]:
        """Return what the run depends on, as JSON values."""
        found: dict[str, Any] = {
            "model": self.config.name,
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "refit": self.refit,
            "data_fingerprint": self.dataset.fingerprint,
        }
        if self.start_from is not None:
            origin = self.start_from.metadata
            found["continued_from"] = {**origin["data"], "bundle": origin["sha256"]}
        if self.chosen_epochs is not None:
            found["chosen_epochs"] = self.chosen_epochs
        return found

    def carry_out(self) -> dict[str, Any]:
        """Train, rank, and write everything but the report; what `metrics.json` then holds."""
        if self.processes.is_first:
            self._prepare_folder()
        began, busy = time.perf_counter(), time.process_time()
        with torch_threads(self.config.training.threads):
            metrics = {
                **self.depends_on(),
                "data": self.dataset.name,
                "fitted_on": "train and validation" if self.refit else "train",
                "device": str(self.device),
                "threads": torch.get_num_threads(),
                "processes": self.processes.size,
                **self._train_and_rank(),
                "seconds": time.perf_counter() - began,
                "processor_seconds": time.process_time() - busy,
                "peak_mib": peak_mib(),
            }
        if self.processes.is_first:
            atomic_write(self.folder / METRICS_FILE, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
        return metrics

    def _prepare_folder(self) -> None:
        """Remove what an earlier run left, unless this one goes on with it, and write the settings."""
        if not self.resume:
            for name in (METRICS_FILE, "history.jsonl", "ranks.parquet", "examples.json", "report.html"):
                (self.folder / name).unlink(missing_ok=True)
            for place in (self.folder / "refit", self.folder / "figures"):
                shutil.rmtree(place, ignore_errors=True)
            remove_checkpoint(self.folder)  # The old bundle stays usable until the new one is ready.
        if not (self.resume and has_checkpoint(self.folder)):  # One of another run is an error further on.
            name = json.dumps(self.dataset.name, ensure_ascii=False)
            header = (
                f"# seed {self.seed}{', refit on train and validation' if self.refit else ''}\n"
                f"# data {name}, fingerprint {self.dataset.fingerprint}\n"
            )
            atomic_write(self.folder / "config.toml", header + to_toml(self.config))

    def _train_and_rank(self) -> dict[str, Any]:
        """Fit, rank, and write ranks, examples and the bundle; the part of `metrics.json` that is a result."""
        epochs, result, model = self.chosen_epochs, {}, None
        if epochs is None or issubclass(self.config.entry.model, FittedForward):
            self.listener(PhaseStarted("fit"))
            model, fitted = self._fit(self.folder, stop_after=epochs)
            self.listener(PhaseStarted("validation"))
            _, validation = self._rank(model, "validation")
            if isinstance(model, FittedForward):
                validation["note"] = "a little too good: some weights were fitted to these sessions"
            epochs = fitted.best_epoch
            result = {"epochs_run": fitted.epochs_run, "validation": validation}
        if self.refit or model is None:
            self.listener(PhaseStarted("refit" if self.refit else "fit"))
            folder = self.folder / "refit" if self.refit else self.folder
            model, _ = self._fit(folder, refit=self.refit, stop_after=epochs, calibrated=model)
        self.listener(PhaseStarted("test"))
        ranks, test = self._rank(model, "test")
        if self.processes.is_first:
            self._keep(model.to("cpu"), ranks, {"validation": result.get("validation", {}), "test": test})
        return {"best_epoch": epochs, **result, "test": test}

    def _fit(self, folder: Path, **how: Any) -> tuple[SessionModel, FitResult]:
        if self.processes.is_first:
            folder.mkdir(parents=True, exist_ok=True)
        return fit_new_model(
            self.dataset,
            self.config,
            seed=self.seed,
            device=self.device,
            folder=folder,
            resume=self.resume,
            start_from=self.start_from,
            listener=self.listener,
            processes=self.processes,
            **how,
        )

    def _rank(self, model: SessionModel, split: SplitName) -> tuple[RankTable, dict[str, Any]]:
        began = time.perf_counter()
        table = evaluate(
            model,
            self.dataset.evaluation_split(split),
            threads=self.config.training.threads,
            listener=self.listener,
            processes=self.processes,
        )
        seconds = time.perf_counter() - began
        return table, evaluation_document(self.config.name, split, table, len(self.dataset.items), seconds=seconds)

    def _keep(self, model: SessionModel, ranks: RankTable, metrics: Mapping[str, Any]) -> None:
        split = self.dataset.evaluation_split("test")
        examples = showcase(model, self.dataset, split, ranks)
        ranks.save(self.folder / "ranks.parquet")
        atomic_write(self.folder / "examples.json", json.dumps(examples, indent=1, ensure_ascii=False) + "\n")
        save_bundle(
            self.folder / "bundle",
            new_bundle(
                model,
                name=self.config.name,
                config=self.config.settings(),
                dataset=self.dataset,
                metrics=metrics,
                refit=self.refit,
                retired=() if self.start_from is None else self.start_from.retired,
            ),
        )

    def finished_before(self) -> Mapping[str, Any]:
        """Return the metrics of the finished run that the folder holds."""
        wanted = self.depends_on()
        path = self.folder / METRICS_FILE
        seldom = ("continued_from", "chosen_epochs")
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
            found = {key: metrics[key] for key in (*wanted, *seldom) if key in metrics or key not in seldom}
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path}: not the metrics of a run ({error!r}); start over without resume") from None
        # How often a run saves itself changes nothing of what comes out.
        harmless = "config.training.checkpoint_seconds"
        other = [each for each in differences(found, wanted) if not each.startswith(harmless)]
        if other:
            advice = "Choose another folder, or start over without resume"
            raise TrainingError(f"{path}: this folder holds another finished run: {'; '.join(other[:5])}. {advice}")
        _logger.info("%s holds the finished run", self.folder)
        return dict(metrics)

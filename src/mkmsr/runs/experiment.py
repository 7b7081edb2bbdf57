"""One experiment in one folder: fit on train, choose on validation, rank the test once, keep everything.

config.toml        every setting, as `mkmsr train --config` takes it
history.jsonl      one line an epoch          checkpoint/     exact resume
refit/             the same two of the refit, if there is one
network-2/, ...    the same two of the further networks of an ensemble, here and in refit/
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import model_validator

from mkmsr.bundle.continuation import carry_over
from mkmsr.bundle.model_bundle import ModelBundle, new_bundle, save_bundle
from mkmsr.config import StrictModel, differences, laid_over, nested, to_toml
from mkmsr.data.dataset import PreparedDataset, SplitName
from mkmsr.errors import ConfigError, TrainingError
from mkmsr.evaluation.document import evaluation_document
from mkmsr.evaluation.evaluator import check_examples, evaluate
from mkmsr.evaluation.metrics import list_lengths
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.showcase import showcase
from mkmsr.models.base import ModelSizes, SessionModel
from mkmsr.models.entry import ModelEntry
from mkmsr.models.registry import model_entry
from mkmsr.reports.run_folder import has_checkpoint
from mkmsr.reports.run_report import write_run_report
from mkmsr.runtime.environment import peak_mib
from mkmsr.runtime.events import Listener, PhaseStarted, ignore
from mkmsr.runtime.files import atomic_write, locked
from mkmsr.runtime.process_group import ALONE, Processes
from mkmsr.runtime.threads import torch_threads
from mkmsr.training import FitResult, TrainingConfig, fitting_data
from mkmsr.training.checkpoint import remove_checkpoint
from mkmsr.training.parts import fit_folders, fit_parts
from mkmsr.training.trainer import Validate

__all__ = [
    "METRICS_FILE",
    "ExperimentConfig",
    "RunResult",
    "new_model",
    "run_experiment",
    "validator",
]

METRICS_FILE = "metrics.json"

_logger = logging.getLogger(__name__)


class ExperimentConfig(StrictModel):
    """Everything that one run is set by, apart from data, seed and device."""

    model: dict[str, Any]
    """The model's registered `name` and its own settings; those left out are filled in."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained. What is left out starts from the model's own recommendation, then from the defaults."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("model"), Mapping):
            return values
        settings = dict(values["model"])
        if "name" not in settings:
            raise ConfigError("a run needs a model; give its name, for example name = 'mkm-sr'", key="model.name")
        name = str(settings.pop("name"))
        entry = model_entry(name)
        training = values.get("training", {})
        if isinstance(training, TrainingConfig):
            training = training.model_dump(exclude_unset=True)
        if isinstance(training, Mapping):
            training = laid_over(nested(dict(entry.training)), training)
        return {
            **values,
            "model": {"name": name, **entry.configure(settings).model_dump(mode="json")},
            "training": training,
        }

    @property
    def name(self) -> str:
        """The model's registered name."""
        return str(self.model["name"])

    @property
    def entry(self) -> ModelEntry:
        """The registered model."""
        return model_entry(self.name)

    def settings(self) -> StrictModel:
        """The model's own settings."""
        return self.entry.configure({key: value for key, value in self.model.items() if key != "name"})


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Args:
        folder: The run folder.
        metrics: Contents of `metrics.json`.
        skipped: Whether the folder held the finished run already.
    """

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
    validation chose, along the same schedule of the learning rate; the test numbers and the bundle are its own. The
    newest sessions say most about the next ones, so this is worth much, and `metrics.json` states it.

    Args:
        dataset: Prepared data.
        config: Model and training.
        folder: Run folder; files of an earlier run are replaced.
        seed: Of first weights, order and dropout.
        device: Where the model computes.
        refit: Whether to fit again on train and validation.
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
    folder = Path(folder)
    place = _device(device)
    list_lengths(config.training.select)
    for split in ("validation", "test"):
        check_examples(dataset.evaluation_split(split))  # Before the fit, and before an older run is removed.
    identity: dict[str, Any] = {
        "model": config.name,
        "config": config.model_dump(mode="json"),
        "seed": seed,
        "refit": refit,
        "data_fingerprint": dataset.fingerprint,
    }
    if start_from is not None:
        identity["continued_from"] = {**start_from.metadata["data"], "bundle": start_from.metadata["sha256"]}
    if chosen_epochs is not None:
        identity["chosen_epochs"] = chosen_epochs
    with locked(folder if processes.is_first else None):
        if processes.first_decides(resume and (folder / METRICS_FILE).is_file()):
            found = _finished(folder, identity, report=report) if processes.is_first else RunResult(folder, {}, True)
            return replace(found, metrics=processes.of_first(found.metrics))
        if processes.is_first:
            if not resume:
                _clear(folder)
            if not (resume and has_checkpoint(folder)):  # One of another run is an error further on.
                atomic_write(folder / "config.toml", _header(identity, dataset.name) + to_toml(config))
        began, busy = time.perf_counter(), time.process_time()
        run = _Experiment(dataset, config, folder, seed, place, resume, start_from, chosen_epochs, listener, processes)
        with torch_threads(config.training.threads):
            metrics = {
                **identity,
                "data": dataset.name,
                "fitted_on": "train and validation" if refit else "train",
                "device": str(place),
                "threads": torch.get_num_threads(),
                "processes": processes.size,
                **run.carry_out(refit=refit),
                "seconds": time.perf_counter() - began,
                "processor_seconds": time.process_time() - busy,
                "peak_mib": peak_mib(),
            }
        if processes.is_first:
            atomic_write(folder / METRICS_FILE, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
            if report:
                write_run_report(folder)
        return RunResult(folder, metrics)


def new_model(dataset: PreparedDataset, config: ExperimentConfig, seed: int) -> SessionModel:
    """The configured model with first weights, drawn by the seed alone; the caller's random state is left as it is."""
    knowledge = dataset.knowledge
    sizes = ModelSizes(
        num_items=len(dataset.items),
        num_operations=len(dataset.operations),
        num_attributes=len(knowledge.attributes),
        num_relations=len(knowledge.relations),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.entry.build(config.settings(), sizes)


def validator(dataset: PreparedDataset, select: str, processes: Processes = ALONE) -> Validate:
    """What `fit` asks after each epoch: a model's metrics on the validation split, the selection metric among them.

    Raises:
        ConfigError: There is no such metric.
    """
    split, ks = dataset.evaluation_split("validation"), list_lengths(select)
    return lambda model: evaluate(model, split, threads=0, processes=processes).metrics(ks)


@dataclass(frozen=True)
class _Experiment:
    """One experiment: its arguments, and what is done with them."""

    dataset: PreparedDataset
    config: ExperimentConfig
    folder: Path
    seed: int
    device: torch.device
    resume: bool
    start_from: ModelBundle | None
    chosen_epochs: int | None
    listener: Listener
    processes: Processes

    def carry_out(self, *, refit: bool) -> dict[str, Any]:
        """Fit, rank, and write the bundle; the part of `metrics.json` that is a result."""
        epochs, result, model = self.chosen_epochs, {}, None
        if epochs is None:
            self.listener(PhaseStarted("fit"))
            model, fitted = self._fit(self.folder)
            self.listener(PhaseStarted("validation"))
            _, validation = self._rank(model, "validation")
            epochs = fitted.best_epoch
            result = {"epochs_run": fitted.epochs_run, "validation": validation}
        if refit or model is None:
            self.listener(PhaseStarted("refit" if refit else "fit"))
            model, _ = self._fit(self.folder / "refit" if refit else self.folder, refit=refit, stop_after=epochs)
        self.listener(PhaseStarted("test"))
        ranks, test = self._rank(model, "test")
        if self.processes.is_first:
            self._keep(model.to("cpu"), ranks, {"validation": result.get("validation", {}), "test": test}, refit=refit)
        return {"best_epoch": epochs, **result, "test": test}

    def _keep(self, model: SessionModel, ranks: RankTable, metrics: Mapping[str, Any], *, refit: bool) -> None:
        """Write ranks, examples and the bundle."""
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
                refit=refit,
                retired=() if self.start_from is None else self.start_from.retired,
            ),
        )

    def _fit(
        self, folder: Path, *, refit: bool = False, stop_after: int | None = None
    ) -> tuple[SessionModel, FitResult]:
        """A new model fitted on train, or on train + validation; without a last epoch, validation chooses."""
        training = fitting_data(self.dataset, refit=refit)
        if self.processes.is_first:
            folder.mkdir(parents=True, exist_ok=True)
        model = new_model(self.dataset, self.config, self.seed)
        if self.start_from is not None:
            _logger.info("%s", carry_over(model, self.config.settings(), self.dataset, self.start_from))
        result = fit_parts(
            model,
            training,
            self.config.training,
            validate=None
            if stop_after is not None
            else validator(self.dataset, self.config.training.select, self.processes),
            seed=self.seed,
            device=self.device,
            folder=folder,
            resume=self.resume,
            listener=self.listener,
            stop_after=stop_after,
            identity={"model_settings": self.config.model, "dataset": self.dataset.fingerprint},
            processes=self.processes,
        )
        return model, result

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


def _device(device: torch.device | str) -> torch.device:
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"no device {device!r}; for example cpu, cuda, cuda:1", key="device") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is at hand, or PyTorch was installed without CUDA; use cpu", key="device")
    return place


def _header(identity: Mapping[str, Any], data: str) -> str:
    """The comment that `config.toml` begins with: what the run depends on besides settings."""
    refit = ", refit on train and validation" if identity["refit"] else ""
    name = json.dumps(data, ensure_ascii=False)
    return f"# seed {identity['seed']}{refit}\n# data {name}, fingerprint {identity['data_fingerprint']}\n"


def _finished(folder: Path, identity: Mapping[str, Any], *, report: bool) -> RunResult:
    """The finished run of a folder; its report is drawn if that is wanted and was not done.

    Raises:
        TrainingError: It is another experiment.
    """
    path = folder / METRICS_FILE
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        seldom = ("continued_from", "chosen_epochs")
        found = {key: metrics[key] for key in (*identity, *seldom) if key in metrics or key not in seldom}
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: not the metrics of a run ({error!r}); start over without resume") from None
    # How often a run saves itself changes nothing of what comes out.
    other = [each for each in differences(found, identity) if not each.startswith("config.training.checkpoint_seconds")]
    if other:
        raise TrainingError(
            f"{path}: this folder holds another finished run: {'; '.join(other[:5])}. Choose another folder, or start "
            "over without resume"
        )
    if report and not (folder / "report.html").is_file():
        write_run_report(folder)
    _logger.info("%s holds the finished run", folder)
    return RunResult(folder, metrics, skipped=True)


def _clear(folder: Path) -> None:
    """Remove what an earlier run left and could be taken for this one's; its bundle stays until there is a new one."""
    for name in (METRICS_FILE, "history.jsonl", "ranks.parquet", "examples.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    for place in (*fit_folders(folder)[1:], folder / "figures"):
        shutil.rmtree(place, ignore_errors=True)
    remove_checkpoint(folder)

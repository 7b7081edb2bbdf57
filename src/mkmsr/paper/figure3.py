"""Figure 3: learning curves of the three training strategies, on validation and on test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import TrainingError
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.ranks import RankTable
from mkmsr.models.base import SessionModel
from mkmsr.paper.settings import Reproduction, check_distinct, data_title, experiment_settings
from mkmsr.paper.strategy_curves import STRATEGIES, TEST_PREFIX, StrategyRuns, figure_3
from mkmsr.runs.experiment import ExperimentConfig, new_model, validator
from mkmsr.runs.grid import settings_key
from mkmsr.runs.jobs import Job, run_jobs
from mkmsr.runtime.events import Listener, PhaseStarted, ignore
from mkmsr.runtime.files import atomic_write
from mkmsr.training import fit, fitting_data, read_history
from mkmsr.training.checkpoint import remove_checkpoint

__all__ = ["reproduce_figure_3"]

MODEL = "mkm-sr"


def reproduce_figure_3(
    datasets: Sequence[Path],
    out: Path,
    *,
    command: str,
    seeds: int = 3,
    settings: Path | None = None,
    epochs: int | None = None,
    workers: int = 2,
    device: str = "cpu",
    listener: Listener = ignore,
) -> Reproduction:
    """Train MKM-SR by each strategy as far as that is not done yet, and draw.

    Args:
        datasets: Folders of prepared data, with distinct names.
        out: Runs go to `out/runs`.
        command: What writes the figure, to be stated in it.
        seeds: How many seeds, from 0.
        settings: Folder of settings files, see `experiment_settings`; the strategy alone differs from them.
        epochs: Epochs over sessions of each run, instead of those of the settings.
        workers: Runs beside each other, in processes of one thread each.
        device: Where models compute.
        listener: Told about runs, see `run_jobs`.

    Raises:
        ConfigError: A setting or a name is wrong.
        TrainingError: A run failed, so that a strategy lacks a seed.
    """
    check_distinct(datasets)
    jobs: dict[Path, dict[str, list[Job]]] = {}
    for data in datasets:
        fingerprint = PreparedDataset.load(data).fingerprint
        jobs[data] = {}
        for strategy in STRATEGIES:
            config = _config(data, strategy, settings, epochs)
            key = settings_key(config, fingerprint)
            folder = out / "runs" / data.resolve().name / strategy
            jobs[data][strategy] = [
                _job(data, strategy, config, folder / f"seed-{seed}-{key}", seed, device) for seed in range(seeds)
            ]
    ordered = [job for seed in range(seeds) for each in jobs.values() for runs in each.values() for job in [runs[seed]]]
    outcomes = run_jobs(ordered, workers=workers, listener=listener)
    failures = tuple(outcome for outcome in outcomes if outcome.status == "failed")
    if failures:
        raise TrainingError(f"{failures[0].job.name}: {failures[0].reason}")
    runs = {
        data_title(data, PreparedDataset.load(data)): [_read(strategy, each) for strategy, each in found.items()]
        for data, found in jobs.items()
    }
    return Reproduction(figure_3(runs, command=command), _document(runs))


def _config(data: Path, strategy: str, settings: Path | None, epochs: int | None) -> ExperimentConfig:
    """The model's settings with another strategy, and without an early end: all curves are equally long."""
    config = experiment_settings(data, MODEL, settings, {"epochs": epochs} if epochs is not None else {})
    training = {"strategy": strategy, "patience": config.training.epochs, "epochs": config.training.epochs}
    return experiment_settings(data, MODEL, settings, training)


def _job(data: Path, strategy: str, config: ExperimentConfig, folder: Path, seed: int, device: str) -> Job:
    name = f"{data.resolve().name} {STRATEGIES[strategy]} seed {seed}"
    return Job(name, folder, _learn, (data, config, folder, seed, device))


def _learn(listener: Listener, data: Path, config: ExperimentConfig, folder: Path, seed: int, device: str) -> None:
    """One run, in a process of its own. Each epoch's model ranks the test too, for the drawing alone."""
    dataset = PreparedDataset.load(data)
    training = fitting_data(dataset)
    validation, test = validator(dataset, config.training.select), dataset.evaluation_split("test")

    def watch(model: SessionModel) -> dict[str, float]:
        drawn = evaluate(model, test).metrics()
        return {**validation(model), **{f"{TEST_PREFIX}{name}": value for name, value in drawn.items()}}

    assert not config.training.select.startswith(TEST_PREFIX)
    folder.mkdir(parents=True, exist_ok=True)
    model = new_model(dataset, config, seed)
    listener(PhaseStarted("fit"))
    result = fit(
        model,
        training,
        config.training,
        validate=watch,
        seed=seed,
        device=device,
        folder=folder,
        resume=True,
        listener=listener,
        identity={"model_settings": config.model, "dataset": dataset.fingerprint},
    )
    evaluate(model, test).save(folder / "ranks.parquet")
    document = {"config": config.model_dump(mode="json"), "seed": seed, "best_epoch": result.best_epoch}
    atomic_write(folder / "metrics.json", json.dumps(document, indent=2) + "\n")
    remove_checkpoint(folder)


def _read(strategy: str, jobs: Sequence[Job]) -> StrategyRuns:
    documents = [json.loads((job.folder / "metrics.json").read_text(encoding="utf-8")) for job in jobs]
    return StrategyRuns(
        strategy,
        tuple(read_history(job.folder / "history.jsonl") for job in jobs),
        tuple(int(document["best_epoch"]) for document in documents),
        tuple(RankTable.load(job.folder / "ranks.parquet") for job in jobs),
    )


def _document(data: Mapping[str, Sequence[StrategyRuns]]) -> dict[str, Any]:
    """The curves as plain data: data, strategy, metric, one list a seed."""
    document: dict[str, Any] = {}
    for title, runs in data.items():
        document[title] = {
            each.strategy: {
                "best_epochs": list(each.best_epochs),
                **{
                    name: each.curves(name)
                    for metric in ("hit@20", "mrr@20")
                    for name in (metric, f"{TEST_PREFIX}{metric}")
                },
            }
            for each in runs
        }
    return document

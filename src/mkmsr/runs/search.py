"""Hyper-parameter search for one model on one dataset: fitted on train, judged on validation; the test is never read.

study.sqlite3   every trial, see `mkmsr.runs.study`; a killed search goes on from it
trials.csv      the same as a table, best first
chosen.toml     the best trial's settings, for `mkmsr train --config`
logs/           what each trial's process said
"""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from mkmsr.config import dotted, laid_over, nested, to_toml, validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError
from mkmsr.models.entry import Choice, Range, SearchSpace, Value
from mkmsr.models.registry import model_entry
from mkmsr.runs.config import ExperimentConfig, new_model
from mkmsr.runs.experiment import validator
from mkmsr.runs.study import Proposal, Study, TrialRecord
from mkmsr.runtime import events
from mkmsr.runtime.events import EpochRecord, Event, Listener, ignore
from mkmsr.runtime.files import atomic_write, locked
from mkmsr.runtime.workers import Line, Task, TaskEvent, run_tasks
from mkmsr.training.trainer import FitResult, fit, fitting_data

CHOSEN_FILE = "chosen.toml"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuneResult:
    """All trials of a search by number, the best complete one, and its settings, as written to `path`."""

    trials: tuple[TrialRecord, ...]
    best: TrialRecord
    config: ExperimentConfig
    path: Path


def tune(
    data: Path,
    base: Mapping[str, Any],
    folder: Path,
    *,
    trials: int = 30,
    seed: int = 0,
    windows: int = 1,
    first: Mapping[str, Any] | None = None,
    workers: int = 1,
    device: str = "cpu",
    listener: Listener = ignore,
) -> TuneResult:
    """Search a model's space until there are `trials` trials; those of an earlier call with the same arguments count.

    With one worker a search is a function of its arguments, killed in between or not. With more, the order in which
    trials end has a say.

    `base` are settings as in a settings file: what they set is not searched, and they name the model. `first` are those
    of the first trial in place of the defaults, so that a search never ends below a plan that is known. More `windows`
    judge a trial by their mean: validation, and spans of equal size before it, each ranked by a model of what preceded
    it; such a choice holds for the next span too.

    Raises:
        ConfigError: Optuna is missing, a setting is wrong, the folder holds another search, or every trial failed.
    """
    whole = laid_over(first or {}, base)
    start = validate(ExperimentConfig, whole)
    space = search_space(start, base)
    defaults = dotted(start.model_dump(mode="json"))
    with locked(folder):
        study = Study(
            folder,
            space,
            defaults={key: defaults[key] for key in space},
            depends_on={
                "base": start.model_dump(mode="json"),
                "space": {key: repr(each) for key, each in space.items()},
                "seed": seed,
                "data": PreparedDataset.load(data).fingerprint,
                **({"windows": windows} if windows > 1 else {}),
            },
            seed=seed,
            warmup=max(2, start.training.epochs // 3),
            parallel=workers > 1,
        )
        trials = trials if space else 1
        listener(events.JobsPlanned("trials", trials, min(study.counted(), trials), workers))
        _Search(study, data, whole, folder, seed, device, windows, listener).carry_out(trials, workers)
        best = study.best()
        if best is None:
            reason = next((each.reason for each in study.records() if each.reason), "all were stopped early")
            raise ConfigError(f"no trial was completed: {reason}", path=folder)
        on = f"{data.resolve().name}, seed {seed}" + (f", mean over {windows} spans" if windows > 1 else "")
        return _write_result(folder, study.records(), best, whole, space, on)


def search_space(start: ExperimentConfig, base: Mapping[str, Any]) -> SearchSpace:
    """Return what is searched: the model's space without what is set, and with the defaults among the values."""
    entry = model_entry(start.name)
    fixed = {*dotted(base), *(f"model.{key}" for key in entry.preset)}
    defaults = dotted(start.model_dump(mode="json"))
    space: dict[str, Choice | Range] = {}
    for key, each in entry.space.items():
        if key in fixed:
            continue
        default = defaults[key]
        if isinstance(each, Choice):
            space[key] = each if default in each.values else Choice((*each.values, default))
        else:
            space[key] = Range(min(each.low, default), max(each.high, default))
    return space


@dataclass(frozen=True)
class _Search:
    """A study and what its trials need."""

    study: Study
    data: Path
    base: Mapping[str, Any]
    folder: Path
    seed: int
    device: str
    windows: int
    listener: Listener

    def carry_out(self, trials: int, workers: int) -> None:
        """Run trials in processes until there are enough."""
        running: dict[str, tuple[Proposal, float]] = {}

        def tasks() -> Iterator[Task]:
            while self.study.counted() < trials:
                proposal = self.study.propose()
                name = f"trial-{proposal.number:03d}"
                self.listener(events.JobStarted(name))
                running[name] = proposal, time.monotonic()
                config = validate(ExperimentConfig, laid_over(self.base, nested(proposal.settings)))
                log = self.folder / "logs" / f"{name}.log"
                yield Task(name, _try, (self.data, config, self.seed, self.device, self.windows), log)

        for event in run_tasks(tasks(), workers=workers):
            self._hear(event, *running[event.task.name])

    def _hear(self, event: TaskEvent, proposal: Proposal, began: float) -> None:
        if event.kind == "sent":
            self.listener(events.JobProgress(event.task.name, event.content))
        elif event.kind == "asked":
            epoch, value = event.content
            event.answer(proposal.is_hopeless(epoch, value))
        elif event.kind in ("done", "failed"):
            found = event.content if event.kind == "done" else {"state": "failed", "reason": event.content}
            record = TrialRecord(number=proposal.number, settings=proposal.settings, **found)
            self.study.finish(proposal, record)
            best, seconds = self.study.best(), time.monotonic() - began
            said = f"best {100 * (best.value or 0):.2f} %" if best else ""
            self.listener(events.JobEnded(event.task.name, seconds, record.reason, _result(record), said))


class _StoppedEarly(Exception):
    """The search has seen enough of this trial."""


class _Judge:
    """Tells the search each epoch's value, and stops the trial if it says so."""

    def __init__(self, line: Line, select: str):
        self.line, self.select = line, select
        self.values: dict[int, float] = {}
        self.seconds = 0.0

    def __call__(self, event: Event) -> None:
        self.line.send(event)
        if not isinstance(event, EpochRecord):
            return
        self.seconds += event.seconds
        if event.phase != "sessions":
            return
        value = self.values[event.epoch] = event.validation[self.select]
        _logger.info("epoch %d: %s, %.1f s", event.epoch, event, event.seconds)
        if self.line.ask((event.epoch, value)):
            raise _StoppedEarly


def _try(line: Line, data: Path, config: ExperimentConfig, seed: int, device: str, windows: int) -> dict[str, Any]:
    """One trial, in a process of its own: fitted on train, judged on validation, and again on the spans before it.

    The newest span alone decides about early stops and the number of epochs.
    """
    dataset = PreparedDataset.load(data)
    select = config.training.select
    judge = _Judge(line, select)
    try:
        result = _fit(dataset, config, seed, device, judge)
    except _StoppedEarly:
        best = max(judge.values, key=lambda epoch: judge.values[epoch])
        found = {"state": "pruned", "value": judge.values[best], "best_epoch": best}
        return {**found, "epochs": max(judge.values), "seconds": judge.seconds}
    earlier = [_fit(dataset.earlier(each), config, seed, device, ignore) for each in range(1, windows)]
    seconds = sum(record.seconds for each in earlier for record in each.history)
    return {
        "state": "complete",
        "value": mean(each.best_metrics[select] for each in (result, *earlier)),
        "best_epoch": result.best_epoch,
        "epochs": result.epochs_run,
        "seconds": judge.seconds + seconds,
    }


def _fit(dataset: PreparedDataset, config: ExperimentConfig, seed: int, device: str, listener: Listener) -> FitResult:
    training = fitting_data(dataset)
    validation = validator(dataset, config.training.select)
    model = new_model(dataset, config, seed)
    return fit(model, training, config.training, validate=validation, seed=seed, device=device, listener=listener)


def _write_result(
    folder: Path,
    records: Sequence[TrialRecord],
    best: TrialRecord,
    base: Mapping[str, Any],
    space: SearchSpace,
    on: str,
) -> TuneResult:
    chosen = laid_over(base, nested(best.settings))
    config = validate(ExperimentConfig, chosen)
    # The schedule of the learning rate depends on it, so that it is stated even where it is the default.
    chosen = laid_over(chosen, {"training": {"epochs": config.training.epochs}})
    header = (
        f"# Chosen on validation: {config.training.select} = {best.value:.4f}, the best of {len(records)} trials\n"
        f"# ({on}; epoch {best.best_epoch}). Written by `mkmsr tune`.\n"
    )
    path = folder / CHOSEN_FILE
    atomic_write(path, header + to_toml(chosen))
    atomic_write(folder / "trials.csv", _trials_csv(records, space))
    return TuneResult(tuple(records), best, config, path)


def _result(record: TrialRecord) -> str:
    """A trial that did not fail, for people: "12.34 %, pruned after 4 epochs: dropout 0.1, batch_size 64"."""
    if record.value is None:
        return ""
    pruned = ", pruned" if record.state == "pruned" else ""
    epochs = f" after {record.epochs} epoch{'s' * (record.epochs != 1)}" if record.epochs else ""
    tried = ", ".join(f"{key.rpartition('.')[2]} {shown(value)}" for key, value in record.settings.items())
    return f"{100 * record.value:.2f} %{pruned}{epochs}: {tried}"


def shown(value: Value) -> str:
    """Return a setting as tables and messages write it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _trials_csv(records: Sequence[TrialRecord], space: SearchSpace) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["trial", "state", "value", "best_epoch", "epochs", "seconds", *space, "reason"])
    for each in sorted(records, key=lambda record: -(record.value or 0.0)):
        value = "" if each.value is None else f"{each.value:.6f}"
        head = [each.number, each.state, value, each.best_epoch, each.epochs, f"{each.seconds:.1f}"]
        writer.writerow([*head, *(each.settings[key] for key in space), each.reason])
    return buffer.getvalue()

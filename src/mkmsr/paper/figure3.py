"""Figure 3: learning curves of the three training strategies, and what the paper concludes from them, tested.

Curves of the test split are drawn and labelled as such; epochs are chosen on validation alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, TypeAlias

from mkmsr.data.dataset import PreparedDataset
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import PairedDifference, corrected_by_holm, pooled, pooled_difference
from mkmsr.models.base import SessionModel
from mkmsr.paper.runs import Reproduction, RunOptions, check_distinct, data_title, finish_jobs
from mkmsr.paper.systems import METRICS, verdict
from mkmsr.reports.figures import INKS, canvas, finish_curves, panel_title, render
from mkmsr.reports.tables import TextTable, difference_text, metric_title, p_value_text, percent
from mkmsr.reports.write_up import Drawing, Section, WriteUp, draw_if_possible, file_name
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.experiment import fit_new_model, validator
from mkmsr.runs.grid import Job, settings_key
from mkmsr.runtime.events import EpochRecord, Listener, PhaseStarted
from mkmsr.runtime.files import atomic_write
from mkmsr.training.checkpoint import read_history, remove_checkpoint

MODEL = "mkm-sr"

STRATEGIES: Mapping[str, str] = {"alternating": "alternating", "joint": "joint", "pretrain": "pre-training"}
"""The strategies by the name that settings use, and what the figure calls them."""

TEST_PREFIX = "test "
"""What the test split's metrics are called in a history, beside validation's."""

_INKS = {"alternating": ("accent", "-"), "joint": ("warm", "--"), "pretrain": ("muted", "-.")}

_CLAIMS = (
    ("alternating", "pretrain", "alternating training overtakes pre-training"),
    ("joint", "pretrain", "joint training overtakes pre-training"),
    ("alternating", "joint", "alternating training is better than joint training"),
)
"""First strategy, second strategy, and what the paper says of them."""

_Tests: TypeAlias = Mapping[tuple[str, str], Mapping[str, PairedDifference]]
"""First strategy against second on the test split at the chosen epochs, by metric."""


def reproduce_figure_3(datasets: Sequence[Path], out: Path, options: RunOptions) -> Reproduction:
    """Train MKM-SR by each strategy as far as that is not done yet, and draw.

    Runs go to `out/runs`. The strategy alone differs from the options' settings, and `epochs` is exact. A run that
    fails raises TrainingError, a wrong setting ConfigError.
    """
    check_distinct(datasets)
    jobs = {data: _jobs(data, out / "runs", options) for data in datasets}
    ordered = [runs[seed] for seed in range(options.seeds) for each in jobs.values() for runs in each.values()]
    finish_jobs(ordered, options)
    found = {
        data_title(data, PreparedDataset.load(data)): [_read(strategy, each) for strategy, each in runs.items()]
        for data, runs in jobs.items()
    }
    document = {title: {each.strategy: each.to_json() for each in runs} for title, runs in found.items()}
    return Reproduction(_write_up(found), document)


@dataclass(frozen=True)
class _Runs:
    """The runs of one strategy, one a seed.

    The validation metrics of `histories` hold the test's too, with `TEST_PREFIX`; validation chose the best epochs.
    `ranks` are those of the test at that epoch, of all runs, pooled.
    """

    strategy: str
    histories: tuple[tuple[EpochRecord, ...], ...]
    best_epochs: tuple[int, ...]
    ranks: RankTable

    @property
    def chosen(self) -> list[int]:
        """The chosen epochs, counted over sessions alone."""
        knowledge = [sum(record.phase == "knowledge" for record in history) for history in self.histories]
        return [epoch - before for epoch, before in zip(self.best_epochs, knowledge, strict=True)]

    def curves(self, metric: str) -> list[list[float]]:
        """The metric after each epoch over sessions, of each run; epochs over triples alone are left out."""
        return [
            [record.validation[metric] for record in history if record.phase == "sessions"]
            for history in self.histories
        ]

    def to_json(self) -> dict[str, Any]:
        """The curves as plain data: metric, one list a seed."""
        names = [name for metric in METRICS for name in (metric, f"{TEST_PREFIX}{metric}")]
        return {"best_epochs": list(self.best_epochs), **{name: self.curves(name) for name in names}}


def _jobs(data: Path, folder: Path, options: RunOptions) -> dict[str, list[Job]]:
    """The jobs of each strategy, one a seed. None ends early, so that all curves are equally long."""
    fingerprint = PreparedDataset.load(data).fingerprint
    name = data.resolve().name
    jobs: dict[str, list[Job]] = {}
    for strategy, label in STRATEGIES.items():
        epochs = options.experiment(data, MODEL).training.epochs
        config = options.experiment(data, MODEL, strategy=strategy, patience=epochs)
        key = settings_key(config, fingerprint)
        jobs[strategy] = []
        for seed in range(options.seeds):
            place = folder / name / strategy / f"seed-{seed}-{key}"
            jobs[strategy].append(
                Job(f"{name} {label} seed {seed}", place, _learn, (data, config, place, seed, options.device))
            )
    return jobs


def _learn(listener: Listener, data: Path, config: ExperimentConfig, folder: Path, seed: int, device: str) -> None:
    """One run, in a process of its own. Each epoch's model ranks the test too, for the drawing alone."""
    dataset = PreparedDataset.load(data)
    validation, test = validator(dataset, config.training.select), dataset.evaluation_split("test")

    def watch(model: SessionModel) -> dict[str, float]:
        drawn = evaluate(model, test).metrics()
        return {**validation(model), **{f"{TEST_PREFIX}{name}": value for name, value in drawn.items()}}

    assert not config.training.select.startswith(TEST_PREFIX)
    folder.mkdir(parents=True, exist_ok=True)
    listener(PhaseStarted("fit"))
    how: dict[str, Any] = {"seed": seed, "device": device, "folder": folder, "resume": True, "listener": listener}
    model, result = fit_new_model(dataset, config, validate=watch, **how)
    evaluate(model, test).save(folder / "ranks.parquet")
    document = {"config": config.model_dump(mode="json"), "seed": seed, "best_epoch": result.best_epoch}
    atomic_write(folder / "metrics.json", json.dumps(document, indent=2) + "\n")
    remove_checkpoint(folder)


def _read(strategy: str, jobs: Sequence[Job]) -> _Runs:
    documents = [json.loads((job.folder / "metrics.json").read_text(encoding="utf-8")) for job in jobs]
    return _Runs(
        strategy,
        tuple(read_history(job.folder / "history.jsonl") for job in jobs),
        tuple(int(document["best_epoch"]) for document in documents),
        pooled([RankTable.load(job.folder / "ranks.parquet") for job in jobs]),
    )


def _write_up(found: Mapping[str, Sequence[_Runs]]) -> WriteUp:
    sections = []
    for title, runs in found.items():
        tests = _tests(runs)
        drawings = tuple(each for metric in METRICS for each in _drawings(title, runs, metric))
        sentences = (_start(runs), *(_end(tests[one, other], text) for one, other, text in _CLAIMS))
        sections.append(Section(title, sentences, drawings, (_results(title, runs), _differences(title, tests))))
    return WriteUp(
        name="figure3",
        title="Figure 3: three ways to learn knowledge beside sessions",
        lead=(
            "Pre-training learns from the triples first and from the sessions afterwards; joint training adds to every "
            "batch of sessions the triples of its items; alternating training visits all sessions, then every triple "
            "once, in each epoch. All else is equal. Fitted on the training sessions alone; the curve of the test "
            "split is only drawn: epochs are chosen on validation."
        ),
        sections=tuple(sections),
    )


def _drawings(title: str, runs: Sequence[_Runs], metric: str) -> tuple[Drawing, ...]:
    kind = metric_title(metric)
    return draw_if_possible(
        f"figure3-{file_name(title)}-{metric.partition('@')[0]}",
        partial(_draw, runs, metric),
        f"{kind} of three training strategies on {title} after each epoch, on validation and on test.",
        f"{kind} after each epoch over sessions: mean over seeds, with the range over seeds as a band. Dots: "
        "the epochs that validation chose. The test curve is only drawn, nothing is chosen on it.",
    )


def _draw(runs: Sequence[_Runs], metric: str) -> bytes:
    with canvas(width=8.4, height=3.1, panels=2) as (figure, panels):
        for axes, prefix, name in zip(panels, ("", TEST_PREFIX), ("validation", "test (only drawn)"), strict=True):
            for each in runs:
                curves = each.curves(prefix + metric)
                columns = [[100 * value for value in column] for column in zip(*curves, strict=False)]
                epochs = range(1, len(columns) + 1)
                ink, style = _INKS[each.strategy]
                means, label = [mean(column) for column in columns], STRATEGIES[each.strategy]
                axes.plot(epochs, means, style, color=INKS[ink], linewidth=1.8, label=label)
                low, high = [min(column) for column in columns], [max(column) for column in columns]
                axes.fill_between(epochs, low, high, color=INKS[ink], alpha=0.15, linewidth=0)
                for curve, chosen in zip(curves, each.chosen, strict=True):
                    axes.plot([chosen], [100 * curve[chosen - 1]], "o", color=INKS[ink], markersize=4)
            panel_title(axes, f"{metric_title(metric)}, {name}")
            finish_curves(axes, "epoch over sessions")
        panels[0].set_ylabel("per cent")
        panels[0].legend(frameon=False, fontsize=8, loc="lower right")
        return render(figure, f"figure3-{metric}")


def _results(title: str, runs: Sequence[_Runs]) -> TextTable:
    header = ["strategy", "chosen epochs"]
    for metric in METRICS:
        kind = metric_title(metric)
        header += [f"{kind} validation, epoch 1", "at the chosen epoch", f"{kind} test, at the chosen epoch"]
    rows = []
    for each in runs:
        cells = [STRATEGIES[each.strategy], ", ".join(str(epoch) for epoch in each.chosen)]
        for metric in METRICS:
            curves = each.curves(metric)
            at_best = [curve[epoch - 1] for curve, epoch in zip(curves, each.chosen, strict=True)]
            test = each.ranks.metrics((20,))[metric]
            cells += [percent(mean(curve[0] for curve in curves)), percent(mean(at_best)), percent(test)]
        rows.append(tuple(cells))
    return TextTable(f"{title}: strategies, per cent, mean over seeds", tuple(header), tuple(rows))


def _tests(runs: Sequence[_Runs]) -> _Tests:
    ranks = {each.strategy: each.ranks for each in runs}
    pairs = [(one, other) for one, other, _ in _CLAIMS]
    raw = [{m: pooled_difference(ranks[one], ranks[other], m) for m in METRICS} for one, other in pairs]
    return dict(zip(pairs, corrected_by_holm(raw), strict=True))


def _differences(title: str, tests: _Tests) -> TextTable:
    header = ["first against second", *(cell for m in METRICS for cell in (f"{metric_title(m)} difference", "p"))]
    rows = tuple(
        (
            f"{STRATEGIES[first]} against {STRATEGIES[second]}",
            *(cell for each in found.values() for cell in (difference_text(each), p_value_text(each.p_value))),
        )
        for (first, second), found in tests.items()
    )
    note = (
        "Test split at the epochs that validation chose, percentage points [95 % interval over sessions]; p: paired "
        "bootstrap over sessions, corrected by Holm over this table."
    )
    return TextTable(f"{title}: strategies in pairs", tuple(header), rows, (note,))


def _start(runs: Sequence[_Runs]) -> str:
    """Whether pre-training has the better start, and after which epochs it is ahead."""
    curves = {each.strategy: each.curves("mrr@20") for each in runs}
    first = {name: [curve[0] for curve in each] for name, each in curves.items()}
    ahead = sum(own > max(others) for own, *others in zip(*_pretraining_first(first), strict=True))
    seeds = len(first["pretrain"])
    word = "Confirmed" if ahead == seeds else "Refuted" if ahead == 0 else "Undecided"
    values = ", ".join(f"{STRATEGIES[name]} {percent(mean(each))}" for name, each in first.items())
    courses = {name: [mean(column) for column in zip(*each, strict=True)] for name, each in curves.items()}
    together = zip(*_pretraining_first(courses), strict=True)
    epochs = [str(epoch) for epoch, (own, *others) in enumerate(together, 1) if own > max(others)]
    where = f"epochs {', '.join(epochs)}" if epochs else "no epoch"
    return (
        f"{word}: pre-training has the better start. Validation MRR@20 after the first epoch over sessions: {values} "
        f"per cent; pre-training is ahead of both in {ahead} of {seeds} seeds. By the mean over seeds it is ahead of "
        f"both after {where}."
    )


def _pretraining_first(by_strategy: Mapping[str, Sequence[float]]) -> list[Sequence[float]]:
    return [by_strategy[name] for name in ("pretrain", "alternating", "joint")]


def _end(found: Mapping[str, PairedDifference], text: str) -> str:
    parts = [
        f"{metric_title(metric)} {difference_text(each)} points (p {p_value_text(each.p_value)})"
        for metric, each in found.items()
    ]
    return f"{verdict(found['mrr@20']).capitalize()}: {text}. Test, at the chosen epochs: {', '.join(parts)}."

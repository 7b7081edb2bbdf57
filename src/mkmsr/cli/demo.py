"""`mkmsr demo`: the whole way from a raw log to recommendations, in a few minutes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import AT_LEAST_ONE, COMMON, Common, Terminal, output_folder, terminal
from mkmsr.cli.experiment import experiment_config, train_into
from mkmsr.cli.progress import duration, waiting
from mkmsr.cli.results import show_evaluation, show_recommendations, show_statistics

if TYPE_CHECKING:
    from mkmsr.data.dataset import PreparedDataset
    from mkmsr.runs.experiment import RunResult

MODEL = "compass"
BASELINES = ("mkm-sr", "v-sknn", "recency")
SETTINGS = {
    "mkm-sr": (
        "training.epochs=4",
        "training.batch_size=256",
        "training.optimiser.learning_rate=0.004",
        "model.dropout=0.3",
    )
}
"""What differs from a model's defaults: larger steps, so that few epochs suffice."""
DISPLAY = "name+price+image"


def demo(
    *,
    out: Path = Path("runs/demo"),
    sessions: Annotated[int, Parameter(validator=Number(gte=200))] = 8_000,
    items: Annotated[int, Parameter(validator=Number(gte=50))] = 2_000,
    epochs: Annotated[int | None, AT_LEAST_ONE] = None,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    common: Common = COMMON,
) -> None:
    """Simulate a shop, train COMPASS and MKM-SR, rank them beside V-SkNN and recency, recommend, write a report.

    Args:
        out: Folder for everything: shop/ (the raw log), data/ (prepared), and one run folder a model.
        sessions: Visits to simulate.
        items: Size of the simulated catalogue.
        epochs: Most epochs of a network, instead of what each usually has.
        seed: Of the shop and of the models.
    """
    with ExitStack() as stack:
        screen = stack.enter_context(terminal(common))
        stack.enter_context(output_folder(out / "data", "dataset.json"))
        for name in (MODEL, *BASELINES):
            stack.enter_context(output_folder(out / name, "config.toml"))
        began = time.perf_counter()
        dataset = _prepared_shop(screen, out, sessions=sessions, items=items, seed=seed)
        runs = [_run(screen, dataset, out, name, epochs=epochs, seed=seed) for name in (*BASELINES[::-1], MODEL)]
        documents = [run.metrics for run in runs[::-1]]
        from mkmsr.reports.run_report import write_run_report

        report = write_run_report(out / MODEL, baselines=[out / name for name in BASELINES])
        seconds = time.perf_counter() - began
        screen.document(
            {
                "out": str(out),
                "report": str(report),
                "seconds": seconds,
                "test": {document["model"]: document["test"]["metrics"] for document in documents},
            }
        )
        screen.print()
        show_evaluation(screen, [document["test"] for document in documents])
        _show_example(screen, out)
        _say_verdict(screen, out)
        _say_what_next(screen, out, report, seconds)


def _prepared_shop(screen: Terminal, out: Path, *, sessions: int, items: int, seed: int) -> PreparedDataset:
    """Simulate a log, write its raw files, read them back as anybody's log, prepare and save it."""
    from mkmsr.data.dataset import statistics
    from mkmsr.data.prepare import PrepareOptions, prepare
    from mkmsr.data.readers import ReadOptions, read_log
    from mkmsr.data.shop import SimulateOptions
    from mkmsr.data.simulate import simulate

    with waiting(screen.progress, f"simulating {sessions:,} sessions of a shop with {items:,} items"):
        simulate(SimulateOptions(sessions=sessions, items=items, seed=seed)).save(out / "shop")
    with waiting(screen.progress, "preparing the log"):
        options = ReadOptions(attributes=out / "shop" / "attributes*.parquet", attribute_columns={"display": DISPLAY})
        log = read_log("events", out / "shop" / "events.parquet", options)
        dataset = prepare(log, PrepareOptions(new_items="keep"), name="simulated shop")
        dataset.save(out / "data")
    show_statistics(screen, dataset, statistics(dataset))
    return dataset


def _run(
    screen: Terminal, dataset: PreparedDataset, out: Path, name: str, *, epochs: int | None, seed: int
) -> RunResult:
    """Train a model, rank the test sessions once, and save both."""
    trained = name in (MODEL, *SETTINGS)
    screen.note(f"training {name}" if trained else f"ranking with {name}, which needs no training")
    settings = experiment_config(name, None, SETTINGS.get(name, ()), {"epochs": epochs if trained else None})
    return train_into(screen, dataset, settings, out / name, seed=seed, refit=True, announce=trained)


def _show_example(screen: Terminal, out: Path) -> None:
    """Recommend for the first session of the report, from the saved bundle."""
    from mkmsr.recommend import Recommender

    recommender = Recommender.load(out / MODEL / "bundle")
    example = json.loads((out / MODEL / "examples.json").read_text(encoding="utf-8"))["sessions"][0]
    target = example["target"]
    ranked = recommender.recommend({"events": example["events"]}, k=10)
    show_recommendations(screen, recommender, example["events"], ranked, title="A test session")
    for reason in recommender.explain({"events": example["events"]}, [each.item for each in ranked.items[:3]]):
        screen.print(reason.sentence)
    screen.print(f"What came next: {target['operation']} of {target['item']}, which the model ranks {target['rank']}.")


def _say_verdict(screen: Terminal, out: Path) -> None:
    from mkmsr.reports.comparison import compare_runs, verdict

    found = verdict(compare_runs([out / name for name in (MODEL, *BASELINES)], metrics=["hit@20"], reference=MODEL))
    screen.print()
    for sentence in (found.sentence, found.visitors, found.repetition):
        screen.print(sentence)


def _say_what_next(screen: Terminal, out: Path, report: Path, seconds: float) -> None:
    shop = shlex.quote(str(out))
    run = f"{shop}/{MODEL}"
    line = '{"events": [{"item": "item-00042", "operation": "click"}, {"item": "item-00007", "operation": "cart"}]}'
    rivals = " ".join(f"{shop}/{name}" for name in BASELINES)
    text = f"""
Done in {duration(seconds)}. Where to look:
  {report}   the report: open it in a browser
  {out / MODEL}/   settings, history, metrics, ranks of every example
  {out / MODEL}/bundle/   the model, ready to recommend
What to type next: `make serve` opens a page where you are the visitor of this shop. Or{_activation()}:
  echo '{line}' | mkmsr recommend {run}/bundle --session - -k 5 --explain
  mkmsr evaluate {run}/bundle {shop}/data --split test
  mkmsr compare {run} {rivals}
  mkmsr train {shop}/data --model m-sr --out {shop}/m-sr
  mkmsr prepare events YOUR_LOG.csv --columns item=sku,operation=type,time=ts,user=uid --out data/yours"""
    for row in text.splitlines():
        screen.print(row)


def _activation() -> str:
    """How to make `mkmsr` a word of the shell, where it is none yet."""
    if shutil.which("mkmsr"):
        return ""
    return f" (after `source {os.path.relpath(Path(sys.prefix) / 'bin' / 'activate')}`)"

"""`mkmsr bench`: the project's benchmarks. Each takes its own flags; without a name they are listed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import (
    AT_LEAST_ONE,
    COMMON,
    CommandEntry,
    Common,
    Device,
    Terminal,
    command_group,
    terminal,
    text_table,
)
from mkmsr.cli.experiment import ModelName, Settings, experiment_config
from mkmsr.cli.progress import waiting
from mkmsr.cli.reading import Running
from mkmsr.runtime.files import atomic_write, locked

_RATE = Number(gt=0, lte=20_000)
_SHARE = Parameter(validator=Number(gt=0, lte=1))

_USUAL = {"dim": 100, "scorer": "dot"}
"""Model settings of the benchmarks where a model has them: those of the authors' code."""


def training(
    *,
    model: ModelName = "mkm-sr",
    data: Path,
    threads: Annotated[int, AT_LEAST_ONE] = 1,
    batch_size: Annotated[int, AT_LEAST_ONE] = 128,
    set_: Settings = (),
    repetitions: Annotated[int, AT_LEAST_ONE] = 5,
    share: Annotated[float, _SHARE] = 1.0,
    device: Device = "cpu",
    out: Path | None = None,
    common: Common = COMMON,
) -> None:
    """Time an epoch of training beside its floor: the bare catalogue products + softmax + optimiser.

    The floor is timed in turns with the trainer, in the same run. Where the model has the settings, vectors have 100
    components and scores are inner products; --set changes that.

    Args:
        model: Name of the model.
        data: Prepared data; the epoch learns from train and validation.
        threads: Processor threads of PyTorch.
        batch_size: Examples a step.
        set_: Other settings: model.scorer=cosine training.strategy=sessions
        repetitions: Timed epochs, after one that warms up.
        share: Times this share of an epoch's examples and triples and scales up, for large logs.
        out: Also write the result to this JSON file.
    """
    with terminal(common) as screen, locked(out):
        flags = {"threads": threads, "batch_size": batch_size}
        settings = experiment_config(model, None, (*_usual(model), *set_), flags)
        from mkmsr.bench.training import time_training
        from mkmsr.data.dataset import PreparedDataset

        dataset = PreparedDataset.load(data)
        what = f"timing {repetitions} epochs of {model} on {dataset.name}, after one to warm up"
        options: dict[str, Any] = {"repetitions": repetitions, "share": share, "device": device}
        with waiting(screen.progress, what):
            result = time_training(dataset, model, settings.settings(), settings.training, **options)
        _show_measurement(screen, result, out)


def evaluation(
    *,
    model: ModelName = "mkm-sr",
    data: Path,
    split: Literal["test", "validation"] = "test",
    threads: Annotated[int, AT_LEAST_ONE] = 1,
    workers: Annotated[int, AT_LEAST_ONE] = 1,
    examples: Annotated[int | None, AT_LEAST_ONE] = None,
    set_: Settings = (),
    repetitions: Annotated[int, AT_LEAST_ONE] = 5,
    device: Device = "cpu",
    out: Path | None = None,
    common: Common = COMMON,
) -> None:
    """Time the ranking of the whole catalogue for every example of a split, after loading.

    Args:
        model: Name of the model; it has its first weights, which cost the same as trained ones.
        data: Prepared data.
        split: Which sessions to rank.
        threads: Processor threads of PyTorch.
        workers: Processes of one thread that share the work.
        examples: Rank only the first so many examples.
        set_: Other settings of the model: model.dim=64
        repetitions: Timed evaluations, after one that warms up.
        out: Also write the result to this JSON file.
    """
    with terminal(common) as screen, locked(out):
        settings = experiment_config(model, None, (*_usual(model), *set_), {})
        from mkmsr.bench.ranking import time_evaluation
        from mkmsr.data.dataset import PreparedDataset

        dataset = PreparedDataset.load(data)
        options: dict[str, Any] = {"split": split, "examples": examples, "repetitions": repetitions}
        options |= {"threads": threads, "workers": workers, "device": device}
        with waiting(screen.progress, f"ranking the {split} sessions of {dataset.name} {repetitions} times"):
            result = time_evaluation(dataset, model, settings.settings(), **options)
        _show_measurement(screen, result, out)


def recommend(
    bundle: Path,
    /,
    *,
    data: Path,
    sessions: Annotated[int, AT_LEAST_ONE] = 200,
    repetitions: Annotated[int, AT_LEAST_ONE] = 5,
    out: Path | None = None,
    common: Common = COMMON,
) -> None:
    """Time lists of a saved model: one session alone, and many in bulk, in processor time of one thread.

    Args:
        bundle: Saved model.
        data: Prepared data, whose test prefixes are asked for.
        sessions: Sessions alone; four times as many in bulk.
        repetitions: Timed repetitions, after one that warms up.
        out: Also write the result to this JSON file.
    """
    with terminal(common) as screen, locked(out):
        from mkmsr.bench.ranking import time_recommending
        from mkmsr.data.dataset import PreparedDataset

        with waiting(screen.progress, f"making lists {repetitions} times"):
            dataset = PreparedDataset.load(data)
            result = time_recommending(bundle, dataset, sessions=sessions, repetitions=repetitions)
        _show_measurement(screen, result, out)


def prepare(
    *,
    events: Annotated[int, Parameter(validator=Number(gte=1000))] = 1_000_000,
    items: Annotated[int | None, Parameter(validator=Number(gte=50))] = None,
    repetitions: Annotated[int, AT_LEAST_ONE] = 3,
    running: Running = Running(),
    scratch: Path | None = None,
    log: Path | None = None,
    out: Path | None = None,
    common: Common = COMMON,
) -> None:
    """Time preparation, from a raw Parquet log of a simulated shop to saved prepared data.

    Equal fingerprints say that two engines gave the same data. Memory counts all processes of the engine.

    Args:
        events: Events of the log.
        items: Items of the catalogue; by default one for 18 events, as in JDATA.
        repetitions: Timed preparations.
        scratch: Folder for the log and temporary files; the system's by default.
        log: Folder of a log that `mkmsr simulate` wrote, to be prepared instead of a new one.
        out: Also write the result to this JSON file.
    """
    with terminal(common) as screen, locked(out):
        from mkmsr.bench.preparation import time_preparation

        with waiting(screen.progress, f"preparing a simulated log {repetitions} times"):
            engine = running.options(scratch)
            result = time_preparation(events, items=items, repetitions=repetitions, engine=engine, log=log)
        _show_measurement(screen, result, out)


def serving(
    *,
    bundle: Path | None = None,
    items: Annotated[int, Parameter(validator=Number(gte=50, lte=10_000_000))] = 12_195,
    model: ModelName = "compass",
    set_: Settings = (),
    rate: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative=(), validator=_RATE)] = (200.0,),
    seconds: Annotated[float, Parameter(validator=Number(gt=0, lte=3600))] = 20.0,
    workers: Annotated[int, AT_LEAST_ONE] = 1,
    store: str = "auto",
    repetitions: Annotated[int, AT_LEAST_ONE] = 1,
    empty: Annotated[bool, Parameter(negative=())] = False,
    figure: Path | None = None,
    out: Path | None = None,
    common: Common = COMMON,
) -> None:
    """Time the live service on this machine while requests arrive at a constant rate, whether or not it keeps up.

    Every request appends an event to a session and asks for 20 items. Its time counts from the moment at which it was
    due. `recall_at_20` compares lists with those of `mkmsr recommend`.

    Args:
        bundle: What serves; without one, a bundle over a simulated catalogue is made, with the model's first weights.
        items: Size of that catalogue.
        model: Name of its model.
        set_: Other settings of that model: model.dim=64
        rate: Requests a second; several rates give a curve.
        seconds: How long they arrive, at each rate.
        workers: Processes of the service.
        store: Where sessions live: auto, memory, sqlite, or redis://host:6379/0.
        repetitions: Runs at each rate; the median run counts.
        empty: Ask whether the service lives instead of for lists: the part of the time that no model takes.
        figure: Also draw the curve of latency over rate into this SVG file.
        out: Also write the result to this JSON file.
    """
    with terminal(common) as screen, locked(out):
        from mkmsr.bench.serving import draw_latency, make_bundle, time_serving
        from mkmsr.runtime.files import scratch_folder

        options: dict[str, Any] = {"rates": sorted(rate), "seconds": seconds, "workers": workers}
        options |= {"store": store, "repetitions": repetitions, "empty": empty}
        with scratch_folder() as folder:
            if bundle is None:
                with waiting(screen.progress, f"making a bundle of {items:,} items"):
                    bundle = make_bundle(folder / "bundle", items, experiment_config(model, None, set_, {}))
            took = len(rate) * repetitions * seconds
            with waiting(screen.progress, f"sending requests for {took:,.0f} s, besides starting the service"):
                result = time_serving(bundle, **options)
        if figure is not None:
            atomic_write(figure, draw_latency(result))
            screen.note(f"written: {figure}")
        _show_measurement(screen, result, out)


def _list(*, common: Common = COMMON) -> None:
    """Time training, evaluation, preparation and serving on this machine. Without a name, list the benchmarks."""
    with terminal(common) as screen:
        rows = [[name, (case.__doc__ or "").partition("\n")[0], example] for name, case, example in CASES]
        screen.document([dict(zip(("name", "summary", "example"), row, strict=True)) for row in rows])
        screen.show(text_table("Benchmarks", ["name", "what is timed", "example"], rows, numbers_from=3))


CASES: tuple[CommandEntry, ...] = (
    ("training", training, "mkmsr bench training --model mkm-sr --data data/demo --json"),
    ("evaluation", evaluation, "mkmsr bench evaluation --model mkm-sr --data data/demo --json"),
    ("recommend", recommend, "mkmsr bench recommend runs/demo/bundle --data data/demo"),
    ("prepare", prepare, "mkmsr bench prepare --events 1000000 --json"),
    ("serving", serving, "mkmsr bench serving --items 12195 --rate 200 --seconds 20 --json"),
)
BENCH = command_group("bench", str(_list.__doc__), CASES[0][2], CASES)
BENCH.default(_list)


def _usual(model: str) -> list[str]:
    """The benchmarks' model settings, as far as this model has them and its name does not fix them."""
    from mkmsr.models.registry import model_entry

    entry = model_entry(model)
    fixed = dict(entry.preset)
    return [f"model.{key}={value}" for key, value in _USUAL.items() if key in entry.config.model_fields.keys() - fixed]


def _show_measurement(screen: Terminal, result: Mapping[str, Any], out: Path | None) -> None:
    screen.document(result)
    plain = {key: value for key, value in result.items() if key != "case" and not isinstance(value, Mapping | list)}
    rows = [[_title(key), _shown(value)] for key, value in plain.items()]
    rows += [
        [f"{_title(key)}, smallest to largest", f"{_shown(each['min'])} to {_shown(each['max'])}"]
        for key, each in result["spread"].items()
    ]
    screen.show(text_table(f"bench {result['case']}", ["", ""], rows))
    for key, lines in result.items():
        if isinstance(lines, list) and lines:
            columns = [each for each in lines[0] if each != "spread"]
            cells = [[_shown(line[each]) for each in columns] for line in lines]
            screen.show(text_table(_title(key), [_title(each) for each in columns], cells, numbers_from=2))
    place = result["environment"]
    screen.print(f"{place['cpu']}, {place['cores']} cores, {place['load']} processes busy on average while measuring")
    if out is not None:
        atomic_write(out, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        screen.note(f"written: {out}")


def _title(key: str) -> str:
    return key.replace("_", " ")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

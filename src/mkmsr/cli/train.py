"""`mkmsr train`, `tune`, `grid`: one fit, a search for settings, models x data x seeds."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import (
    AT_LEAST_ONE,
    COMMON,
    Common,
    Device,
    WrongCall,
    output_folder,
    terminal,
    text_table,
)
from mkmsr.cli.experiment import ModelName, Settings, chosen_settings, experiment_config, known_model, train_into
from mkmsr.cli.progress import duration, progress_bars
from mkmsr.cli.results import show_evaluation
from mkmsr.errors import ConfigError, TrainingError
from mkmsr.runtime.files import atomic_write, locked
from mkmsr.runtime.process_group import is_restarted, joined, own_device

_Seed = Annotated[int, Parameter(validator=Number(gte=0))]


def train(
    data: Path,
    /,
    *,
    out: Path,
    model: ModelName | None = None,
    config: Path | None = None,
    set_: Settings = (),
    strategy: Literal["alternating", "triples-first", "joint", "pretrain", "sessions"] | None = None,
    epochs: Annotated[int | None, AT_LEAST_ONE] = None,
    seed: _Seed = 0,
    device: Device = "cpu",
    threads: Annotated[int | None, AT_LEAST_ONE] = None,
    refit: Annotated[bool, Parameter(negative=())] = False,
    resume: Annotated[bool, Parameter(negative=())] = False,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    process_timeout: Annotated[float, Parameter(validator=Number(gt=0))] = 300.0,
    common: Common = COMMON,
) -> None:
    """Fit a model, keep its best epoch on validation, rank the test once, save everything to a run folder.

    Under torchrun several processes train it together, each on its part of every batch.

    Args:
        data: Prepared data.
        out: Run folder: config.toml, history.jsonl, metrics.json, ranks.parquet, report.html, checkpoint/, bundle/. An
            older run there that is finished is replaced, unless --resume finds that it is the same.
        model: Name of the model, see `mkmsr models`; by default the one that the settings file names.
        config: Settings file (TOML) with the tables model and training.
        set_: Settings that override the file: model.dim=64 training.optimiser.learning_rate=0.002
        strategy: Order of session and knowledge steps.
        epochs: Most epochs.
        seed: Of weights, order and dropout; the same seed gives the same run.
        threads: Processor threads of PyTorch; by default 1, see docs/benchmarks.md.
        refit: Afterwards fit again on train and validation together, for the epochs that validation chose.
        resume: Go on from the folder's last checkpoint.
        overwrite: Start over, although the folder holds a run that was interrupted.
        from_: Bundle of an older model to go on from on a newer log: same model and settings, known ids keep their
            vectors, the optimiser starts anew.
        process_timeout: Under torchrun, seconds that a process waits for the others before it calls them gone.
    """
    with ExitStack() as stack:
        screen = stack.enter_context(terminal(common))
        processes = stack.enter_context(joined(timeout=process_timeout))
        if processes.is_first:
            stack.enter_context(output_folder(out, "config.toml"))
            if not (resume or overwrite or is_restarted()):
                _check_interrupted(out)
        else:
            screen.mute()
        flags = {"strategy": strategy, "epochs": epochs, "threads": threads}
        earlier = None
        if from_ is not None:
            from mkmsr.bundle.model_bundle import load_bundle

            earlier = load_bundle(from_)
        settings = experiment_config(model, config, set_, flags, earlier)
        from mkmsr.data.dataset import PreparedDataset

        dataset = PreparedDataset.load(data)
        if dataset.train.earlier is not None and settings.model.get("earlier_visits") is False:
            screen.note("the data know visitors; --set model.earlier_visits=true makes use of it")
        options: dict[str, Any] = {"seed": seed, "device": own_device(device), "refit": refit}
        options |= {"resume": resume or is_restarted(), "start_from": earlier}
        result = train_into(screen, dataset, settings, out, processes=processes, **options)
        screen.document(result.metrics)
        chosen = {name: f"{100 * value:.2f} %" for name, value in result.metrics["validation"]["metrics"].items()}
        select = settings.training.select
        epoch = result.metrics["best_epoch"]  # 0: nothing was trained epoch by epoch
        kept = f"epoch {epoch} is kept, the last; " if settings.training.keep == "last" else f"best epoch {epoch}, by "
        note = f" ({result.metrics['validation']['note']})" if "note" in result.metrics["validation"] else ""
        screen.print(f"{kept if epoch else ''}{select} on validation: {chosen.get(select, '-')}{note}")
        show_evaluation(screen, [result.metrics["test"]])
        screen.print(f"fitted on {result.metrics['fitted_on']} in {duration(result.metrics['seconds'])}")
        screen.print(f"model: {out}/bundle; report: {out}/report.html")
        event = {"item": dataset.items.id(1), "operation": dataset.operations.id(1)}  # any, to have one to try
        session = shlex.quote(json.dumps({"events": [event]}, ensure_ascii=False))
        recommend = shlex.join(["mkmsr", "recommend", f"{out}/bundle", "--session", "-", "-k", "5"])
        screen.print(f"Next: echo {session} | {recommend}")


def _check_interrupted(folder: Path) -> None:
    """Make sure that no interrupted run is lost because somebody forgot --resume."""
    from mkmsr.reports.run_folder import has_checkpoint
    from mkmsr.runs.experiment import METRICS_FILE

    if has_checkpoint(folder) and not (folder / METRICS_FILE).is_file():
        raise ConfigError(
            f"{folder} holds a run that was interrupted: --resume goes on with it, --overwrite starts over, another "
            "--out leaves it alone",
            key="--out",
        )


def tune(
    data: Path,
    /,
    *,
    out: Path,
    model: ModelName | None = None,
    trials: Annotated[int, AT_LEAST_ONE] = 30,
    config: Path | None = None,
    set_: Settings = (),
    first: Path | None = None,
    epochs: Annotated[int | None, AT_LEAST_ONE] = None,
    seed: _Seed = 0,
    windows: Annotated[int, AT_LEAST_ONE] = 1,
    workers: Annotated[int, AT_LEAST_ONE] = 1,
    device: Device = "cpu",
    common: Common = COMMON,
) -> None:
    """Search a model's settings: fitted on train, judged on validation; the test is not read.

    The model's defaults, or the settings of --first, are the first trial. Poor trials are stopped early. The same
    call again goes on where an earlier one stopped, also with more trials.

    Args:
        data: Prepared data.
        out: Folder for the study, the table of trials and chosen.toml.
        model: Name of the model, see `mkmsr models`.
        trials: Trials in all.
        config: Settings file (TOML); what it sets is not searched.
        set_: The same on the command line: model.dim=64 training.select=hit@20
        first: Settings file (TOML) of the first trial, instead of the model's defaults; what it sets is searched.
        epochs: Most epochs of a trial.
        seed: Of the search and of every trial's weights.
        windows: Spans that judge a trial: validation, and those of equal size before it, for a steadier choice.
        workers: Trials beside each other, in processes of one thread each.
    """
    with terminal(common) as screen, output_folder(out, "study.sqlite3"):
        base = chosen_settings(model, config, set_, {"epochs": epochs})
        from mkmsr.config import read_toml
        from mkmsr.reports.tables import percent
        from mkmsr.runs.search import shown
        from mkmsr.runs.search import tune as search

        with progress_bars(screen.progress) as listener:
            result = search(
                data,
                base,
                out,
                trials=trials,
                seed=seed,
                windows=windows,
                first=read_toml(first) if first is not None else None,
                workers=workers,
                device=device,
                listener=listener,
            )
        best = result.best
        select = result.config.training.select
        screen.document(
            {
                "model": result.config.name,
                "select": select,
                "value": best.value,
                "best_epoch": best.best_epoch,
                "trials": len(result.trials),
                "settings": dict(best.settings),
                "config": str(result.path),
            }
        )
        start = result.trials[0]
        rows = [[f"validation {select}, %", percent(start.value), percent(best.value)]]
        rows += [[key, shown(start.settings[key]), shown(value)] for key, value in best.settings.items()]
        title = f"{result.config.name}: the best of {len(result.trials)} trials"
        screen.show(text_table(title, ["", "first trial", "chosen"], rows))
        screen.print(f"settings: {result.path}; all trials: {out}/trials.csv")
        screen.next("train", data, "--config", result.path, "--out", f"runs/{result.config.name}", "--refit")


def grid(
    data: Annotated[tuple[Path, ...], Parameter(negative=())],
    /,
    *,
    models: str,
    out: Path,
    seeds: Annotated[int, AT_LEAST_ONE] = 3,
    settings: Path | None = None,
    epochs: Annotated[int | None, AT_LEAST_ONE] = None,
    metrics: str = "hit@20,mrr@20",
    workers: Annotated[int, AT_LEAST_ONE] = 1,
    device: Device = "cpu",
    common: Common = COMMON,
) -> None:
    """Train models on several data sets with several seeds, and compare them on each, with the seeds pooled.

    The first seed's validation chooses a model's number of epochs; all are then fitted again on train and validation.
    Runs that are finished are not trained again: the same call goes on where an earlier one stopped, also with more
    models, data or seeds. Run folders are OUT/DATA/MODEL/SEED, tables OUT/DATA.md, .tex and .csv.

    Args:
        data: Folders of prepared data.
        models: Names of models, separated by commas, see `mkmsr models`.
        out: Folder for runs and tables.
        seeds: Runs of each model with weights, from seed 0; a model that only counts is run once.
        settings: Folder of settings files, DATA/MODEL.toml or MODEL.toml; a model without one gets its defaults.
        epochs: Most epochs, instead of those of the settings.
        metrics: What the tables show, separated by commas; the first metric orders the rows.
        workers: Runs beside each other, in processes of one thread each.
    """
    with terminal(common) as screen, locked(out):
        names = [name.strip() for name in models.split(",")]
        for name in names:
            try:
                known_model(str, name)
            except ValueError as error:
                raise WrongCall(f"--models: {error}") from None
        if not data:
            raise WrongCall("give at least one folder of prepared data")
        if settings is not None and not settings.is_dir():
            raise WrongCall(f"--settings: there is no folder {settings}")
        from mkmsr.paper.runs import RunOptions, finish_runs
        from mkmsr.reports.comparison import compare_runs
        from mkmsr.reports.tables import comparison_table

        with progress_bars(screen.progress) as listener:
            options = RunOptions(
                seeds=seeds, settings=settings, epochs=epochs, workers=workers, device=device, listener=listener
            )
            found, failures = finish_runs(
                data, lambda each: {name: options.experiment(each, name) for name in names}, out, options
            )
        documents = []
        for each, runs in found.items():
            finished = [folder.run for folders in runs.found.values() for folder in folders]
            if not finished:
                continue
            comparison = compare_runs(finished, metrics=[name.strip() for name in metrics.split(",")], pool_seeds=True)
            table, place = comparison_table(comparison), out / each.resolve().name
            for ending, text in (
                (".md", table.markdown()),
                (".tex", table.latex()),
                (".csv", comparison.to_frame().write_csv()),
            ):
                atomic_write(place.with_name(place.name + ending), text)
            documents.append({"data": each.resolve().name, **comparison.to_json()})
            screen.show_report(table)
            screen.print(f"tables: {place}.md, .tex, .csv; runs: {place}")
        screen.document(documents)
        if failures:
            reasons = "; ".join(f"{each.job.name}: {each.reason}" for each in failures)
            total = len(failures) + sum(len(folders) for runs in found.values() for folders in runs.found.values())
            raise TrainingError(f"{len(failures)} of {total} runs failed: {reasons}")

"""`mkmsr tune`: hyper-parameter search on validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import AT_LEAST_ONE, COMMON, Common, Device, output_folder, terminal, text_table
from mkmsr.cli.experiment import ModelName, Settings, chosen_settings
from mkmsr.cli.progress import progress_bars


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
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
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
        rows += [[key, _shown(start.settings[key]), _shown(value)] for key, value in best.settings.items()]
        title = f"{result.config.name}: the best of {len(result.trials)} trials"
        screen.show(text_table(title, ["", "first trial", "chosen"], rows))
        screen.print(f"settings: {result.path}; all trials: {out}/trials.csv")
        screen.next("train", data, "--config", result.path, "--out", f"runs/{result.config.name}", "--refit")


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

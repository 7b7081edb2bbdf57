"""`mkmsr train`: fit a model on prepared data and leave a run folder behind."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import AT_LEAST_ONE, COMMON, Common, Device, output_folder, terminal
from mkmsr.cli.experiment import ModelName, Settings, experiment_config, train_into
from mkmsr.cli.progress import duration
from mkmsr.cli.results import show_evaluation
from mkmsr.errors import ConfigError
from mkmsr.runtime.process_group import is_restarted, joined, own_device


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
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
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

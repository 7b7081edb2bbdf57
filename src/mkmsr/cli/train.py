"""`mkmsr train`: fit a model on prepared data and leave a run folder behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import COMMON, Common, Device, Terminal, WrongCall, output_folder, terminal
from mkmsr.cli.evaluate import show_evaluation
from mkmsr.cli.progress import duration, progress_bars
from mkmsr.errors import ConfigError, nearest
from mkmsr.runtime.events import ignore
from mkmsr.runtime.process_group import ALONE, Processes, is_restarted, joined, own_device

if TYPE_CHECKING:
    from mkmsr.bundle.model_bundle import ModelBundle
    from mkmsr.data.dataset import PreparedDataset
    from mkmsr.runs.experiment import ExperimentConfig, RunResult

__all__ = ["experiment_config", "train", "train_into"]


def known_model(_type: Any, name: str | None) -> None:
    """Accept a registered model.

    Raises:
        ValueError: There is no such model.
    """
    from mkmsr.models.registry import MODELS

    if name is not None and name not in MODELS:
        raise ValueError(f"no model {name!r}{nearest(name, MODELS) or ';'} `mkmsr models` lists them")


def train(
    data: Path,
    /,
    *,
    out: Path,
    model: Annotated[str | None, Parameter(validator=known_model)] = None,
    config: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True, negative=())] = (),
    strategy: Literal["alternating", "joint", "pretrain", "sessions"] | None = None,
    epochs: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    device: Device = "cpu",
    threads: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
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
        device: Where the model computes: cpu, cuda.
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
        result = train_into(
            screen,
            dataset,
            settings,
            out,
            seed=seed,
            device=str(own_device(device)),
            refit=refit,
            resume=resume or is_restarted(),
            start_from=earlier,
            processes=processes,
        )
        screen.document(result.metrics)
        chosen = {name: f"{100 * value:.2f} %" for name, value in result.metrics["validation"]["metrics"].items()}
        select = settings.training.select
        epoch = result.metrics["best_epoch"]  # 0: nothing was trained epoch by epoch
        kept = f"epoch {epoch} is kept, the last; " if settings.training.keep == "last" else f"best epoch {epoch}, by "
        screen.say(f"{kept if epoch else ''}{select} on validation: {chosen.get(select, '-')}")
        show_evaluation(screen, [result.metrics["test"]])
        screen.say(f"fitted on {result.metrics['fitted_on']} in {duration(result.metrics['seconds'])}")
        screen.say(f"model: {out}/bundle; report: {out}/report.html")
        screen.next("evaluate", f"{out}/bundle", data)


def _check_interrupted(folder: Path) -> None:
    """Make sure that no interrupted run is lost because somebody forgot --resume.

    Raises:
        ConfigError: The folder holds a checkpoint of a run that is not finished.
    """
    from mkmsr.reports.run_folder import has_checkpoint
    from mkmsr.runs.experiment import METRICS_FILE

    if has_checkpoint(folder) and not (folder / METRICS_FILE).is_file():
        raise ConfigError(
            f"{folder} holds a run that was interrupted: --resume goes on with it, --overwrite starts over, another "
            "--out leaves it alone",
            key="--out",
        )


def train_into(
    screen: Terminal,
    dataset: PreparedDataset,
    settings: ExperimentConfig,
    folder: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    refit: bool = False,
    resume: bool = False,
    start_from: ModelBundle | None = None,
    announce: bool = True,
    processes: Processes = ALONE,
) -> RunResult:
    """Run one experiment with progress on standard error, and unless it is a small matter a line for each phase."""
    from mkmsr.runs.experiment import run_experiment

    with progress_bars(screen.progress, announce=announce) as listener:
        return run_experiment(
            dataset,
            settings,
            folder,
            seed=seed,
            device=device,
            refit=refit,
            resume=resume,
            start_from=start_from,
            listener=listener if processes.is_first else ignore,
            processes=processes,
        )


def experiment_config(
    model: str | None,
    config: Path | None,
    overrides: Sequence[str],
    flags: Mapping[str, Any],
    earlier: ModelBundle | None = None,
) -> ExperimentConfig:
    """Settings from the file, then `--set`, then flags.

    Args:
        model: Name of the model, or None for the file's.
        config: The settings file, or None.
        overrides: `key=value` texts.
        flags: Fields of the table [training]; None where the flag was not given.
        earlier: A model to go on from, whose name and settings hold where nothing else is said.

    Raises:
        WrongCall: No model is named.
        ConfigError: A setting is unknown or wrong.
    """
    from mkmsr.config import apply_overrides, read_toml, validate
    from mkmsr.runs.experiment import ExperimentConfig

    settings = apply_overrides(read_toml(config) if config is not None else {}, overrides)
    table = dict(settings.get("model", {}))
    if earlier is not None:
        if (model or table.get("name", earlier.name)) != earlier.name:
            raise WrongCall(f"the bundle holds {earlier.name}, and training goes on with the same model")
        table = _laid_over({"name": earlier.name, **earlier.config.model_dump(mode="json")}, table)
    if model is not None:
        table["name"] = model
    if "name" not in table:
        raise WrongCall("which model? give --model NAME, or --config FILE with a name in its table [model]")
    training = {**settings.get("training", {}), **{key: value for key, value in flags.items() if value is not None}}
    return validate(ExperimentConfig, {**settings, "model": table, "training": training}, path=config)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with those of another table in their place."""
    result = dict(below)
    for key, value in above.items():
        inner = result.get(key)
        result[key] = _laid_over(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return result

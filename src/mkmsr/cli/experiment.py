"""What the commands that train share: settings from flags and files, and one run with its progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from mkmsr.cli.console import Terminal, WrongCall
from mkmsr.cli.progress import progress_bars
from mkmsr.errors import nearest
from mkmsr.runtime.events import ignore
from mkmsr.runtime.process_group import ALONE, Processes

if TYPE_CHECKING:
    from mkmsr.bundle.model_bundle import ModelBundle
    from mkmsr.data.dataset import PreparedDataset
    from mkmsr.runs.config import ExperimentConfig
    from mkmsr.runs.experiment import RunResult


def known_model(_type: Any, name: str | None) -> None:
    """Accept a registered model, or raise what Cyclopts shows as a wrong call."""
    from mkmsr.models.registry import MODELS, OWN_MODELS

    if name is not None and name not in MODELS:
        hint = nearest(name, MODELS)
        raise ValueError(f"no model {name!r}{hint or ';'} `mkmsr models` lists them{'' if hint else f'; {OWN_MODELS}'}")


ModelName = Annotated[str, Parameter(validator=known_model)]
"""The name of a registered model."""

Settings = Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True, negative=())]
"""Settings as key=value."""


def train_into(
    screen: Terminal,
    dataset: PreparedDataset,
    settings: ExperimentConfig,
    folder: Path,
    *,
    announce: bool = True,
    processes: Processes = ALONE,
    **options: Any,
) -> RunResult:
    """Run one experiment with the options of `run_experiment`, and with progress on standard error.

    Under torchrun the first process alone shows it; `announce` gives each phase a line.
    """
    from mkmsr.runs.experiment import run_experiment

    with progress_bars(screen.progress, announce=announce) as bars:
        listener = bars if processes.is_first else ignore
        return run_experiment(dataset, settings, folder, listener=listener, processes=processes, **options)


def experiment_config(
    model: str | None,
    config: Path | None,
    overrides: Sequence[str],
    flags: Mapping[str, Any],
    earlier: ModelBundle | None = None,
) -> ExperimentConfig:
    """Return the checked settings of a run, see `chosen_settings`."""
    from mkmsr.config import validate
    from mkmsr.runs.config import ExperimentConfig

    return validate(ExperimentConfig, chosen_settings(model, config, overrides, flags, earlier), path=config)


def chosen_settings(
    model: str | None,
    config: Path | None,
    overrides: Sequence[str],
    flags: Mapping[str, Any],
    earlier: ModelBundle | None = None,
) -> dict[str, Any]:
    """Return what was set, as nested tables: by the file, then by `--set`, then by flags.

    Flags are fields of the table [training], None where not given. Where nothing else is said, name and settings of an
    `earlier` model to go on from hold. Without any model's name, WrongCall is raised.
    """
    from mkmsr.config import apply_overrides, laid_over, read_toml, table_of

    settings = apply_overrides(read_toml(config) if config is not None else {}, overrides)
    table = table_of(settings, "model")
    if earlier is not None:
        if (model or table.get("name", earlier.name)) != earlier.name:
            raise WrongCall(f"the bundle holds {earlier.name}, and training goes on with the same model")
        table = laid_over({"name": earlier.name, **earlier.config.model_dump(mode="json")}, table)
    if model is not None:
        table["name"] = model
    if "name" not in table:
        raise WrongCall("which model? give --model NAME, or --config FILE with a name in its table [model]")
    training = {**table_of(settings, "training"), **{key: value for key, value in flags.items() if value is not None}}
    return {**settings, "model": table, "training": training}

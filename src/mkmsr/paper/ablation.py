"""What each part of COMPASS is worth: the model without one part at a time, on the same examples as the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mkmsr.config import validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import EvaluationError
from mkmsr.paper.ablation_text import AblationTable, Variant, ablation_table, ablation_write_up
from mkmsr.paper.runs import carry_out
from mkmsr.paper.settings import Reproduction, check_distinct, data_title, experiment_settings
from mkmsr.reports.run_folder import EvaluatedRun, read_run_folder
from mkmsr.runs.experiment import ExperimentConfig
from mkmsr.runs.grid import ChooseEpochs, GridRun, plan_grid
from mkmsr.runtime.events import Listener, ignore

__all__ = ["VARIANTS", "folder_name", "reproduce_ablation"]

WHOLE = "COMPASS"

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    WHOLE: {},
    "without ids": {"explore": {"ids": False}},
    "without attributes": {"explore": {"attributes": False}, "retrieval": {"kind_weight": 0.0}},
    "without attribute matches": {"explore": {"matching": False}},
    "without popularity": {"explore": {"popularity": 0.0}},
    "without chances of new items": {"explore": {"novelty": 0.0}},
    "without masks": {"explore": {"masks": 1}},
    "without recent items": {"explore": {"recent_items": False}},
    "without copies": {"copy_past": False},
    "without neighbours": {"neighbours": False},
    "without neighbours by kind": {"retrieval": {"kind_weight": 0.0}},
    "without evidence of similar sessions": {"retrieval": {"evidence": 0.0}},
    "without a second round of neighbours": {"retrieval": {"second_hop": 0.0}},
    "without lifts": {"retrieval": {"share_power": 0.0, "near_power": 0.0}},
    "without earlier visits": {"earlier_visits": False},
    "without operations": {"operations": False},
    "without attributes and operations": {
        "explore": {"attributes": False},
        "retrieval": {"kind_weight": 0.0},
        "operations": False,
    },
    "with the knowledge loss": {"knowledge": True},
}
"""What each row of the table changes in the settings of the model."""


def reproduce_ablation(
    datasets: Sequence[Path],
    out: Path,
    *,
    command: str,
    seeds: int = 3,
    settings: Path | None = None,
    epochs: int | None = None,
    choose_epochs: ChooseEpochs = "first-seed",
    taken_from: Path | None = None,
    keep: Path | None = None,
    train: bool = True,
    workers: int = 2,
    device: str = "cpu",
    samples: int = 10_000,
    listener: Listener = ignore,
) -> Reproduction:
    """Train COMPASS whole and without each part, refitted on train and validation, and compare in pairs.

    A variant that changes nothing on some data, because its settings have the part off already, is left out there.
    The arguments are those of `reproduce_table_2`.

    Raises:
        ConfigError: A setting is wrong.
        DataError: Kept results are damaged.
        EvaluationError: The whole model has no finished run on a dataset.
    """
    check_distinct(datasets)
    plans = {data: _plan(data, out, seeds, settings, epochs, choose_epochs) for data in datasets}
    missing, failures = carry_out(
        plans, taken_from=taken_from, keep=keep, train=train, workers=workers, device=device, listener=listener
    )
    tables = [_table(data, plan, missing, samples) for data, plan in plans.items()]
    return Reproduction(
        ablation_write_up(tables, command=command),
        {"seeds": seeds, "tables": [table.to_json() for table in tables]},
        failures,
    )


def _plan(
    data: Path, out: Path, seeds: int, settings: Path | None, epochs: int | None, choose_epochs: ChooseEpochs
) -> list[GridRun]:
    training: dict[str, Any] = {"epochs": epochs} if epochs is not None else {}
    base = experiment_settings(data, "compass", settings, training)
    experiments: dict[str, ExperimentConfig] = {}
    for name, changes in VARIANTS.items():
        variant = validate(ExperimentConfig, {**base.model_dump(), "model": _merged(base.model, changes)})
        if name == WHOLE or variant.model != base.model:
            experiments[folder_name(name)] = variant
    return plan_grid([data], experiments, range(seeds), out / "runs", choose_epochs=choose_epochs)


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for key, value in changes.items():
        result[key] = _merged(result[key], value) if isinstance(value, Mapping) else value
    return result


def _table(data: Path, plan: Sequence[GridRun], missing: Mapping[Path, str], samples: int) -> AblationTable:
    found: dict[str, list[EvaluatedRun]] = {}
    for run in (run for run in plan if run.folder not in missing):
        found.setdefault(run.label, []).append(read_run_folder(run.folder).run)
    title = data_title(data, PreparedDataset.load(data))
    if folder_name(WHOLE) not in found:
        raise EvaluationError(f"the whole model has no finished run on {title}")
    variants = [(name, found[folder_name(name)]) for name in VARIANTS if folder_name(name) in found]
    return ablation_table(title, [Variant(name, tuple(runs)) for name, runs in variants], samples=samples)


def folder_name(variant: str) -> str:
    """What the folder of a variant's runs is called."""
    return "compass" if variant == WHOLE else f"compass-{variant.replace(' ', '-')}"

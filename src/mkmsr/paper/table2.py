"""Table 2: every system of the paper, the rivals that it left out, and the flagship, on the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError, nearest
from mkmsr.paper.published import SYSTEMS, TABLE_2, published_name
from mkmsr.paper.runs import carry_out
from mkmsr.paper.settings import Reproduction, check_distinct, data_title, experiment_settings
from mkmsr.paper.system_table import Group, SystemRuns, SystemTable, compare_systems
from mkmsr.paper.table2_text import summary_table, table_2
from mkmsr.reports.run_folder import RunFolder, read_run_folder
from mkmsr.runs.grid import ChooseEpochs, GridRun, plan_grid
from mkmsr.runtime.events import Listener, ignore

__all__ = ["RIVALS", "reproduce_table_2", "table_rows"]


RIVALS: Mapping[str, str] = {
    "GRU4REC, well made": "gru4rec",
    "SASRec": "sasrec",
    "EMBSR": "embsr",
    "Pop": "pop",
    "S-Pop": "s-pop",
    "Recency": "recency",
    "Sequential rules": "sr",
    "Item-KNN": "item-knn",
    "S-KNN": "s-knn",
    "V-SkNN": "v-sknn",
    "STAN": "stan",
    "VSTAN": "vstan",
}
"""What the paper's table left out, and the models that they are here."""

FLAGSHIPS: Mapping[str, str] = {"COMPASS": "compass", "COMPASS ensemble": "compass-ensemble"}
"""What we recommend; none is a rival of the other."""


def reproduce_table_2(
    datasets: Sequence[Path],
    out: Path,
    *,
    command: str,
    models: Sequence[str] | None = None,
    seeds: int = 3,
    settings: Path | None = None,
    epochs: int | None = None,
    refit: bool = True,
    choose_epochs: ChooseEpochs = "first-seed",
    taken_from: Path | None = None,
    keep: Path | None = None,
    train: bool = True,
    workers: int = 2,
    device: str = "cpu",
    samples: int = 10_000,
    listener: Listener = ignore,
) -> Reproduction:
    """Run the grid of systems, data and seeds as far as it is not there yet, and compare.

    Args:
        datasets: Folders of prepared data, with distinct names.
        out: Run folders go to `out/runs`.
        command: What writes the table, to be stated in it.
        models: Names of the models to run; None for all rows.
        seeds: How many seeds, from 0.
        settings: Folder of settings files, see `experiment_settings`.
        epochs: Most epochs, instead of those of the settings.
        refit: Whether test numbers are of models fitted on train and validation.
        choose_epochs: Whose validation chooses the number of epochs.
        taken_from: Folder of kept results, which stand in for runs that `out` lacks, see `mkmsr.paper.kept`.
        keep: Folder that takes the results of every finished run.
        train: Whether to train what is missing then; otherwise the table has what is there.
        workers: Runs beside each other, in processes of one thread each.
        device: Where models compute.
        samples: Resamples of every interval and test.
        listener: Told about runs, see `run_jobs`.

    Raises:
        ConfigError: A setting or a name is wrong.
        DataError: Kept results are damaged.
        EvaluationError: No run at all was finished on a dataset.
    """
    check_distinct(datasets)
    rows = table_rows(models)
    training: dict[str, Any] = {"epochs": epochs} if epochs is not None else {}
    plans: dict[Path, list[GridRun]] = {}
    for data in datasets:
        experiments = {name: experiment_settings(data, name, settings, training) for _, name, _ in rows}
        plans[data] = plan_grid(
            [data], experiments, range(seeds), out / "runs", refit=refit, choose_epochs=choose_epochs
        )
    missing, failures = carry_out(
        plans, taken_from=taken_from, keep=keep, train=train, workers=workers, device=device, listener=listener
    )
    tables = [_table(data, plan, rows, missing, samples) for data, plan in plans.items()]
    return Reproduction(
        table_2(tables, command=command, fitted_on=_fitted_on(refit, choose_epochs)),
        {
            "refit": refit,
            "seeds": seeds,
            "choose_epochs": choose_epochs,
            "tables": [table.to_json() for table in tables],
        },
        failures,
        summary_table(tables),
    )


def table_rows(models: Sequence[str] | None = None) -> list[tuple[str, str, Group]]:
    """Label, model and group of each row: the paper's systems in its order, the rivals, the flagships.

    Args:
        models: Only these models; None for all.

    Raises:
        ConfigError: One of them is no row of the table.
    """
    rows: list[tuple[str, str, Group]] = [(label, name, "paper") for label, name in SYSTEMS.items()]
    rows += [(label, name, "rival") for label, name in RIVALS.items()]
    rows += [(label, name, "flagship") for label, name in FLAGSHIPS.items()]
    known = [name for _, name, _ in rows]
    for name in models or ():
        if name not in known:
            hint = nearest(name, known) or f"; there are: {', '.join(known)}"
            raise ConfigError(f"no row for {name!r}{hint}", key="models")
    return [row for row in rows if models is None or row[1] in models]


def _fitted_on(refit: bool, choose_epochs: ChooseEpochs) -> str:
    """What the models of the test numbers have read, and for how long."""
    data = "train and validation" if refit else "train alone"
    whose = "each seed by itself" if choose_epochs == "each-seed" else "with the first seed, for all seeds"
    return f"{data}, for the epochs that validation chose ({whose})"


def _table(
    data: Path,
    plan: Sequence[GridRun],
    rows: Sequence[tuple[str, str, Group]],
    missing: Mapping[Path, str],
    samples: int,
) -> SystemTable:
    dataset = PreparedDataset.load(data)
    name = published_name(dataset)
    published = TABLE_2[name] if name is not None else {}
    systems = []
    for label, model, group in rows:
        runs = [run for run in plan if run.label == model]
        found = [read_run_folder(run.folder) for run in runs if run.folder not in missing]
        systems.append(
            SystemRuns(
                label,
                group,
                tuple(each.run for each in found),
                published.get(label, {}),
                seconds=_mean_seconds(found, "seconds"),
                processor_seconds=_mean_seconds(found, "processor_seconds"),
                note=next((missing[run.folder] for run in runs if run.folder in missing), ""),
            )
        )
    return compare_systems(data_title(data, dataset), systems, samples=samples)


def _mean_seconds(runs: Sequence[RunFolder], name: str) -> float:
    """Mean of a time over runs; wall time stands in where a run did not count its processor time."""
    return mean(float(each.metrics.get(name, each.metrics["seconds"])) for each in runs) if runs else 0.0

"""`mkmsr grid`: models x data x seeds in one folder, and a table of each data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mkmsr.cli.console import AT_LEAST_ONE, COMMON, Common, Device, WrongCall, terminal
from mkmsr.cli.experiment import known_model
from mkmsr.cli.progress import progress_bars
from mkmsr.runtime.files import atomic_write, locked


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
        from mkmsr.errors import TrainingError
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

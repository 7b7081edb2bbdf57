"""`mkmsr reproduce`: the paper's tables and figures from our own runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import COMMON, Common, Device, Terminal, WrongCall, terminal
from mkmsr.cli.help import command_group, examples
from mkmsr.cli.progress import progress_bars

if TYPE_CHECKING:
    from mkmsr.paper import Reproduction

__all__ = ["REPRODUCE"]

_AT_LEAST_ONE = Parameter(validator=Number(gte=1))
_Data = Annotated[tuple[Path, ...], Parameter(negative=())]
_DOCS = Annotated[Path | None, Parameter(group=Group("Where else it is written", sort_key=20))]
_SETTINGS = Path("experiments")
_DRAWINGS = "figures"


def table1(data: _Data, /, *, out: Path, docs: _DOCS = None, common: Common = COMMON) -> None:
    """Table 1: counts of prepared data, beside the published ones.

    Args:
        data: Folders of prepared data.
        out: Folder for table1.md, .tex, .html and .json.
        docs: Also rewrite this Markdown file between `<!-- table1:begin -->` and `<!-- table1:end -->`.
    """
    with terminal(common) as screen:
        _check_data(data)
        from mkmsr.paper import reproduce_table_1

        command = _command("table1", data, {"out": out, "docs": docs})
        _tell(screen, reproduce_table_1(data, command=command), out, docs)


def table2(
    data: _Data,
    /,
    *,
    out: Path,
    models: str | None = None,
    seeds: Annotated[int, _AT_LEAST_ONE] = 3,
    settings: Path = _SETTINGS,
    epochs: Annotated[int | None, _AT_LEAST_ONE] = None,
    refit: bool = True,
    choose_epochs: Literal["first-seed", "each-seed"] = "first-seed",
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    keep: Path | None = None,
    train: bool = True,
    workers: Annotated[int, _AT_LEAST_ONE] = 2,
    device: Device = "cpu",
    docs: _DOCS = None,
    readme: _DOCS = None,
    common: Common = COMMON,
) -> None:
    """Table 2: every system of the paper, its rivals and the flagship on the same examples, tested in pairs.

    Runs that are not in OUT yet are trained first; the same call again goes on where an earlier one stopped.

    Args:
        data: Folders of prepared data.
        out: Folder for table2.md, .tex, .csv, .html and .json, and for all run folders.
        models: Only these rows, names separated by commas; see `mkmsr models`.
        seeds: Runs of each model with weights.
        settings: Folder of settings files, DATA/MODEL.toml or MODEL.toml; a model without one gets its defaults.
        epochs: Most epochs, instead of those of the settings.
        refit: Test numbers of models fitted again on train and validation, for the epochs that validation chose.
        choose_epochs: Whose validation chooses the number of epochs: that of the first seed for all, or each seed's.
        from_: Folder of kept results; a run of the same settings and data in it need not be trained.
        keep: Folder that takes a few kilobytes a finished run, from which --from draws the table again.
        train: Train what is missing; --no-train draws the table of what is there.
        workers: Runs beside each other, in processes of one thread each.
        device: Where models compute: cpu, cuda.
        docs: Also rewrite this Markdown file between `<!-- table2:begin -->` and `<!-- table2:end -->`.
        readme: Also rewrite this Markdown file between `<!-- results:begin -->` and `<!-- results:end -->`.
    """
    with terminal(common) as screen:
        _check_data(data)
        from mkmsr.paper import reproduce_table_2

        given = {"out": out, "models": models, "seeds": seeds, "settings": settings, "epochs": epochs, "from": from_}
        given["no-refit"] = not refit
        if choose_epochs != "first-seed":
            given["choose-epochs"] = choose_epochs
        command = _command("table2", data, {**given, "docs": docs, "readme": readme})
        names = [name.strip() for name in models.split(",")] if models else None
        with progress_bars(screen.progress) as listener:
            found = reproduce_table_2(
                data,
                out,
                command=command,
                models=names,
                seeds=seeds,
                settings=_settings_folder(settings),
                epochs=epochs,
                refit=refit,
                choose_epochs=choose_epochs,
                taken_from=from_,
                keep=keep,
                train=train,
                workers=workers,
                device=device,
                listener=listener,
            )
        _tell(screen, found, out, docs, readme)


def ablation(
    data: _Data,
    /,
    *,
    out: Path,
    seeds: Annotated[int, _AT_LEAST_ONE] = 3,
    settings: Path = _SETTINGS,
    epochs: Annotated[int | None, _AT_LEAST_ONE] = None,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    keep: Path | None = None,
    train: bool = True,
    workers: Annotated[int, _AT_LEAST_ONE] = 2,
    device: Device = "cpu",
    docs: _DOCS = None,
    common: Common = COMMON,
) -> None:
    """What each part of COMPASS is worth: the model without one part at a time, tested in pairs against the whole.

    Runs that are not in OUT yet are trained first; the same call again goes on where an earlier one stopped.

    Args:
        data: Folders of prepared data.
        out: Folder for ablation.md, .tex, .html and .json, and for all run folders.
        seeds: Runs of each variant.
        settings: Folder of settings files, DATA/compass.toml or compass.toml.
        epochs: Most epochs, instead of those of the settings.
        from_: Folder of kept results; a run of the same settings and data in it need not be trained.
        keep: Folder that takes a few kilobytes a finished run, from which --from draws the table again.
        train: Train what is missing; --no-train draws the table of what is there.
        workers: Runs beside each other, in processes of one thread each.
        device: Where models compute: cpu, cuda.
        docs: Also rewrite this Markdown file between `<!-- ablation:begin -->` and `<!-- ablation:end -->`.
    """
    with terminal(common) as screen:
        _check_data(data)
        from mkmsr.paper import reproduce_ablation

        given = {"out": out, "seeds": seeds, "settings": settings, "epochs": epochs, "from": from_, "docs": docs}
        with progress_bars(screen.progress) as listener:
            found = reproduce_ablation(
                data,
                out,
                command=_command("ablation", data, given),
                seeds=seeds,
                settings=_settings_folder(settings),
                epochs=epochs,
                taken_from=from_,
                keep=keep,
                train=train,
                workers=workers,
                device=device,
                listener=listener,
            )
        _tell(screen, found, out, docs)


def figure3(
    data: _Data,
    /,
    *,
    out: Path,
    seeds: Annotated[int, _AT_LEAST_ONE] = 3,
    settings: Path = _SETTINGS,
    epochs: Annotated[int | None, _AT_LEAST_ONE] = None,
    workers: Annotated[int, _AT_LEAST_ONE] = 2,
    device: Device = "cpu",
    docs: _DOCS = None,
    common: Common = COMMON,
) -> None:
    """Figure 3: learning curves of the three training strategies, on validation and (only drawn) on test.

    Args:
        data: Folders of prepared data.
        out: Folder for figure3.md, .tex, .html and .json, for figures/ and for all runs.
        seeds: Runs of each strategy.
        settings: Folder of settings files, DATA/mkm-sr.toml or mkm-sr.toml.
        epochs: Epochs over sessions, instead of those of the settings.
        workers: Runs beside each other, in processes of one thread each.
        device: Where models compute: cpu, cuda.
        docs: Also rewrite this Markdown file between `<!-- figure3:begin -->` and `<!-- figure3:end -->`.
    """
    with terminal(common) as screen:
        _check_data(data)
        from mkmsr.paper import reproduce_figure_3

        given = {"out": out, "seeds": seeds, "settings": settings, "epochs": epochs}
        command = _command("figure3", data, {**given, "docs": docs})
        with progress_bars(screen.progress) as listener:
            found = reproduce_figure_3(
                data,
                out,
                command=command,
                seeds=seeds,
                settings=_settings_folder(settings),
                epochs=epochs,
                workers=workers,
                device=device,
                listener=listener,
            )
        _tell(screen, found, out, docs)


def figure4(
    data: _Data,
    /,
    *,
    out: Path,
    attribute: str | None = None,
    min_events: Annotated[int, _AT_LEAST_ONE] = 3,
    settings: Path = _SETTINGS,
    epochs: Annotated[int | None, _AT_LEAST_ONE] = None,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    workers: Annotated[int, _AT_LEAST_ONE] = 2,
    device: Device = "cpu",
    docs: _DOCS = None,
    common: Common = COMMON,
) -> None:
    """Figure 4: maps of item vectors from Word2Vec, TransH alone and MKM-SR, with numbers that check them.

    Args:
        data: Folders of prepared data.
        out: Folder for figure4.md, .tex, .html and .json, for figures/ and for the vectors.
        attribute: The relation that colours the maps; by default the one with the fewest values.
        min_events: Only items with so many training events.
        settings: Folder of settings files, DATA/mkm-sr.toml or mkm-sr.toml.
        epochs: Most epochs of MKM-SR and of TransH.
        seed: Of vectors and maps.
        workers: Runs beside each other, in processes of one thread each.
        device: Where models compute: cpu, cuda.
        docs: Also rewrite this Markdown file between `<!-- figure4:begin -->` and `<!-- figure4:end -->`.
    """
    with terminal(common) as screen:
        _check_data(data)
        from mkmsr.paper import reproduce_figure_4

        given = {"out": out, "attribute": attribute, "min-events": min_events, "settings": settings, "epochs": epochs}
        with progress_bars(screen.progress) as listener:
            found = reproduce_figure_4(
                data,
                out,
                command=_command("figure4", data, {**given, "docs": docs}),
                attribute=attribute,
                min_events=min_events,
                settings=_settings_folder(settings),
                epochs=epochs,
                seed=seed,
                workers=workers,
                device=device,
                listener=listener,
            )
        _tell(screen, found, out, docs)


CASES: tuple[tuple[str, Callable[..., None], str], ...] = (
    ("table1", table1, "mkmsr reproduce table1 data/demo data/demo-n --out runs/table1"),
    ("table2", table2, "mkmsr reproduce table2 data/demo data/demo-n --out runs/table2 --seeds 3"),
    ("ablation", ablation, "mkmsr reproduce ablation data/demo data/demo-n --out runs/ablation"),
    ("figure3", figure3, "mkmsr reproduce figure3 data/demo --out runs/figure3 --seeds 3"),
    ("figure4", figure4, "mkmsr reproduce figure4 data/demo --out runs/figure4 --attribute item-cate"),
)
"""Name, function and an example of each table or figure."""


def _group() -> App:
    group = command_group(
        "reproduce",
        "The paper's tables and figures from our own runs: trains what is missing, then writes what the runs say.",
        CASES[1][2],
    )
    for place, (name, case, example) in enumerate(CASES):
        group.command(case, name=name, help_epilogue=examples(example), sort_key=place)
    return group


REPRODUCE = _group()
"""The group of commands `mkmsr reproduce`."""


def _check_data(data: tuple[Path, ...]) -> None:
    if not data:
        raise WrongCall("give at least one folder of prepared data")


def _settings_folder(given: Path) -> Path | None:
    """The folder of settings files; None where the usual one is not there, and then models get their defaults.

    Raises:
        WrongCall: Another one is named, and there is no such folder.
    """
    if given != _SETTINGS and not given.is_dir():
        raise WrongCall(f"--settings: there is no folder {given}")
    return given if given.is_dir() else None


def _command(name: str, data: tuple[Path, ...], options: Mapping[str, Any]) -> str:
    """What the user could type to get the same again; the usual folder of settings goes without saying."""
    words = ["mkmsr", "reproduce", name, *map(str, data)]
    for key, value in options.items():
        if value is True:
            words.append(f"--{key}")
        elif value not in (None, False, _SETTINGS):
            words += [f"--{key}", str(value)]
    return shlex.join(words)


def _tell(screen: Terminal, found: Reproduction, out: Path, docs: Path | None, readme: Path | None = None) -> None:
    """Write and print a reproduction.

    Raises:
        TrainingError: Some runs failed; all that could be written is.
    """
    from mkmsr.errors import TrainingError
    from mkmsr.reports.write_up import rewrite_between
    from mkmsr.runtime.files import atomic_write

    write_up = found.write_up
    paths = write_up.save(out)
    text = json.dumps(found.document, indent=2, ensure_ascii=False)
    atomic_write(out / f"{write_up.name}.json", text + "\n")
    if docs is not None:
        write_up.save_drawings(docs.parent / _DRAWINGS)
        rewrite_between(docs, write_up.name, write_up.markdown(figures=_DRAWINGS))
    if readme is not None and found.summary is not None:
        rewrite_between(readme, "results", found.summary.markdown())
    screen.document(found.document)
    for table in found.tables:
        screen.show_report(table)
    for section in write_up.sections:
        for paragraph in section.paragraphs:
            screen.say(f"{section.heading}: {paragraph}")
    screen.say(f"page: {paths[0]}; beside it Markdown, LaTeX and JSON")
    if found.failures:
        first = found.failures[0]
        raise TrainingError(f"{len(found.failures)} runs failed; the first was {first.job.name}: {first.reason}")

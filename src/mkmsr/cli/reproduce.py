"""`mkmsr reproduce`: the paper's tables and figures from our own runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import (
    AT_LEAST_ONE,
    COMMON,
    CommandEntry,
    Common,
    Device,
    Terminal,
    WrongCall,
    command_group,
    terminal,
)
from mkmsr.cli.progress import progress_bars
from mkmsr.runtime.files import locked

if TYPE_CHECKING:
    from mkmsr.paper.runs import Reproduction, RunOptions

_ELSEWHERE = Parameter(group=Group("Where else it is written", sort_key=20))
_SETTINGS = Path("experiments")

_Data = Annotated[tuple[Path, ...], Parameter(negative=(), help="Folders of prepared data.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """Where a reproduction is written.

    Args:
        out: Folder for the result as .md, .tex, .html and .json, for its figures, and for all runs.
        docs: Also write the Markdown file and its figures to this folder.
    """

    out: Path
    docs: Annotated[Path | None, _ELSEWHERE] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Training:
    """How models are trained.

    Args:
        settings: Folder of settings files, DATA/MODEL.toml or MODEL.toml; a model without one gets its defaults.
        epochs: Most epochs, instead of those of the settings.
        workers: Runs beside each other, in processes of one thread each.
    """

    settings: Path = _SETTINGS
    epochs: Annotated[int | None, AT_LEAST_ONE] = None
    workers: Annotated[int, AT_LEAST_ONE] = 2
    device: Device = "cpu"


@Parameter(name="*")
@dataclass(frozen=True)
class Seeded(Training):
    """How models are trained several times.

    Args:
        seeds: Runs of each model with weights.
    """

    seeds: Annotated[int, AT_LEAST_ONE] = 3


@Parameter(name="*")
@dataclass(frozen=True)
class WithKept(Seeded):
    """How models are trained, and what becomes of their results.

    Args:
        from_: Folder of kept results; a run of the same settings and data in it need not be trained.
        keep: Folder that takes a few kilobytes a finished run, from which --from draws the table again.
        train: Train what is missing; --no-train draws the table of what is there.
    """

    from_: Annotated[Path | None, Parameter(name="--from")] = None
    keep: Path | None = None
    train: bool = True


@Parameter(name="*")
@dataclass(frozen=True)
class Systems(WithKept):
    """How the systems of Table 2 are trained.

    Args:
        models: Only these rows, names separated by commas; see `mkmsr models`. `talk/mkm-sr` and `authors/mkm-sr` are
            the model exactly as in the talk and as in the authors' code, and likewise for its ablations.
        refit: Test numbers of models fitted again on train and validation, for the epochs that validation chose.
        choose_epochs: Whose validation chooses the number of epochs: that of the first seed for all, or each seed's.
        readme: Also rewrite this Markdown file between `<!-- results:begin -->` and `<!-- results:end -->`.
    """

    models: str | None = None
    refit: bool = True
    choose_epochs: Literal["first-seed", "each-seed"] = "first-seed"
    readme: Annotated[Path | None, _ELSEWHERE] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Maps(Training):
    """How item vectors are learnt and shown.

    Args:
        attribute: The relation that colours the maps; by default the one with the fewest values.
        min_events: Only items with so many training events.
        seed: Of vectors and maps.
    """

    attribute: str | None = None
    min_events: Annotated[int, AT_LEAST_ONE] = 3
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0


def table1(data: _Data, /, *, output: Output, common: Common = COMMON) -> None:
    """Table 1: counts of prepared data, beside the published ones."""
    from mkmsr.paper.table1 import reproduce_table_1

    _reproduce("table1", data, output, Training(), common, lambda _: reproduce_table_1(data))


def table2(data: _Data, /, *, output: Output, asked: Systems = Systems(), common: Common = COMMON) -> None:
    """Table 2: every system of the paper, its rivals and the flagships on the same examples, tested in pairs.

    Runs that are not in OUT yet are trained first; the same call again goes on where an earlier one stopped.
    """
    from mkmsr.paper.table2 import reproduce_table_2

    def reproduce(options: RunOptions) -> Reproduction:
        models = [name.strip() for name in asked.models.split(",")] if asked.models else None
        return reproduce_table_2(data, output.out, options, models=models)

    _reproduce("table2", data, output, asked, common, reproduce)


def ablation(data: _Data, /, *, output: Output, asked: WithKept = WithKept(), common: Common = COMMON) -> None:
    """What each part of COMPASS is worth: the model without one part at a time, tested in pairs against the whole.

    Runs that are not in OUT yet are trained first; the same call again goes on where an earlier one stopped.
    """
    from mkmsr.paper.ablation import reproduce_ablation

    _reproduce("ablation", data, output, asked, common, lambda options: reproduce_ablation(data, output.out, options))


def figure3(data: _Data, /, *, output: Output, asked: Seeded = Seeded(), common: Common = COMMON) -> None:
    """Figure 3: learning curves of the three training strategies, on validation and (only drawn) on test."""
    from mkmsr.paper.figure3 import reproduce_figure_3

    _reproduce("figure3", data, output, asked, common, lambda options: reproduce_figure_3(data, output.out, options))


def figure4(data: _Data, /, *, output: Output, asked: Maps = Maps(), common: Common = COMMON) -> None:
    """Figure 4: maps of item vectors from Word2Vec, TransH alone and MKM-SR, with numbers that check them."""
    from mkmsr.paper.figure4 import reproduce_figure_4

    def reproduce(options: RunOptions) -> Reproduction:
        return reproduce_figure_4(data, output.out, options, asked.attribute, asked.min_events, asked.seed)

    _reproduce("figure4", data, output, asked, common, reproduce)


CASES: tuple[CommandEntry, ...] = (
    ("table1", table1, "mkmsr reproduce table1 data/demo data/demo-n --out runs/table1"),
    ("table2", table2, "mkmsr reproduce table2 data/demo data/demo-n --out runs/table2 --seeds 3"),
    ("ablation", ablation, "mkmsr reproduce ablation data/demo data/demo-n --out runs/ablation"),
    ("figure3", figure3, "mkmsr reproduce figure3 data/demo --out runs/figure3 --seeds 3"),
    ("figure4", figure4, "mkmsr reproduce figure4 data/demo --out runs/figure4 --attribute item-cate"),
)
REPRODUCE = command_group(
    "reproduce",
    "The paper's tables and figures from our own runs: trains what is missing, then writes what the runs say.",
    CASES[1][2],
    CASES,
)


def _reproduce(
    part: str,
    data: tuple[Path, ...],
    output: Output,
    asked: Training,
    common: Common,
    reproduce: Callable[[RunOptions], Reproduction],
) -> None:
    """Reproduce one part with the options asked for, write it and print it."""
    with terminal(common) as screen, locked(output.out):
        from mkmsr.paper.runs import RunOptions

        if not data:
            raise WrongCall("give at least one folder of prepared data")
        if output.docs is not None and output.docs.is_file():
            raise WrongCall(f"--docs takes a folder, and {output.docs} is a file")
        if asked.settings != _SETTINGS and not asked.settings.is_dir():
            raise WrongCall(f"--settings: there is no folder {asked.settings}")
        values = {{"from_": "taken_from"}.get(key, key): value for key, value in vars(asked).items()}
        known = {each.name for each in fields(RunOptions)}
        options = RunOptions(**{key: value for key, value in values.items() if key in known})
        with progress_bars(screen.progress) as listener:
            settings = asked.settings if asked.settings.is_dir() else None
            found = reproduce(replace(options, settings=settings, listener=listener))
        write_up = replace(found.write_up, command=_command(part, data, output, asked))
        _finish(screen, replace(found, write_up=write_up), output, getattr(asked, "readme", None))


def _command(part: str, data: tuple[Path, ...], output: Output, asked: Training) -> str:
    """What the user could type to get the same again, without options that change nothing in it."""
    words = ["mkmsr", "reproduce", part, *map(str, data)]
    for given in (output, asked):
        for each in fields(given):
            value = getattr(given, each.name)
            if value != each.default and each.name not in ("workers", "device", "keep", "train"):
                flag = each.name.strip("_").replace("_", "-")
                words += [f"--no-{flag}"] if value is False else [f"--{flag}", str(value)]
    return shlex.join(words)


def _finish(screen: Terminal, found: Reproduction, output: Output, readme: Path | None) -> None:
    from mkmsr.errors import TrainingError
    from mkmsr.reports.write_up import rewrite_between
    from mkmsr.runtime.files import atomic_write

    write_up = found.write_up
    page = write_up.save(output.out)
    text = json.dumps(found.document, indent=2, ensure_ascii=False)
    atomic_write(output.out / f"{write_up.name}.json", text + "\n")
    if output.docs is not None:
        write_up.save_markdown(output.docs)
    if readme is not None and found.summary is not None:
        rewrite_between(readme, "results", found.summary.markdown())
    screen.document(found.document)
    for table in write_up.tables:
        screen.show_report(table)
    for section in write_up.sections:
        for paragraph in section.paragraphs:
            screen.print(f"{section.heading}: {paragraph}")
    screen.print(f"page: {page}; beside it Markdown, LaTeX and JSON")
    if found.failures:
        first = found.failures[0]
        raise TrainingError(f"{len(found.failures)} runs failed; the first was {first.job.name}: {first.reason}")

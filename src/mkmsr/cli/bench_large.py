"""`mkmsr bench large` and `mkmsr bench growth`: what happens when logs and catalogues become large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import COMMON, Common, terminal
from mkmsr.cli.measured import tell
from mkmsr.cli.progress import waiting
from mkmsr.cli.train import experiment_config, known_model
from mkmsr.runtime.files import locked

__all__ = ["growth", "large"]

_AT_LEAST_ONE = Parameter(validator=Number(gte=1))
_NOT_NEGATIVE = Parameter(validator=Number(gte=0))
_MODEL = Parameter(validator=known_model)
_SET = Parameter(name="--set", consume_multiple=True, negative=())

_SAMPLED = ("training.loss.session=sampled-cross-entropy", "training.optimiser.touched_rows=true")
"""How a large catalogue is trained, see docs/compass.md."""


def large(
    *,
    model: Annotated[str, _MODEL] = "compass",
    data: Path | None = None,
    steps: Annotated[int, _NOT_NEGATIVE] = 0,
    exact_steps: Annotated[int, _NOT_NEGATIVE] = 5,
    block: Annotated[int, _AT_LEAST_ONE] = 8192,
    threads: Annotated[int, _AT_LEAST_ONE] = 2,
    set_: Annotated[tuple[str, ...], _SET] = (),
    out: Path | None = None,
    common: Common = COMMON,
) -> None:
    """Time an epoch over a large catalogue with the sampled loss, beside steps with the exact one; memory too.

    Every measurement is a process of its own. The sample and the optimiser that moves touched rows are set here; --set
    changes them.

    Args:
        model: Name of the model.
        data: Prepared data; by default a simulated log of JDATA's size: 455,000 sessions, 2.45 million events, 134,548
            items, four relations.
        steps: Time so many steps and scale up; 0 runs a whole epoch.
        exact_steps: Steps with the exact loss, whole and in blocks, scaled up; 0 for none.
        block: Items at a time, where the exact loss works in blocks.
        threads: Processor threads of PyTorch.
        set_: Other settings: training.batch_size=256 training.loss.negatives.number=1024
        out: Also write the result to this JSON file.
    """
    with terminal(common) as screen, locked(out):
        settings = experiment_config(model, None, (*_SAMPLED, *set_), {})
        from mkmsr.bench.large import time_large

        with waiting(screen.progress, f"training {model} over a large catalogue"), _data(data) as folder:
            result = time_large(
                folder,
                model,
                settings.settings(),
                settings.training,
                steps=steps,
                exact_steps=exact_steps,
                block=block,
                threads=threads,
            )
        tell(screen, result, out)


def growth(
    *,
    models: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = ("mkm-sr", "compass"),
    steps: Annotated[int, _AT_LEAST_ONE] = 50,
    examples: Annotated[int, _AT_LEAST_ONE] = 500,
    threads: Annotated[int, _AT_LEAST_ONE] = 1,
    curves: Annotated[tuple[Literal["log", "catalogue"], ...], Parameter(consume_multiple=True, negative=())] = (
        "log",
        "catalogue",
    ),
    small: Annotated[bool, Parameter(negative=())] = False,
    set_: Annotated[tuple[str, ...], _SET] = (),
    out: Path | None = None,
    common: Common = COMMON,
) -> None:
    """Draw the growth of time and memory over the log (1 to 8 times 25,000 sessions) and the catalogue (10 k to 1 M).

    Every point is a process of its own, over a simulated log; the loss is the sampled one. Exponents are fitted between
    logarithms. `python benchmarks/page.py` draws the curves.

    Args:
        models: Names of the models.
        steps: Timed steps of the optimiser, scaled up to an epoch.
        examples: Test examples that are ranked.
        threads: Processor threads of PyTorch.
        curves: Which curves.
        small: A try with two small points a curve.
        set_: Other settings: training.batch_size=256
        out: Also write the result to this JSON file.
    """
    with terminal(common) as screen, locked(out):
        chosen = [(name, experiment_config(name, None, (*_SAMPLED, *set_), {})) for name in models]
        from mkmsr.bench.growth import A_TRY, CURVES, time_growth

        with waiting(screen.progress, "measuring growth"):
            result = time_growth(
                [(name, settings.settings(), settings.training) for name, settings in chosen],
                curves={name: sizes for name, sizes in (A_TRY if small else CURVES).items() if name in curves},
                steps=steps,
                examples=examples,
                threads=threads,
                told=screen.note,
            )
        tell(screen, result, out)


@contextmanager
def _data(given: Path | None) -> Iterator[Path]:
    from mkmsr.bench.simulated import JDATA, simulated

    if given is not None:
        yield given
        return
    with simulated(JDATA) as folder:
        yield folder

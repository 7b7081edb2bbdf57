"""Prepared logs of simulated shops of any size, settings for large catalogues, and processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mkmsr.cli.train import experiment_config
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.shop import SimulateOptions
from mkmsr.data.simulate import simulate
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runtime.files import scratch_folder

JDATA = SimulateOptions(sessions=455_000, items=134_548, events_per_session=5.39)
"""A log of the size of the paper's JDATA: 2.45 million events, four relations."""


_SAMPLED = ("training.loss.session=sampled-cross-entropy", "training.optimiser.touched_rows=true")
"""How a large catalogue is trained, see docs/compass.md."""


def sampled_settings(model: str, others: Iterable[str], threads: int) -> ExperimentConfig:
    """Return a model's settings with the sampled loss and the optimiser that moves touched rows; `others` change them.

    Raises:
        ConfigError: One of the others is no setting.
    """
    return experiment_config(model, None, (*_SAMPLED, *others), {"threads": threads})


@contextmanager
def simulated(options: SimulateOptions) -> Iterator[Path]:
    """A temporary folder of prepared data: the shop's log, with every item of its attribute table as a candidate."""
    with scratch_folder() as folder:
        in_a_new_process(_prepare, options, folder / "prepared")
        yield folder / "prepared"


def in_a_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module returns; its peak of memory starts at nothing."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _prepare(options: SimulateOptions, folder: Path) -> None:
    prepare(simulate(options).to_log(), PrepareOptions(catalogue="attributes")).save(folder)

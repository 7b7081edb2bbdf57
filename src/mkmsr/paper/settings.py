"""What the reproductions share: which settings a model gets, what data are called, and what a reproduction leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkmsr.config import read_toml, validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError
from mkmsr.paper.published import published_name
from mkmsr.reports.tables import TextTable
from mkmsr.reports.write_up import WriteUp
from mkmsr.runs.experiment import ExperimentConfig
from mkmsr.runs.jobs import JobOutcome

__all__ = ["Reproduction", "data_title", "experiment_settings"]


@dataclass(frozen=True)
class Reproduction:
    """What one reproduction came to.

    Args:
        write_up: The table or figure as text.
        document: The same as plain data.
        failures: Runs that failed; what stands on the others is written all the same.
        summary: The short table for the README, where there is one.
    """

    write_up: WriteUp
    document: Mapping[str, Any]
    failures: tuple[JobOutcome, ...] = ()
    summary: TextTable | None = None

    @property
    def tables(self) -> tuple[TextTable, ...]:
        """Every table of the write-up."""
        return tuple(table for section in self.write_up.sections for table in section.tables)


def experiment_settings(
    data: Path, model: str, folder: Path | None, training: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """The settings of a model on some data: `folder/<data>/<model>.toml`, else `folder/<model>.toml`, else defaults.

    Args:
        data: Folder of the prepared data; its name is looked up.
        model: The model's name.
        folder: Folder of settings files, such as `mkmsr tune` writes; None for the defaults.
        training: Values of the table [training] that go before the file's.

    Raises:
        ConfigError: A file is wrong or is of another model.
    """
    values: dict[str, Any] = {}
    path = next((path for path in _candidates(data, model, folder) if path.is_file()), None)
    if path is not None:
        values = read_toml(path)
        found = values.get("model", {}).get("name", model)
        if found != model:
            raise ConfigError(f"is for {found!r}, but its name says {model!r}", key="model.name", path=path)
    table = {**values.get("model", {}), "name": model}
    merged = {**values, "model": table, "training": {**values.get("training", {}), **(training or {})}}
    return validate(ExperimentConfig, merged, path=path)


def data_title(data: Path, dataset: PreparedDataset) -> str:
    """What tables call prepared data: the paper's name for it, or the folder's."""
    return published_name(dataset) or data.resolve().name


def check_distinct(datasets: Sequence[Path]) -> None:
    """Make sure that runs on different data cannot get into each other's folders.

    Raises:
        ConfigError: Two folders have the same name.
    """
    names = [data.resolve().name for data in datasets]
    again = next((name for name in names if names.count(name) > 1), None)
    if again is not None:
        raise ConfigError(f"two folders of prepared data are called {again!r}; rename one", key="data")


def _candidates(data: Path, model: str, folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    return [folder / data.resolve().name / f"{model}.toml", folder / f"{model}.toml"]

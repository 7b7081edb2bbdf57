"""Reading what a run left behind: settings, history, metrics, ranks and example sessions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, NonNegativeInt

from mkmsr.config import StrictModel, validate
from mkmsr.errors import DataError
from mkmsr.evaluation.ranks import RankTable
from mkmsr.runtime.events import EpochRecord
from mkmsr.training.checkpoint import CHECKPOINT_FILE, CHECKPOINT_FOLDER, read_history


class _Document(StrictModel):
    """What a table reads of an evaluation document; it may hold more."""

    model_config = ConfigDict(extra="ignore")

    model: str
    split: str
    examples: NonNegativeInt
    candidates: NonNegativeInt
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    slices: dict[str, dict[str, float | None]]


_DOCUMENT_KEYS = tuple(_Document.model_fields)


@dataclass(frozen=True)
class EvaluatedRun:
    """One evaluation to be shown or compared.

    Args:
        label: What tables call it: the model's name until something more is needed to tell two runs apart.
        document: The evaluation document, see `mkmsr.evaluation.document`.
        ranks: Its ranks, or None where only the document was kept; such a run takes no part in paired tests.
        path: Where it was read from; None for a document given as data.
        fitted_on: What the model learnt from, "train" or "train and validation"; None where nobody says.
        settings: Settings of model and training as JSON; None where nobody says.
    """

    label: str
    document: Mapping[str, Any]
    ranks: RankTable | None = None
    path: Path | None = None
    fitted_on: str | None = None
    settings: str | None = None


@dataclass(frozen=True)
class RunFolder:
    """The files of one run that a report needs; what is not there is empty.

    `run` is its evaluation on the test split, or on validation where test was not evaluated.
    """

    folder: Path
    run: EvaluatedRun
    metrics: Mapping[str, Any]
    config: str
    history: tuple[EpochRecord, ...]
    examples: Mapping[str, Any]


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run left a checkpoint behind, of any of its fits."""
    return any((fit / CHECKPOINT_FOLDER / CHECKPOINT_FILE).is_file() for fit in (folder, folder / "refit"))


def read_run_folder(folder: str | Path) -> RunFolder:
    """Read the run in a folder."""
    folder = Path(folder)
    run = read_evaluated_run(folder)
    config, history, examples = folder / "config.toml", folder / "history.jsonl", folder / "examples.json"
    return RunFolder(
        folder=folder,
        run=run,
        metrics=_read_json(folder / "metrics.json"),
        config=_read_text(config) if config.is_file() else "",
        history=read_history(history) if history.is_file() else (),
        examples=_read_json(examples) if examples.is_file() else {},
    )


def read_evaluated_run(path: str | Path) -> EvaluatedRun:
    """Return the evaluation in a run folder, in its `metrics.json`, or in a file that `mkmsr evaluate --json` printed.

    Ranks are read from `ranks.parquet` beside `metrics.json`, or from `NAME.parquet` beside `NAME.json`; they must be
    those of the document.
    """
    path = Path(path)
    file = path / "metrics.json" if path.is_dir() else path
    _check_finished(path)
    content = _read_json(file)
    document = evaluation_of(content, file)
    ranks = file.with_name("ranks.parquet") if file.name == "metrics.json" else file.with_suffix(".parquet")
    table = RankTable.load(ranks) if ranks.is_file() else None
    if table is not None and len(table) != document["examples"]:
        what = f"{len(table)} examples, not {document['examples']}"
        raise DataError(f"the ranks beside it are of another evaluation: {what}", path=file)
    settings = json.dumps(content["config"], sort_keys=True) if "config" in content else None
    return EvaluatedRun(str(document["model"]), document, table, path, content.get("fitted_on"), settings)


def evaluation_of(content: Mapping[str, Any], path: Path | None = None) -> Mapping[str, Any]:
    """Return the evaluation document in a run's metrics (test before validation), or the content if it is one."""
    for candidate in (content, content.get("test"), content.get("validation")):
        if isinstance(candidate, Mapping) and all(key in candidate for key in _DOCUMENT_KEYS):
            validate(_Document, candidate, path=path)
            return candidate
    expected = f"the metrics of a run or of `mkmsr evaluate --json` with the keys {', '.join(_DOCUMENT_KEYS)}"
    raise DataError(f"no evaluation in it; expected {expected}", path=path)


def _check_finished(path: Path) -> None:
    """Make sure that a folder is not one of a run without results."""
    if (path / "metrics.json").is_file():
        return
    if (path / "bundle.json").is_file():
        raise DataError(f"is the model of a run; the run itself is {path.parent}", path=path)
    if (path / "config.toml").is_file():
        raise DataError("holds a run that is not finished; `mkmsr train ... --resume` goes on with it", path=path)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError("no such file; `mkmsr train ... --out RUN` writes a run folder", path=path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as text: {error}", path=path) from None


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON: {error}", path=path) from None
    if not isinstance(content, dict):
        raise DataError(f"expected one JSON object, found {type(content).__name__}", path=path)
    return content

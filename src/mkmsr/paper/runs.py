"""The runs that a table stands on: restored from kept results, trained where they are missing, and kept again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mkmsr.data.dataset import PreparedDataset
from mkmsr.paper.kept import NOTHING_KEPT, keep_run, restore_run
from mkmsr.runs.grid import GridRun, run_grid
from mkmsr.runs.jobs import JobOutcome
from mkmsr.runtime.events import Listener

__all__ = ["carry_out"]

_logger = logging.getLogger(__name__)


def carry_out(
    plans: Mapping[Path, Sequence[GridRun]],
    *,
    taken_from: Path | None,
    keep: Path | None,
    train: bool,
    workers: int,
    device: str,
    listener: Listener,
) -> tuple[dict[Path, str], tuple[JobOutcome, ...]]:
    """Finish the runs of a plan for each dataset as far as asked for; the arguments are those of `reproduce_table_2`.

    Returns:
        Folders of the runs that are still missing and why, and the runs that failed.
    """
    runs = [run for plan in plans.values() for run in plan]
    missing = _restored(plans, taken_from)
    failures: tuple[JobOutcome, ...] = ()
    if train:
        outcomes = run_grid(runs, workers=workers, device=device, listener=listener)
        failures = tuple(outcome for outcome in outcomes if outcome.status == "failed")
        missing = {outcome.job.folder: outcome.reason for outcome in failures}
    if keep is not None:
        for run in (run for run in runs if run.folder not in missing):
            keep_run(run, keep)
    return missing, failures


def _restored(plans: Mapping[Path, Sequence[GridRun]], folder: Path | None) -> dict[Path, str]:
    """Restore what is kept of the runs that are not there; the runs that are missing then, and why."""
    missing: dict[Path, str] = {}
    for data, plan in plans.items():
        dataset = PreparedDataset.load(data)
        for run in plan:
            if not run.job().is_finished:
                reason = restore_run(run, dataset, folder) if folder is not None else "not trained yet"
                missing |= {run.folder: reason} if reason is not None else {}
                if reason not in (None, NOTHING_KEPT) and folder is not None:
                    _logger.warning("%s", reason)
    return missing

"""RankTable: one row an example. Every metric, slice and significance test is a function of this one table."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mkmsr.data.dataset import EvaluationSplit
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.metrics import DEFAULT_KS, example_values, metric_names
from mkmsr.runtime.files import atomic_write

SLICES: Mapping[str, str] = {
    "repeat": "the next item is already in the prefix",
    "new_item": "the next item occurs in no session before this split",
    "seen": "the next item was seen before this split and is not in the prefix",
}
"""Names of the slices and what each holds. A new item that its session repeats is in both `repeat` and `new_item`."""

_COLUMNS: Mapping[str, type[np.generic]] = {
    "rank": np.int32,
    "target": np.int32,
    "session": np.int32,
    "prefix_length": np.int32,
    "is_new_item": np.bool_,
    "is_repeat": np.bool_,
}


@dataclass(frozen=True)
class RankTable:
    """Where each example's true next item was ranked, and what kind of example it is.

    Args:
        rank: Conservative rank of the target among the whole catalogue, 1 for the best. Shape [n], int32.
        target: Item index of the next event. Shape [n], int32.
        session: Row of the split's session table. Shape [n], int32.
        prefix_length: Events in the prefix. Shape [n], int32.
        is_new_item: Whether the target occurs in no session before the split. Shape [n], bool.
        is_repeat: Whether the target is already in the prefix. Shape [n], bool.
    """

    rank: NDArray[np.int32]
    target: NDArray[np.int32]
    session: NDArray[np.int32]
    prefix_length: NDArray[np.int32]
    is_new_item: NDArray[np.bool_]
    is_repeat: NDArray[np.bool_]

    def __post_init__(self) -> None:
        assert self.rank.ndim == 1
        assert all(getattr(self, each.name).shape == self.rank.shape for each in fields(self))

    def __len__(self) -> int:
        return len(self.rank)

    @classmethod
    def of_split(cls, rank: NDArray[np.integer], split: EvaluationSplit) -> RankTable:
        """Return the table of ranks given in the order of a split's examples."""
        examples = split.examples
        return cls(
            rank=rank.astype(np.int32),
            target=examples.targets.astype(np.int32),
            session=examples.session.astype(np.int32),
            prefix_length=examples.lengths.astype(np.int32),
            is_new_item=~split.seen[examples.targets],
            is_repeat=examples.target_in_prefix(),
        )

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.integer]) -> RankTable:
        """Return the chosen rows."""
        return RankTable(**{each.name: getattr(self, each.name)[chosen] for each in fields(self)})

    def metrics(self, ks: Sequence[int] = DEFAULT_KS) -> dict[str, float]:
        """Return the mean over examples, at least one, of each metric, 0..1: `{"hit@5": .., "mrr@5": .., ...}`."""
        if len(self) == 0:
            raise EvaluationError("no examples to average over: no session of this split has a prefix and a next item")
        means = example_values(self.rank, ks).mean(axis=0)
        return dict(zip(metric_names(ks), means.tolist(), strict=True))

    def slices(self) -> dict[str, RankTable]:
        """Return the rows of each slice of `SLICES`; a slice may be empty."""
        seen = ~self.is_new_item & ~self.is_repeat
        return {"repeat": self.rows(self.is_repeat), "new_item": self.rows(self.is_new_item), "seen": self.rows(seen)}

    def check_same_examples(self, other: RankTable) -> None:
        """Make sure that two tables rank the same examples in the same order, so that they can be compared in pairs."""
        if len(self) != len(other):
            raise EvaluationError(f"the runs ranked different examples: {len(self)} against {len(other)}")
        for name in ("session", "prefix_length", "target"):
            differs = getattr(self, name) != getattr(other, name)
            if differs.any():
                row = int(differs.argmax())
                raise EvaluationError(
                    f"the runs ranked different examples: {int(differs.sum())} of {len(self)} rows differ in {name}, "
                    f"the first is row {row} ({getattr(self, name)[row]} against {getattr(other, name)[row]}); "
                    "evaluate both on the same prepared data and split"
                )

    def save(self, path: str | Path) -> None:
        """Write the table as Parquet; an old file stays intact until the new one is whole."""
        frame = pl.DataFrame({each.name: getattr(self, each.name) for each in fields(self)})
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        atomic_write(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> RankTable:
        """Read a table that `save` wrote.

        Raises:
            EvaluationError: The file is missing, is not Parquet, lacks a column, or holds impossible values.
        """
        frame = _read_parquet(Path(path))
        missing = [name for name in _COLUMNS if name not in frame.columns]
        if missing:
            raise EvaluationError(f"{path}: no column {missing[0]!r}; a table of ranks has {', '.join(_COLUMNS)}")
        columns: dict[str, Any] = {name: _column(frame[name], path) for name in _COLUMNS}
        for name in ("rank", "target", "prefix_length"):
            if len(frame) and int(columns[name].min()) < 1:
                raise EvaluationError(f"{path}: {name} must be at least 1, found {int(columns[name].min())}")
        return cls(**columns)


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path.read_bytes())
    except FileNotFoundError:
        raise EvaluationError(f"{path}: no such file; `mkmsr evaluate --out` and `mkmsr train` write one") from None
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise EvaluationError(f"{path}: not a table of ranks in Parquet form: {error}") from None


def _column(series: pl.Series, path: str | Path) -> NDArray[Any]:
    is_flag = _COLUMNS[series.name] is np.bool_
    fits = series.dtype == pl.Boolean if is_flag else series.dtype.is_integer()
    values = series.cast(pl.Boolean if is_flag else pl.Int32, strict=False) if fits else series
    if not fits or values.null_count():
        wanted = "true or false" if is_flag else "whole numbers below 2^31"
        raise EvaluationError(f"{path}: column {series.name!r} must hold {wanted} without gaps, found {series.dtype}")
    return values.to_numpy(writable=True)

"""Intervals and paired tests by bootstrap over sessions.

The examples of one session share their prefixes and its user's intent, so they are not independent: whole sessions are
drawn with replacement, never single examples. Everything works on sums per session, so that a resample is one row of a
matrix product. Dimension letters: S sessions, m metrics, b resamples of a chunk.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from mkmsr.errors import EvaluationError
from mkmsr.evaluation.metrics import DEFAULT_KS, example_values, metric_names
from mkmsr.evaluation.ranks import RankTable

_INTERVAL = [(1 - 0.95) / 2, (1 + 0.95) / 2]
"""The quantiles between which 95 % of the resamples are."""
_RESOLVED = (1.9600 + 0.8416) / (2 * 1.9600)
"""Smallest difference that a test at 5 % finds with a power of 80 %, in widths of an interval of 95 %."""
_CHUNK_DRAWS = 2**21
"""Sessions drawn at a time: a resample's counts are then made and used while they are in the cache."""


@dataclass(frozen=True)
class PairedDifference:
    """How much better one run is than another on the same examples: first minus second, -1..1, from `low` to `high`.

    The two-sided p-value is the smallest share outside of an interval that does not hold zero.
    """

    difference: float
    low: float
    high: float
    p_value: float

    @property
    def resolution(self) -> float:
        """The smallest true difference that such a test, at a level of 5 %, finds four times in five."""
        return _RESOLVED * (self.high - self.low)

    def to_json(self) -> dict[str, float]:
        """Return the numbers as plain data."""
        return {**asdict(self), "resolution": self.resolution}


def bootstrap_intervals(
    table: RankTable, ks: Sequence[int] = DEFAULT_KS, *, samples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return each metric's percentile interval over resamples of sessions: `{"hit@20": (low, high)}`, 0..1."""
    sums_Sm, counts_S = _session_sums(table, example_values(table.rank, ks))
    means = _resampled_means(sums_Sm, counts_S, samples, seed)
    low, high = np.quantile(means, _INTERVAL, axis=0)
    return {name: (float(low[column]), float(high[column])) for column, name in enumerate(metric_names(ks))}


def paired_differences(
    first: RankTable,
    second: RankTable,
    ks: Sequence[int] = DEFAULT_KS,
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> dict[str, PairedDifference]:
    """Return the difference of each metric between two runs over the same examples, first minus second.

    Both runs are resampled together: the same sessions, drawn once, so that what is hard for both cancels out. The
    p-value inverts the interval, and is never below 2 / (samples + 1). Tables of other examples raise EvaluationError.
    """
    first.check_same_examples(second)
    values = example_values(first.rank, ks) - example_values(second.rank, ks)
    sums_Sm, counts_S = _session_sums(first, values)
    resampled = _resampled_means(sums_Sm, counts_S, samples, seed)
    low, high = np.quantile(resampled, _INTERVAL, axis=0)
    below, above = (resampled <= 0).sum(axis=0), (resampled >= 0).sum(axis=0)
    p_values = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (samples + 1))
    differences = values.mean(axis=0)
    return {
        name: PairedDifference(*(float(each[column]) for each in (differences, low, high, p_values)))
        for column, name in enumerate(metric_names(ks))
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of tests made, in the given order.

    The i-th smallest of m is multiplied by m - i + 1, then made at least as large as those before it.

    Source: Holm, A simple sequentially rejective multiple test procedure (1979).
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    factors = np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors)) if len(given) else given
    return [float(each) for each in adjusted]


def corrected_by_holm(raw: Sequence[Mapping[str, PairedDifference]]) -> list[dict[str, PairedDifference]]:
    """Return the same differences with p-values corrected by Holm for all of them together."""
    adjusted = iter(holm([found.p_value for each in raw for found in each.values()]))
    return [{name: replace(found, p_value=next(adjusted)) for name, found in each.items()} for each in raw]


def pooled(tables: Sequence[RankTable]) -> RankTable:
    """Return the rows of one model's runs with several seeds over the same examples, under one another.

    Means are then means over seeds, and resampling draws a session with all its seeds: intervals hold what other
    sessions would change, and nothing of what other seeds would.
    """
    for table in tables[1:]:
        tables[0].check_same_examples(table)
    return RankTable(
        **{each.name: np.concatenate([getattr(table, each.name) for table in tables]) for each in fields(RankTable)}
    )


def pooled_difference(
    first: RankTable, second: RankTable, metric: str, *, samples: int = 10_000, seed: int = 0
) -> PairedDifference:
    """Return the difference of one metric between two pooled tables, whose numbers of seeds may differ."""
    rows = math.lcm(len(first), len(second))  # Repeated up to there, each row of one has a partner in the other.
    one, other = (pooled([table] * (rows // len(table))) for table in (first, second))
    return paired_differences(one, other, (int(metric.partition("@")[2]),), samples=samples, seed=seed)[metric]


def _session_sums(table: RankTable, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of each column over each session's examples [S, m], and how many examples each session has [S]."""
    if len(table) == 0:
        raise EvaluationError("no examples to resample")
    sessions, row, counts = np.unique(table.session, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sessions), values.shape[1]))
    np.add.at(sums, row, values)
    return sums, counts.astype(np.float64)


def _resampled_means(
    sums_Sm: NDArray[np.float64], counts_S: NDArray[np.float64], samples: int, seed: int
) -> NDArray[np.float64]:
    """Mean per example of each column in each resample of as many sessions as there are. Shape [samples, m]."""
    columns = np.column_stack([sums_Sm, counts_S])
    totals = np.concatenate([times_bS @ columns for times_bS in _resamples(len(counts_S), samples, seed)])
    means: NDArray[np.float64] = totals[:, :-1] / totals[:, -1:]
    return means


def _resamples(sessions: int, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each session is drawn in each resample: a multinomial, by counting draws. Shape [b, S] a chunk."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_DRAWS // sessions)
    for begin in range(0, samples, chunk):
        rows = min(chunk, samples - begin)
        drawn = generator.integers(0, sessions, size=(rows, sessions), dtype=np.int64)
        drawn += np.arange(rows)[:, None] * sessions
        yield np.bincount(drawn.ravel(), minlength=rows * sessions).reshape(rows, sessions).astype(np.float64)

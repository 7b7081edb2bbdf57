"""What recommendation lists are like besides right or wrong: how much of the catalogue they show, how popular it is.

Dimension letters: n examples, K list length, V catalogue + 1 (column 0 is padding), B prefixes of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.data.batching import session_batches
from mkmsr.data.dataset import EvaluationSplit
from mkmsr.data.sessions import SessionTable
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.evaluator import check_examples
from mkmsr.evaluation.metrics import DEFAULT_KS
from mkmsr.evaluation.target_ranks import Ranked, largest_batch, scoring
from mkmsr.runtime.events import Listener, RankingDone, ignore
from mkmsr.runtime.files import atomic_file

__all__ = ["LIST_METRICS", "list_metrics", "save_lists", "share_of_sessions", "top_lists"]

Best: TypeAlias = Callable[[Tensor, int], Tensor]
"""The k best columns of each row of scores [B, V], best first: [B, K]."""

LIST_METRICS: Mapping[str, str] = {
    "coverage": "share of the catalogue that is in some list",
    "gini": "how unequally lists show items: 0 all alike, 1 always the same few",
    "popularity_lift": "how much more popular the listed items are than those of the sessions: 0 alike, 1 twice",
    "novelty": "mean of -log2 of the share of earlier sessions that hold a listed item",
}
"""Names of the metrics, and what each says."""


def top_lists(
    model: Ranked, split: EvaluationSplit, k: int, best: Best, *, batch_size: int = 512, listener: Listener = ignore
) -> NDArray[np.int32]:
    """Return the k items that a model ranks highest for each example, best first. Shape [n, K], int32.

    Args:
        model: A model, or any function from a batch to scores [B, V].
        split: The examples.
        k: Items of a list.
        best: How a row of scores becomes a list, such as `mkmsr.recommend.ranker.top`.
        batch_size: Examples scored at a time, at most.
        listener: Told `RankingDone` after each batch.

    Raises:
        EvaluationError: The split has no examples, or the catalogue has fewer than k items.
    """
    examples, width = check_examples(split).examples, len(split.seen)
    if not 1 <= k < width:
        raise EvaluationError(f"lists of {k} items need a catalogue of as many; found {width - 1}")
    lists_nK = np.empty((len(examples), k), np.int32)
    done = 0
    with scoring(model) as (score, device):
        for batch in session_batches(examples, largest_batch(model, batch_size, width)):
            scores_BV = score(batch.to(device))
            scores_BV[:, 0] = -np.inf
            lists_nK[done : done + len(batch)] = best(scores_BV, k).cpu().numpy()
            done += len(batch)
            listener(RankingDone(done, len(examples)))
    return lists_nK


def save_lists(path: str | Path, lists_nK: NDArray[np.integer], items: Vocabulary) -> None:
    """Write lists as a Parquet file with the columns `example` (from 0), `rank` (from 1) and `item` (its id)."""
    import polars as pl

    count, k = lists_nK.shape
    frame = pl.DataFrame(
        {
            "example": np.repeat(np.arange(count, dtype=np.int32), k),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), count),
            "item": pl.Series(items.ids)[lists_nK.ravel() - 1],
        }
    )
    with atomic_file(path) as part:
        frame.write_parquet(part)


def share_of_sessions(sessions: SessionTable, width: int) -> NDArray[np.float64]:
    """Return the share of sessions that hold each item, 0..1: how popular it is. Shape [V = width]."""
    pairs = np.unique(sessions.session_of_event.astype(np.int64) * width + sessions.items)
    return np.bincount(pairs % width, minlength=width) / max(len(sessions), 1)


def list_metrics(
    lists_nK: NDArray[np.integer], split: EvaluationSplit, share_V: NDArray[np.floating], ks: Sequence[int] = DEFAULT_KS
) -> dict[str, float]:
    """Return each metric of `LIST_METRICS` at each length, such as `coverage@20`.

    With p(i) the share of earlier sessions that hold item i, and x(i) the number of lists that do, over the V - 1 items
    of the catalogue:

        coverage        = items with x > 0 / (V - 1)
        gini            = sum over i of (2 i - V) x(i) / ((V - 1) sum x),   x in ascending order, i from 1
        popularity_lift = mean over lists of their mean p / mean over prefixes of their mean p - 1
        novelty         = mean over all lists of -log2 p(i); an item of no earlier session counts as if one held it

    Source: gini as LensKit's `ListGini`; popularity lift of Abdollahpouri et al., The unfairness of popularity bias in
    recommendation (2019), with all visitors in one group; novelty as RecTools' `MeanInvUserFreq`, with sessions for
    users.

    Args:
        lists_nK: Item indexes, best first, as `top_lists` gives them.
        split: The examples that the lists are for.
        share_V: p, 0..1; entry 0 is no item. Shape [V].
        ks: Lengths of the lists, none above K.

    Raises:
        EvaluationError: There are no lists, or none as long as asked for.
    """
    if not len(lists_nK) or not ks or max(ks) > lists_nK.shape[1]:
        raise EvaluationError(f"needs lists of {max(ks, default=1)} items, found lists of shape {lists_nK.shape}")
    width = len(share_V)
    surprise_V = -np.log2(np.where(share_V > 0, share_V, share_V[share_V > 0].min(initial=1.0)))
    usual = _of_prefixes(share_V, split)
    weights = 2 * np.arange(1, width) - width
    found: dict[str, float] = {}
    for k in ks:
        items = lists_nK[:, :k].ravel()
        shown = np.sort(np.bincount(items, minlength=width)[1:])
        found |= {
            f"coverage@{k}": float((shown > 0).mean()),
            f"gini@{k}": float(weights @ shown / ((width - 1) * shown.sum())),
            f"popularity_lift@{k}": float(share_V[items].mean() / usual - 1) if usual else math.inf,
            f"novelty@{k}": float(surprise_V[items].mean()),
        }
    return found


def _of_prefixes(values_V: NDArray[np.floating], split: EvaluationSplit) -> float:
    """Mean over prefixes of the mean value of their events' items."""
    examples = split.examples
    sums = np.concatenate([[0.0], np.cumsum(values_V[examples.sessions.items])])
    return float(((sums[examples.end] - sums[examples.begin]) / examples.lengths).mean())

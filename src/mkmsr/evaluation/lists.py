"""What recommendation lists are like besides right or wrong: how much of the catalogue they show, how popular it is.

Dimension letters: n examples, K list length, V catalogue + 1 (column 0 is padding), B prefixes of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.data.batching import session_batches
from mkmsr.data.dataset import EvaluationSplit
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import SessionTable, ranges
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.evaluator import check_examples
from mkmsr.evaluation.metrics import DEFAULT_KS, conservative_ranks
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.target_ranks import Ranked, largest_batch, scoring
from mkmsr.models.capabilities import Likelihood
from mkmsr.runtime.events import Listener, RankingDone, ignore
from mkmsr.runtime.files import atomic_file

Best: TypeAlias = Callable[[Tensor, int], Tensor]
"""The k best columns of each row of scores [B, V], best first: [B, K]."""

LIST_METRICS: Mapping[str, str] = {
    "coverage": "share of the catalogue that is in some list",
    "gini": "how unequally lists show items: 0 all alike, 1 always the same few",
    "popularity_lift": "how much more popular the listed items are than those of the sessions: 0 alike, 1 twice",
    "novelty": "mean of -log2 of the share of earlier sessions that hold a listed item",
    "diversity": "how little two items of a list share: 0 all attributes, 1 none",
}
"""Names of the metrics, and what each says; the last one needs attributes."""
_AT_ONCE = 20_000
"""Lists whose attributes are compared at a time."""


@dataclass(frozen=True)
class TopLists:
    """The best items of every example, with what the same pass over the scores tells.

    Args:
        items: Item indexes, best first. Shape [n, K], int32.
        ranks: Where the targets were ranked, as `evaluate` finds them.
        log_p: Log probability of each target; None where the model's scores are none. Shape [n].
        log_p_listed: The same of each listed item. Shape [n, K].
    """

    items: NDArray[np.int32]
    ranks: RankTable
    log_p: NDArray[np.float64] | None = None
    log_p_listed: NDArray[np.float64] | None = None


def top_lists(
    model: Ranked, split: EvaluationSplit, k: int, best: Best, *, batch_size: int = 512, listener: Listener = ignore
) -> TopLists:
    """Return the k items that a model ranks highest for each example, and its ranks, in one pass.

    `best` says how a row of scores becomes a list, such as `mkmsr.recommend.ranker.top`; the rest is as of `evaluate`.
    More than the catalogue holds is an EvaluationError.
    """
    examples, width = check_examples(split).examples, len(split.seen)
    if not 1 <= k < width:
        raise EvaluationError(f"lists of {k} items need a catalogue of as many; found {width - 1}")
    lists_nK, ranks_n = np.empty((len(examples), k), np.int32), np.empty(len(examples), np.int32)
    # A model with its own likelihood gives log probabilities as scores; those of others are on no common scale.
    scored: object = model
    log_p_n1K = np.empty((len(examples), 1 + k)) if isinstance(scored, Likelihood) else None
    done = 0
    with scoring(model) as (score, device):
        for batch in session_batches(examples, largest_batch(model, batch_size, width)):
            rows = slice(done, done + len(batch))
            on_device = batch.to(device)
            scores_BV = score(on_device)
            scores_BV[:, 0] = -np.inf
            listed_BK = best(scores_BV, k)
            lists_nK[rows] = listed_BK.cpu().numpy()
            ranks_n[rows] = conservative_ranks(scores_BV, on_device.targets).cpu().numpy()
            if log_p_n1K is not None:
                columns_B1K = torch.cat([on_device.targets[:, None], listed_BK], dim=1)
                log_p_n1K[rows] = scores_BV.gather(1, columns_B1K).cpu().numpy()
            done += len(batch)
            listener(RankingDone(done, len(examples)))
    ranks = RankTable.of_split(ranks_n, split)
    if log_p_n1K is None:
        return TopLists(lists_nK, ranks)
    return TopLists(lists_nK, ranks, log_p_n1K[:, 0], log_p_n1K[:, 1:])


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
    lists_nK: NDArray[np.integer],
    split: EvaluationSplit,
    share_V: NDArray[np.floating],
    ks: Sequence[int] = DEFAULT_KS,
    knowledge: KnowledgeGraph | None = None,
) -> dict[str, float]:
    """Return each metric of `LIST_METRICS` at each length, such as `coverage@20`; diversity of two items or more.

    With p(i) the share of earlier sessions that hold item i, x(i) the number of lists that do, and A(i) the attributes
    of item i, over the V - 1 items of the catalogue:

        coverage        = items with x > 0 / (V - 1)
        gini            = sum over i of (2 i - V) x(i) / ((V - 1) sum x),   x in ascending order, i from 1
        popularity_lift = mean over lists of their mean p / mean over prefixes of their mean p - 1
        novelty         = mean over all lists of -log2 p(i); an item of no earlier session counts as if one held it
        diversity       = 1 - mean over lists of the mean over pairs of |A(i) & A(j)| / sqrt(|A(i)| |A(j)|)

    `share_V` is p, whose entry 0 is no item; `lists_nK` are as `top_lists` gives them, none shorter than asked for.

    Source: gini as LensKit's `ListGini`; popularity lift of Abdollahpouri et al., The unfairness of popularity bias in
    recommendation (2019), with all visitors in one group; novelty as RecTools' `MeanInvUserFreq`, with sessions for
    users; diversity as its `IntraListDiversity`, with the cosine distance of attributes.
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
        if knowledge is not None and len(knowledge) and k > 1:
            found[f"diversity@{k}"] = 1 - _similarity(lists_nK[:, :k], knowledge)
    return found


def _similarity(lists_nK: NDArray[np.integer], knowledge: KnowledgeGraph) -> float:
    """Mean over lists of the mean cosine of two items' attributes; an item without any is like no other.

    Over unit vectors u of a list, the sum over pairs is (|sum of u|^2 - sum of |u|^2) / 2.
    """
    count, k = lists_nK.shape
    counts_V = np.diff(knowledge.item_offsets)
    unit_V = 1 / np.sqrt(np.maximum(counts_V, 1))
    total = 0.0
    for begin in range(0, count, _AT_ONCE):
        items = lists_nK[begin : begin + _AT_ONCE].ravel()
        triples, _ = ranges(knowledge.item_offsets[items], knowledge.item_offsets[items + 1])
        entity, place = knowledge.triples[triples, 2], np.repeat(np.arange(len(items)), counts_V[items])
        _, pair = np.unique((place // k) * (int(entity.max(initial=0)) + 1) + entity, return_inverse=True)
        total += float(np.square(np.bincount(pair, unit_V[items[place]])).sum() - np.count_nonzero(counts_V[items]))
    return float(total / (count * k * (k - 1)))


def _of_prefixes(values_V: NDArray[np.floating], split: EvaluationSplit) -> float:
    """Mean over prefixes of the mean value of their events' items."""
    examples = split.examples
    sums = np.concatenate([[0.0], np.cumsum(values_V[examples.sessions.items])])
    return float(((sums[examples.end] - sums[examples.begin]) / examples.lengths).mean())

"""The best items of batches of sessions that are indexes already: what lists for millions of sessions are made with.

Dimension letters: B sessions, V catalogue + 1, K list length.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.data.batching import SessionBatch
from mkmsr.errors import EvaluationError
from mkmsr.models.base import Scorer
from mkmsr.recommend.filters import Facts, Filters, allowed_items, capped_values
from mkmsr.recommend.ranking import best_columns, top
from mkmsr.recommend.session_input import wanted_operation

__all__ = ["BatchRanker", "model_scores", "sessions_at_once"]

_SCORES_AT_ONCE = 16_000_000
_MOST_SESSIONS_AT_ONCE = 256


class BatchRanker:
    """Ranks for sessions in indexes, with the same filters for all of them.

    Args:
        bundle: The model with its vocabularies.
        score: Its scorer.
        k: Items a list, at least 1.
        filters: What the lists may hold.
        facts: What filters see and the model does not.
        operation: Operation that the next event is to have; None is any.
        device: Where the model computes.

    Raises:
        ConfigError: A filter names what is not known, or the model takes no wanted operation.
        UnknownIdError: There is no such operation.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        score: Scorer,
        *,
        k: int,
        filters: Filters,
        facts: Facts,
        operation: str | None,
        device: torch.device,
    ):
        self.bundle, self.k = bundle, k
        self._score, self._device = score, device
        self._forbidden_V = ~torch.from_numpy(allowed_items(bundle, filters, facts)).to(device)
        self._caps = capped_values(bundle, filters, facts)
        self._wanted = wanted_operation(bundle, operation)
        self.batch_size = sessions_at_once(len(self._forbidden_V))

    def rank(self, batch: SessionBatch) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The lists of a batch.

        Returns:
            Item indexes, best first, 0 where nothing is left, and their scores. Both of shape [B, K].

        Raises:
            EvaluationError: The model gave scores that are not numbers.
        """
        if self._wanted is not None:
            batch = replace(batch, wanted=torch.full((len(batch),), self._wanted))
        return self._best(model_scores(self.bundle, self._score, batch.to(self._device)))

    def rank_by_popularity(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The list of a session without a known event. Both of shape [1, K]."""
        counts = self.bundle.item_counts
        return self._best(torch.from_numpy(counts / max(counts.sum(), 1))[None].to(self._device))

    def _best(self, scores_BV: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        scores_BV = scores_BV.masked_fill(self._forbidden_V, -torch.inf)
        k = min(self.k, scores_BV.shape[1])
        if self._caps:
            lists = best_columns(scores_BV, k, self._caps)
            columns_BK = torch.zeros((len(lists), k), dtype=torch.int64, device=scores_BV.device)
            for row, columns in enumerate(lists):
                columns_BK[row, : len(columns)] = torch.tensor(columns, dtype=torch.int64)
        else:
            columns_BK = top(scores_BV, k)
        best_BK = scores_BV.gather(1, columns_BK)  # Column 0 is forbidden, so that its score is -inf.
        columns_BK = columns_BK.masked_fill(best_BK == -torch.inf, 0)
        return columns_BK.cpu().numpy(), best_BK.float().cpu().numpy()


def model_scores(bundle: ModelBundle, score: Scorer, batch: SessionBatch) -> Tensor:
    """What the model says. Shape [B, V].

    Raises:
        EvaluationError: The scores are not numbers.
    """
    with torch.inference_mode():
        scores_BV = score(batch).float()
    if bool(scores_BV.isnan().any()):
        raise EvaluationError(f"the model {bundle.name!r} gave scores that are not numbers")
    return scores_BV


def sessions_at_once(columns: int) -> int:
    """How many sessions are scored together, for a catalogue of this size."""
    return max(1, min(_MOST_SESSIONS_AT_ONCE, _SCORES_AT_ONCE // columns))

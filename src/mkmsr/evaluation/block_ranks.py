"""Ranks by inner products, a block of the catalogue at a time, so that scores are compared while they are in the cache.

Dimension letters: B prefixes of a batch, D embedding size, V catalogue + 1 (column 0 is padding), W items of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.evaluation.metrics import check_finite, check_targets, conservative_ranks
from mkmsr.models.base import FactorisedModel

__all__ = ["BlockRanker"]

_CACHED_SCORES = 2**18
"""Scores of a block and a batch: 1 MiB, about a second-level cache."""
_NARROWEST = 256


class BlockRanker:
    """`conservative_ranks` of a model whose scores are inner products, without a [B, V] array.

    The target's score comes first, from a product of the batch's queries and targets; then every block is multiplied
    and compared. Both are the same sum, but a library may add it up in another order in the two products. So the
    target's own block is looked up too, and a row where the two differ is ranked once more from all of its scores.

    Args:
        model: The model, in evaluation mode.
        batch_size: B at most.
    """

    def __init__(self, model: FactorisedModel, batch_size: int):
        self._model = model
        self._items_VD = model.catalogue()
        self.width = max(_NARROWEST, _CACHED_SCORES // batch_size)
        # Contiguous D x W: a product with it is up to twice as fast as one with W x D transposed.
        self._blocks = [part.T.contiguous() for part in torch.split(self._items_VD, self.width)]

    @property
    def num_columns(self) -> int:
        """V."""
        return len(self._items_VD)

    def ranks(self, batch: SessionBatch) -> Tensor:
        """Rank of each target. Shape [B], int32; errors as `conservative_ranks`."""
        targets_B = batch.targets
        check_targets(targets_B, self.num_columns)
        queries_BD = self._model.queries(batch)
        score_B1 = (queries_BD @ self._items_VD[targets_B].T).diagonal()[:, None].contiguous()
        counts_B = torch.zeros_like(targets_B, dtype=torch.int32)
        highest_B, own_B = torch.full_like(score_B1[:, 0], -torch.inf), torch.empty_like(score_B1[:, 0])
        scores_BW = queries_BD.new_empty(len(batch), self.width)
        order = targets_B.argsort()
        ends = torch.arange(1, len(self._blocks) + 1, device=targets_B.device) * self.width
        upto = [0, *torch.searchsorted(targets_B[order], ends).tolist()]
        for number, items_DW in enumerate(self._blocks):
            full = items_DW.shape[1] == self.width
            scores = torch.mm(queries_BD, items_DW, out=scores_BW if full else scores_BW.new_empty(0))
            if number == 0:
                scores[:, 0] = -torch.inf
            torch.maximum(highest_B, scores.amax(1), out=highest_B)
            counts_B += (scores >= score_B1).sum(1, dtype=torch.int32)
            here = order[upto[number] : upto[number + 1]]
            own_B[here] = scores[here, targets_B[here] - number * self.width]
        check_finite(highest_B, own_B)
        unsure = (own_B != score_B1[:, 0]).nonzero()[:, 0]
        if len(unsure):
            counts_B[unsure] = conservative_ranks(self._all_scores(queries_BD[unsure]), targets_B[unsure])
        return counts_B

    def _all_scores(self, queries_BD: Tensor) -> Tensor:
        scores_BV = torch.cat([queries_BD @ items_DW for items_DW in self._blocks], dim=1)
        scores_BV[:, 0] = -torch.inf
        return scores_BV

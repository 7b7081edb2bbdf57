"""Ranks of targets, batch by batch: by blocks of the catalogue where scores are inner products, else by all scores.

Dimension letters: B prefixes of a batch, D embedding size, V catalogue + 1 (column 0 is padding), W items of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.data.batching import SessionBatch, session_batches
from mkmsr.data.sessions import ExampleTable
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.metrics import check_finite, check_targets, conservative_ranks
from mkmsr.models.base import FactorisedModel, SessionModel
from mkmsr.models.capabilities import is_factorised
from mkmsr.runtime.events import Listener, RankingDone

Ranked = SessionModel | Callable[[SessionBatch], Tensor]
"""A model, or any function from a batch to scores [B, V]."""

_CACHED_SCORES = 2**18
"""Scores of a block and a batch: 1 MiB, about a second-level cache."""
_NARROWEST = 256
_MAX_SCORES = 2**24
_MAX_SCORES_OF_PROCESSOR = 2**22
"""Scores that exist at a time, where a model scores the whole catalogue at once: 64 MiB, on a processor 16 MiB. There
the system hands out larger arrays anew, page by page, in every operation, which takes longer than the product."""


def largest_batch(model: Ranked, wanted: int, width: int) -> int:
    """Return how many prefixes to rank at a time, at most `wanted`, over a catalogue of V = `width` columns."""
    if _ranks_in_blocks(model):
        return wanted
    scores = _MAX_SCORES_OF_PROCESSOR if _device(model).type == "cpu" else _MAX_SCORES
    return min(wanted, max(1, scores // width))


def rank_examples(
    model: Ranked, examples: ExampleTable, width: int, batch_size: int, listener: Listener
) -> NDArray[np.int32]:
    """Rank of each example's target, from scores with `width` columns; the listener is told after each batch."""
    ranks = np.empty(len(examples), dtype=np.int32)
    done = 0
    with _evaluating(model) as device:
        rank = _ranker(model, width, batch_size)
        for batch in session_batches(examples, batch_size):
            ranks[done : done + len(batch)] = rank(batch.to(device)).cpu().numpy()
            done += len(batch)
            listener(RankingDone(done, len(examples)))
    return ranks


@contextmanager
def scoring(model: Ranked) -> Iterator[tuple[Callable[[SessionBatch], Tensor], torch.device]]:
    """Yield what scores a batch, and the device that the batch must be on."""
    with _evaluating(model) as device:
        yield model.scorer() if isinstance(model, SessionModel) else model, device


class BlockRanker:
    """`conservative_ranks` of a model whose scores are inner products, without a [B, V] array.

    The target's score comes first, from a product of the batch's queries and targets; then every block is multiplied
    and compared. Both are the same sum, but a library may add it up in another order in the two products. So the
    target's own block is looked up too, and a row where the two differ is ranked once more from all of its scores.
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


def _ranker(model: Ranked, width: int, batch_size: int) -> Callable[[SessionBatch], Tensor]:
    """Return what gives the ranks of a batch's targets, [B], among V = `width` columns."""
    if _ranks_in_blocks(model):
        blocks = BlockRanker(model, batch_size)

        def rank_in_blocks(batch: SessionBatch) -> Tensor:
            _check_shape((len(batch), blocks.num_columns), len(batch), width)
            return blocks.ranks(batch)

        return rank_in_blocks
    scorer = model.scorer() if isinstance(model, SessionModel) else model

    def rank(batch: SessionBatch) -> Tensor:
        scores_BV = scorer(batch)
        _check_shape(tuple(scores_BV.shape), len(batch), width)
        return conservative_ranks(scores_BV, batch.targets)

    return rank


@contextmanager
def _evaluating(model: Ranked) -> Iterator[torch.device]:
    """A model in evaluation mode, without gradients, and then in the mode it was in; gives the device it is on."""
    with torch.inference_mode():
        if not isinstance(model, SessionModel):
            yield _device(model)
            return
        was_training = model.training
        model.eval()
        try:
            yield _device(model)
        finally:
            model.train(was_training)


def _ranks_in_blocks(model: Ranked) -> TypeGuard[FactorisedModel]:
    return is_factorised(model) and _device(model).type == "cpu"


def _device(model: Ranked) -> torch.device:
    tensors = (*model.parameters(), *model.buffers()) if isinstance(model, SessionModel) else ()
    return tensors[0].device if tensors else torch.device("cpu")


def _check_shape(found: tuple[int, ...], rows: int, width: int) -> None:
    if found != (rows, width):
        raise EvaluationError(
            f"scores must have one row a session and one column an item, padding included: "
            f"expected {(rows, width)}, found {found}"
        )

"""What gives the ranks of a batch's targets: blocks of the catalogue where scores are inner products, else all scores.

Dimension letters: B prefixes of a batch, V catalogue + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.block_ranks import BlockRanker
from mkmsr.evaluation.metrics import conservative_ranks
from mkmsr.models.base import FactorisedModel, SessionModel
from mkmsr.models.capabilities import is_factorised

__all__ = ["Ranked", "evaluating", "largest_batch", "ranker", "scoring"]

Ranked = SessionModel | Callable[[SessionBatch], Tensor]
"""A model, or any function from a batch to scores [B, V]."""

_MAX_SCORES = 2**24
_MAX_SCORES_OF_PROCESSOR = 2**22
"""Scores that exist at a time, where a model scores the whole catalogue at once: 64 MiB, on a processor 16 MiB. There
the system hands out larger arrays anew, page by page, in every operation, which takes longer than the product."""


def largest_batch(model: Ranked, wanted: int, width: int) -> int:
    """How many prefixes to rank at a time, at most `wanted`, over a catalogue of V = `width` columns."""
    if _ranks_in_blocks(model):
        return wanted
    scores = _MAX_SCORES_OF_PROCESSOR if _device(model).type == "cpu" else _MAX_SCORES
    return min(wanted, max(1, scores // width))


def ranker(model: Ranked, width: int, batch_size: int) -> Callable[[SessionBatch], Tensor]:
    """What gives the ranks of a batch's targets, [B], among V = `width` columns.

    Raises (when it is called):
        EvaluationError: Scores have another shape, or cannot be ranked.
    """
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
def evaluating(model: Ranked) -> Iterator[torch.device]:
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


@contextmanager
def scoring(model: Ranked) -> Iterator[tuple[Callable[[SessionBatch], Tensor], torch.device]]:
    """What scores a batch, and the device that the batch must be on."""
    with evaluating(model) as device:
        yield model.scorer() if isinstance(model, SessionModel) else model, device


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

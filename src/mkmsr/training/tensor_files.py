"""How the item table is stored while a model is trained: by columns where a whole catalogue's gradient meets it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mkmsr.layers.columns import store_by_columns, store_by_rows
from mkmsr.models.base import SessionModel
from mkmsr.models.capabilities import is_factorised
from mkmsr.training.config import TrainingConfig

__all__ = ["catalogue_by_columns"]


@contextmanager
def catalogue_by_columns(model: SessionModel, config: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Inside, the table that the model scores is stored by columns, see `mkmsr.layers.columns`; afterwards by rows.

    Only where that pays: on a processor, with Adam over whole tables and the exact loss of the whole catalogue at once,
    where items are scored by their vectors as they are. Those of length 1 would gain nothing by it.
    """
    optimiser, loss = config.optimiser, config.loss
    is_exact = loss.session == "cross-entropy" and not loss.catalogue_block
    is_adam = optimiser.name != "adagrad" and not optimiser.touched_rows
    table = _scored_weight(model) if is_exact and is_adam and device.type == "cpu" else None
    if table is None:
        yield
        return
    store_by_columns(table)
    try:
        yield
    finally:
        store_by_rows(table)


def _scored_weight(model: SessionModel) -> Tensor | None:
    """The weight that is the catalogue, if one is."""
    if not is_factorised(model):
        return None
    with torch.no_grad():
        catalogue_VD = model.catalogue()
    return next((each for each in model.parameters() if each is catalogue_VD), None)

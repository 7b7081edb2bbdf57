"""Ranks block by block against ranks from one array of scores, ties and rounding included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.metrics import conservative_ranks
from mkmsr.evaluation.target_ranks import BlockRanker
from mkmsr.models.base import FactorisedModel, ModelSizes

ITEMS, DIM = 1900, 16


class Vectors(FactorisedModel):
    """The query is the vector of the newest item; the first half of the catalogue is there twice."""

    def __init__(self, seed: int = 0):
        super().__init__(ModelSizes(ITEMS, 1))
        generator = torch.Generator().manual_seed(seed)
        half = torch.randn(ITEMS // 2, DIM, generator=generator)
        self.table = nn.Embedding.from_pretrained(torch.cat([torch.zeros(1, DIM), half, half]))

    def queries(self, batch: SessionBatch) -> Tensor:
        return self.table(batch.items[batch.last])

    def catalogue(self) -> Tensor:
        return self.table.weight


def batch_of(rows: int, targets: list[int] | None = None) -> SessionBatch:
    generator = torch.Generator().manual_seed(5)
    items = torch.randint(1, ITEMS + 1, (rows,), generator=generator)
    found = torch.randint(1, ITEMS + 1, (rows,), generator=generator) if targets is None else torch.tensor(targets)
    nothing = torch.zeros_like(items)
    return SessionBatch(items, nothing + 1, torch.arange(rows + 1), found, nothing, nothing - 1)


@pytest.mark.parametrize("batch_size", [1, 37, 512])
@torch.inference_mode()
def test_ranks_equal_those_of_one_array_with_every_item_tied_with_another(batch_size: int) -> None:
    model, batch = Vectors(), batch_of(batch_size)
    ranker = BlockRanker(model, batch_size)
    expected = conservative_ranks(model.score(batch), batch.targets)
    assert ranker.ranks(batch).tolist() == expected.tolist()


@torch.inference_mode()
def test_targets_at_the_edges_of_blocks_are_found() -> None:
    model = Vectors()
    ranker = BlockRanker(model, 2000)
    targets = [1, ranker.width - 1, ranker.width, ranker.width + 1, ITEMS]
    batch = batch_of(len(targets), targets)
    assert ranker.ranks(batch).tolist() == conservative_ranks(model.score(batch), batch.targets).tolist()


@torch.inference_mode()
def test_a_target_whose_two_products_differ_is_ranked_from_its_whole_row(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = Vectors(), batch_of(40)
    ranker = BlockRanker(model, 40)
    expected = ranker.ranks(batch).tolist()
    ranker._items_VD = ranker._items_VD + 1e-3  # The products of queries and targets now differ from the blocks'.
    asked = []
    whole = ranker._all_scores
    monkeypatch.setattr(ranker, "_all_scores", lambda queries: asked.append(len(queries)) or whole(queries))
    assert ranker.ranks(batch).tolist() == expected
    assert asked == [40]


@pytest.mark.parametrize(("value", "row"), [(float("nan"), 3), (float("inf"), 700)])
@torch.inference_mode()
def test_scores_that_are_not_finite_are_an_error(value: float, row: int) -> None:
    model = Vectors()
    model.table.weight[row] = value
    with pytest.raises(EvaluationError, match="scores must be finite"):
        BlockRanker(model, 8).ranks(batch_of(8))


@torch.inference_mode()
def test_a_target_that_is_no_item_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="targets must be item indexes from 1 to 1900"):
        BlockRanker(Vectors(), 2).ranks(batch_of(2, [5, 1901]))

"""Optimisers that move touched rows alone, against those that move whole tables."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mkmsr.config import validate
from mkmsr.training.config import OptimiserConfig, TrainingConfig
from mkmsr.training.optimisation import RowAdagrad, RowAdam, build_optimiser, clip_gradients
from mkmsr.training.trainer import fit
from tests.training.tiny import TinyModel, tiny_training

SIZE, DIM = 12, 3


class Tables(nn.Module):
    """A table whose rows are looked up, and a weight that is always used."""

    def __init__(self, *, sparse: bool):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Embedding(SIZE, DIM, sparse=sparse)
        self.map = nn.Parameter(torch.randn(DIM, generator=generator))
        with torch.no_grad():
            self.table.weight.copy_(torch.randn(SIZE, DIM, generator=generator))

    def loss(self, rows: Tensor) -> Tensor:
        return ((self.table(rows) @ self.map) - rows).square().mean()


def trained(
    optimiser: type[torch.optim.Optimizer], batches: list[list[int]], *, sparse: bool, **rest: object
) -> Tables:
    model = Tables(sparse=sparse)
    moves = optimiser(model.parameters(), lr=0.1, **rest)  # type: ignore[call-arg]
    for rows in batches:
        moves.zero_grad()
        model.loss(torch.tensor(rows)).backward()  # type: ignore[no-untyped-call]
        moves.step()
    return model


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("decay", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled_weight_decay": True}])
@pytest.mark.parametrize("fused", [False, True])
def test_where_every_row_is_touched_at_every_step_it_is_adam(decay: dict[str, float], *, fused: bool) -> None:
    batches = [[*range(SIZE), 3, 3], [*range(SIZE), 7], [*range(SIZE)]]
    dense = trained(torch.optim.Adam, batches, sparse=False, fused=fused, **decay)
    assert_equal(dense, trained(RowAdam, batches, sparse=True, fused=fused, **decay))


def test_a_row_stays_where_it_is_until_it_is_touched_again() -> None:
    once = trained(RowAdam, [[1, 2]], sparse=True)
    later = trained(RowAdam, [[1, 2], [5], [5, 6]], sparse=True)
    assert torch.equal(once.table.weight[[0, 1, 2, 3]], later.table.weight[[0, 1, 2, 3]])
    assert not torch.equal(once.table.weight[5], later.table.weight[5])


def test_a_table_may_get_dense_gradients_now_and_then() -> None:
    assert_equal(
        trained(torch.optim.Adam, [[1], [1, 4]], sparse=False, fused=True),
        trained(RowAdam, [[1], [1, 4]], sparse=False, fused=True),
    )


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("lr_decay", [0.0, 0.1])
def test_adagrad_on_touched_rows_is_adagrad(lr_decay: float, *, fused: bool) -> None:
    batches = [[1, 2, 2], [5, 1], [9]]
    dense = trained(torch.optim.Adagrad, batches, sparse=False, fused=fused, lr_decay=lr_decay)
    assert_equal(dense, trained(RowAdagrad, batches, sparse=True, fused=fused, lr_decay=lr_decay))


def test_adagrad_decays_the_rows_that_a_step_touches() -> None:
    batches = [[*range(SIZE), 3, 3], [*range(SIZE), 7]]
    dense = trained(torch.optim.Adagrad, batches, sparse=False, weight_decay=0.1)
    assert_equal(dense, trained(RowAdagrad, batches, sparse=True, weight_decay=0.1))


def test_clipping_measures_all_gradients_together_sparse_ones_too() -> None:
    clipped = []
    for sparse in (False, True):
        model = Tables(sparse=sparse)
        model.loss(torch.tensor([3, 11, 11, 3])).backward()  # type: ignore[no-untyped-call]
        clip_gradients(model.parameters(), 0.5)
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        clipped.append([each.to_dense() if each.is_sparse else each for each in gradients])
    torch.testing.assert_close(clipped[0], clipped[1])
    assert float(torch.cat([each.flatten() for each in clipped[1]]).norm()) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw", "adagrad"])
def test_a_fit_that_moves_touched_rows_learns(name: str) -> None:
    optimiser = {"name": name, "learning_rate": 0.1, "touched_rows": True, "clip_norm": 5.0}
    loss = {"session": "sampled-cross-entropy", "negatives": {"number": 10}}
    config = validate(TrainingConfig, {"batch_size": 16, "epochs": 3, "loss": loss, "optimiser": optimiser})
    result = fit(TinyModel(), tiny_training(), config, seed=0)
    losses = [record.train_loss for record in result.history]
    assert losses[0] is not None
    assert losses[-1] is not None
    assert losses[-1] < losses[0]


def test_the_setting_makes_the_gradients_of_item_tables_sparse_and_back() -> None:
    model = TinyModel()
    for touched in (True, False):
        build_optimiser(model, OptimiserConfig(touched_rows=touched))
        assert [each.sparse for each in (model.items, model.next_items, model.attributes)] == [touched, touched, False]

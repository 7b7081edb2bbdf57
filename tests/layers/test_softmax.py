"""The exact softmax over a catalogue against PyTorch's, also where a target is all but impossible."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mkmsr.layers.columns import store_by_columns
from mkmsr.layers.softmax import (
    SparseScores,
    blockwise_target_log_softmax,
    rounded_target_log_softmax,
    target_log_softmax,
)

_SESSIONS, _ITEMS, _DIM = 6, 40, 5


def plain(queries: Tensor, items: Tensor, targets: Tensor, extra: SparseScores | None) -> Tensor:
    """The definition, by PyTorch's own log_softmax."""
    scores = queries @ items.T
    if extra is not None:
        scores = scores.index_put((extra.rows, extra.columns), extra.values, accumulate=True)
    scores = scores.index_fill(1, torch.tensor([0]), float("-inf"))
    return scores.log_softmax(1).gather(1, targets[:, None])[:, 0]


def planted(spread: float) -> tuple[Tensor, Tensor, Tensor, SparseScores]:
    """Vectors so long that some targets' probabilities are far below the smallest number of 32 bits."""
    generator = torch.Generator().manual_seed(3)
    queries = torch.randn(_SESSIONS, _DIM, generator=generator) * spread
    items = torch.randn(_ITEMS, _DIM, generator=generator)
    targets = torch.randint(1, _ITEMS, (_SESSIONS,), generator=generator)
    rows, columns = torch.tensor([0, 2, 2, 5]), torch.tensor([3, 7, int(targets[2]), 1])
    extra = SparseScores(rows, columns, torch.tensor([1.5, 4.0, -2.0, 60.0]))
    return queries.requires_grad_(), items.requires_grad_(), targets, extra


@pytest.mark.parametrize("spread", [1.0, 100.0])
@pytest.mark.parametrize("with_extra", [False, True])
def test_values_and_gradients_are_those_of_the_plain_softmax(spread: float, *, with_extra: bool) -> None:
    queries, items, targets, extra = planted(spread)
    chosen = extra if with_extra else None
    if chosen is not None:
        chosen.values.requires_grad_()
    expected, found = plain(queries, items, targets, chosen), target_log_softmax(queries, items, targets, chosen)
    assert (found < -80).any() == (spread > 1)  # e^-80 is below what is taken as a probability.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    inputs = [queries, items] + ([chosen.values] if chosen is not None else [])
    weights = torch.linspace(0.5, 2.0, _SESSIONS)
    for mine, theirs in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spread", [1.0, 100.0])
@pytest.mark.parametrize("sampled", [False, True])
def test_what_is_added_item_by_item_counts_and_gets_a_gradient(spread: float, *, sampled: bool) -> None:
    queries, items, targets, extra = planted(spread)
    by_item = torch.linspace(-2, 2, _ITEMS * _SESSIONS).view(_ITEMS, _SESSIONS).requires_grad_()
    scores = (queries @ items.T + by_item.T).index_put((extra.rows, extra.columns), extra.values, accumulate=True)
    scores = scores.index_fill(1, torch.tensor([0]), float("-inf"))
    expected = scores.log_softmax(1).gather(1, targets[:, None])[:, 0]
    found = target_log_softmax(queries, items, targets, extra, by_item, sampled=sampled)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights, inputs = torch.linspace(0.5, 2.0, _SESSIONS), [queries, items, by_item]
    mine, theirs = (torch.autograd.grad((each * weights).sum(), inputs) for each in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_items_by_columns_give_the_same_and_have_a_gradient_by_columns() -> None:
    queries, items, targets, extra = planted(1.0)
    found = []
    for by_columns in (False, True):
        table = items.detach().clone()
        if by_columns:
            store_by_columns(table)
        query, table = queries.detach().clone().requires_grad_(), table.requires_grad_()
        result = target_log_softmax(query, table, targets, extra)
        found.append((result, *torch.autograd.grad(result.sum(), (query, table))))
    torch.testing.assert_close(found[0], found[1])
    assert found[1][2].stride() == (1, len(items))


def test_blocks_of_the_catalogue_give_the_same() -> None:
    queries, items, targets, _ = planted(100.0)
    found = blockwise_target_log_softmax(queries, items, targets, 7)
    torch.testing.assert_close(found, plain(queries, items, targets, None), rtol=1e-5, atol=1e-4)


def test_a_score_that_is_no_number_shows_in_the_result() -> None:
    queries, items, targets, _ = planted(1.0)
    with torch.no_grad():
        queries[1, 0] = float("nan")
    assert target_log_softmax(queries, items, targets).isnan().tolist() == [False, True, False, False, False, False]


def test_rounded_products_give_the_softmax_of_rounded_numbers_and_its_gradients() -> None:
    queries, items, targets, _ = planted(1.0)
    # What can be known exactly: the softmax of inner products of rounded vectors, its gradients taken by hand.
    rounded_items, rounded_queries = (each.detach().bfloat16().float() for each in (items, queries))
    scores = rounded_queries @ rounded_items.T
    scores[:, 0] = float("-inf")
    shares = scores.softmax(1)
    found = rounded_target_log_softmax(queries, items, targets)
    torch.testing.assert_close(found, shares.gather(1, targets[:, None])[:, 0].log(), rtol=0, atol=0.03)
    assert found.dtype == torch.float32
    residual = shares.scatter_add(1, targets[:, None], -torch.ones(_SESSIONS, 1))
    of_queries, of_items = torch.autograd.grad(-found.sum(), [queries, items])
    torch.testing.assert_close(of_queries, residual @ rounded_items, rtol=0.03, atol=0.03)
    torch.testing.assert_close(of_items, residual.T @ rounded_queries, rtol=0.03, atol=0.03)
    assert of_items[0].eq(0).all()


def test_rounded_products_stay_finite_where_a_target_is_all_but_impossible() -> None:
    queries, items, targets, _ = planted(100.0)
    found = rounded_target_log_softmax(queries, items, targets)
    assert found.isfinite().all()
    assert all(each.isfinite().all() for each in torch.autograd.grad(found.sum(), [queries, items]))

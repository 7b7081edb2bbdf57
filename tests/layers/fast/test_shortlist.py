"""Codes of items find the highest inner products, and a sample stands for the items that they do not propose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mkmsr.layers.fast.shortlist import ItemCodes, Shortlist

faiss = pytest.importorskip("faiss")


FEW = 400


def drawn(rows: int, width: int = 15) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(7))


def found(vectors: Tensor, queries: Tensor, k: int = 20) -> float:
    """Part of the k highest inner products whose items are proposed."""
    proposed = ItemCodes(vectors).propose(queries, FEW)
    best = (queries @ vectors[1:].T).topk(k).indices + 1
    return sum(torch.isin(mine, all_).float().mean().item() for mine, all_ in zip(best, proposed, strict=True)) / len(
        best
    )


def test_codes_propose_the_highest_inner_products_of_random_vectors() -> None:
    assert found(drawn(20_000), drawn(50) * 3) > 0.97


def test_an_item_that_cannot_come_makes_the_codes_of_others_no_coarser() -> None:
    vectors = drawn(20_000)
    vectors[5, 3] = -1e4
    assert found(vectors, drawn(50).abs()) > 0.97


def test_proposals_others_and_later_items_are_listed_once_behind_the_padding() -> None:
    vectors = drawn(5000)
    queries = drawn(3)
    items, proposed = Shortlist(ItemCodes(vectors[:4990]), vectors, FEW).items(queries, torch.tensor([17, 17, 4]))
    wanted = {0, 4, 17, *range(4990, 5000), *proposed.flatten().tolist()}
    assert items.tolist() == sorted(wanted)
    assert proposed.shape == (3, FEW)


def test_products_are_exact_and_the_rest_is_estimated() -> None:
    vectors, queries = drawn(30_000) / 3, drawn(4)
    listed = Shortlist(ItemCodes(vectors), vectors, FEW)
    items, _ = listed.items(queries, torch.zeros(0, dtype=torch.int64))
    torch.testing.assert_close(listed.products(queries, items), queries @ vectors[items].T)
    others = torch.ones(len(vectors), dtype=torch.bool)
    others[items] = False
    exact = (queries @ vectors[others].T).logsumexp(1)
    torch.testing.assert_close(listed.log_rest(queries, items), exact, atol=0.15, rtol=0)


def test_codes_know_the_vectors_that_they_were_made_of() -> None:
    vectors = drawn(3000)
    codes = ItemCodes(vectors)
    assert codes.are_of(torch.cat([vectors, drawn(10)]))
    assert not codes.are_of(vectors.flip(1))


def test_proposals_take_one_thread_whoever_asks() -> None:
    vectors = drawn(3000)
    codes = ItemCodes(vectors)
    faiss.omp_set_num_threads(2)
    codes.propose(vectors[:4], FEW)
    assert faiss.omp_get_max_threads() == 1
